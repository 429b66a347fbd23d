"""Make utterances of full band from the voices of children's programs in Debian: python benchmarks/voices.py FOLDER.

The packages hold single words and sentences in some twenty languages, recorded at 44.1 kHz. Those with little noise
above and below 8 kHz are joined to utterances of some four seconds, up to five minutes of each speaker, which
data.speech= takes: the folder is the speaker. Needs apt-get, dpkg-deb and 1 GB.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads

import torch
from torch import Tensor

from denoiser import audio

PACKAGES = ("klettres-data", "ktuberling-data", "tuxpaint-stamps-default", "unknown-horizons")
RATE = 44_100
SECONDS = 4.3  # of an utterance, at least
MOST_SECONDS = 300  # of a speaker
LEAST_SECONDS = 10
LOWER_RANGE, UPPER_RANGE = 28, 18  # dB between speech and pauses, below and above 8 kHz
LEAST_UPPER = -55  # dB of sibilants above 8 kHz, relative to speech below
SPEAKER = re.compile(
    r"(klettres)/(\w+)/|(ktuberling)/sounds/([\w@]+)/|(tuxpaint)/stamps/.*_desc_([a-z]{2}(?:_[A-Z]{2})?)\.|"
    r"(unknown-horizons)/content/audio/voice/(\w+)/"
)


def speaker_of(path: Path) -> str | None:
    """Return program and language, which stand for one speaker; None for a sound that is no speech."""
    found = SPEAKER.search(path.as_posix())
    if found:
        return "-".join(part for part in found.groups() if part)
    return "tuxpaint-en" if path.stem.endswith("_desc") else None


def is_clean(sound: Tensor) -> bool:
    """Return whether ``[N]`` has sibilants, pauses without noise, and no overload."""
    spectrum = torch.stft(sound, 1024, 441, window=torch.hann_window(1024), return_complex=True).abs().square()
    hertz = torch.arange(513) * RATE / 1024
    lower, upper = (
        10 * torch.log10(spectrum[(hertz > first) & (hertz < last)].sum(0) + 1e-12)
        for first, last in ((100, 8_000), (8_500, 14_000))
    )
    speech, sibilants = lower.quantile(0.95), upper.quantile(0.97)
    is_quiet = speech - lower.quantile(0.1) > LOWER_RANGE and sibilants - upper.quantile(0.1) > UPPER_RANGE
    return bool(is_quiet and sibilants - speech > LEAST_UPPER and (sound.abs() > 0.985).float().mean() < 0.002)


def unpack(packages: Sequence[str], folder: Path) -> None:
    """Download packages of Debian, and unpack them into a folder."""
    subprocess.run(["apt-get", "download", "-q", *packages], cwd=folder, check=True)
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)


def faded(sound: Tensor) -> Tensor:
    """Return ``[N]`` without clicks at its ends."""
    ramp = torch.linspace(0, 1, min(220, len(sound) // 4))
    sound = sound.clone()
    sound[: len(ramp)] *= ramp
    sound[len(sound) - len(ramp) :] *= ramp.flip(0)
    return sound


def join(speaker: str, paths: list[Path], target: Path) -> float:
    """Write the utterances of a speaker; return their seconds."""
    words = []
    for path in paths:
        sound, rate = audio.read(path)
        word = sound.mean(0) - sound.mean()
        if rate == RATE and len(word) > 0.3 * RATE and is_clean(word):
            words.append(faded(word * (0.05 / word.square().mean().sqrt().clamp(min=1e-4))))
    if sum(map(len, words)) < LEAST_SECONDS * RATE:
        return 0.0
    random.Random(speaker).shuffle(words)
    (target / speaker).mkdir(parents=True, exist_ok=True)
    written, parts, count = 0, [], 0
    for word in words:
        parts.append(word)
        if sum(map(len, parts)) < SECONDS * RATE:
            continue
        utterance = torch.cat(parts)
        utterance *= min(1.0, 0.9 / float(utterance.abs().max()))
        audio.write(target / speaker / f"{speaker}_{count:03d}.flac", utterance[None], RATE)
        written, parts, count = written + len(utterance), [], count + 1
        if written > MOST_SECONDS * RATE:
            break
    return written / RATE


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unpack(PACKAGES, Path(folder))
        speakers = defaultdict(list)
        for path in sorted(Path(folder).rglob("*.ogg")) + sorted(Path(folder).rglob("*.wav")):
            if not path.is_symlink() and (speaker := speaker_of(path)):
                speakers[speaker].append(path)
        for speaker, paths in sorted(speakers.items()):
            print(f"{speaker}: {join(speaker, paths, target):.0f} s of {len(paths)} recordings", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
