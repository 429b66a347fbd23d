"""Corpus to mix, and helpers that mix it."""

from pathlib import Path

import torch

from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.data.mixture.datamodule import MixtureData
from denoiser.spectral import Spectral

RATE = 16_000
PLAIN = {"babble": 0, "generated": 0, "filtered": 0, "narrow": 0, "speechless": 0, "noiseless": 0, "noises": 1}
Draws = list[dict[str, torch.Tensor]]


def steady(seconds: float, rate: int, seed: int) -> torch.Tensor:
    """Return a harmonic tone without a pause, ``[1, N]``, as loud in any crop as in the whole."""
    time = torch.arange(round(seconds * rate)) / rate
    return sum(torch.sin(2 * torch.pi * k * (100 + 7 * seed) * time) for k in range(1, 9))[None] / 40


def write_corpus(root: Path, voice=make_voice, seconds: float = 2.5) -> tuple[Path, Path]:
    """Write 24 files of 12 speakers, and two cuts of each of 8 noises, one short; at three rates, nested."""
    rates = (16_000, 48_000, 22_050)
    for i in range(24):
        name = f"speech/some/{i % 3}/p{i // 2:03d}_{i:03d}.wav"
        audio.write(root / name, voice(seconds, rates[i % 3], i), rates[i % 3])
    for i in range(16):
        length = 0.4 if i % 2 else 3.0
        path = root / f"noise/kind{i % 3}/1-{10_000 + i // 2}-{'AB'[i % 2]}.wav"
        audio.write(path, make_noise(length, rates[i % 3], 100 + i), rates[i % 3])
    return root / "speech", root / "noise"


def mixed(data: MixtureData, epoch: int = 0) -> Draws:
    loader = data.train_dataloader()
    loader.batch_sampler.sampler.set_epoch(epoch)
    return [data.waveforms(batch) for batch in loader]


def joined(batches: Draws) -> dict[str, torch.Tensor]:
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def same(a: Draws, b: Draws) -> bool:
    return len(a) == len(b) and all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def opened(
    corpus: tuple[Path, Path], cache: Path, speech=None, noise: Path | str | None = "", **options
) -> MixtureData:
    """Return the data module of the corpus, or of another, set up; ``noise=None`` for none."""
    options = {"batch_size": 5, "frames": 64, "cache": str(cache), **options}
    noise = corpus[1] if noise == "" else noise
    data = MixtureData(Spectral(), str(speech or corpus[0]), None if noise is None else str(noise), **options)
    data.prepare_data()
    data.setup()
    return data
