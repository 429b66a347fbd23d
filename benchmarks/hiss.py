"""Turn down the steady noise above 8 kHz in recordings of speech: python benchmarks/hiss.py FOLDER TARGET.

A denoiser that is trained on speech with hiss learns to keep it. Recordings at less than 32 kHz are not changed; all
are written as WAV of 16 bits under the same names, and none over another.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before another package that is called denoiser

from denoiser import audio

WINDOW, HOP = 1024, 256  # samples
LEAST_RATE = 32_000  # Hz
BEGIN, WIDTH = 8_000, 1_500  # Hz, of the bands that have a gain each
UNCHANGED = 7_500  # Hz, up to which nothing is changed
STEADY = 0.15  # quantile over time of a band's power, taken for that of its noise
SUBTRACTED = 4.0  # times that power
LOWEST = 0.06  # gain


def without_hiss(speech: Tensor, rate: int) -> Tensor:
    """Return ``[N]`` samples with their steady noise above 8 kHz turned down, by 24 dB at most."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(speech, WINDOW, HOP, window=window, return_complex=True, pad_mode="constant")
    hertz = torch.arange(len(spectrum)) * rate / WINDOW
    powers = spectrum.abs().square()
    edges = torch.arange(BEGIN, rate / 2 + 1, WIDTH)
    bands = [powers[(hertz >= low) & (hertz < low + WIDTH)].mean(0) for low in edges[:-1]]
    gains = torch.stack([torch.ones_like(bands[0]), *map(_gain, bands)])
    places = torch.cat([torch.tensor([UNCHANGED]), edges[:-1] + WIDTH / 2])
    return torch.istft(spectrum * _between(gains, places, hertz), WINDOW, HOP, window=window, length=len(speech))


def _gain(power: Tensor) -> Tensor:
    """Return the gains ``[T]`` of one band from its power ``[T]``: 1 where it stands out, and around that."""
    smooth = F.avg_pool1d(power[None], 5, 1, 2, count_include_pad=False)
    sounding = smooth[smooth > 1e-9 * smooth.max()]  # not digital silence
    noise = torch.quantile(sounding, STEADY) if len(sounding) else torch.tensor(0.0)
    gain = (1 - SUBTRACTED * noise / smooth.clamp(min=1e-20)).clamp(min=0).sqrt().clamp(min=LOWEST)
    # An onset is louder than the frames before it that its sound reaches into.
    gain = F.max_pool1d(gain, 5, 1, 2)
    return F.avg_pool1d(gain, 3, 1, 1, count_include_pad=False)[0]


def _between(gains: Tensor, places: Tensor, hertz: Tensor) -> Tensor:
    """Return the gains ``[F, T]`` at frequencies ``[F]``, linear between those ``[B, T]`` at ``places`` ``[B]``."""
    after = torch.searchsorted(places, hertz).clamp(1, len(places) - 1)
    low, high = places[after - 1], places[after]
    share = ((hertz - low) / (high - low)).clamp(0, 1)
    return torch.lerp(gains[after - 1], gains[after], share[:, None])


def main(folder: Path, target: Path) -> None:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in audio.formats.FORMATS]
    if not files:
        sys.exit(f"{folder}: holds no recordings")
    for path in tqdm(files):
        samples, rate = audio.read(path)
        if rate >= LEAST_RATE:
            samples = torch.stack([without_hiss(channel, rate) for channel in samples])
        name = (target / path.relative_to(folder)).with_suffix(".wav")
        if name.exists():
            sys.exit(f"{name}: exists already, and would be lost; give an empty TARGET")
        name.parent.mkdir(parents=True, exist_ok=True)
        audio.write(name, samples, rate)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
