"""Small networks that no training has seen, voices in noise to enhance with them, and infer.py in this process."""

from collections.abc import Callable
from pathlib import Path

import torch

from conftest import MODEL, composed, make_noise, make_voice
from denoiser import Denoiser, audio, models
from denoiser.cli.arguments import as_typed
from denoiser.cli.infer import NAMES as SETTINGS
from denoiser.cli.infer import start
from denoiser.console import one_line
from denoiser.inference.stream import Stream
from denoiser.spectral import Spectral


def build(**model) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(models.build(**(model or MODEL)), Spectral(peak=5.0)).eval()


class Answer(torch.nn.Module):
    """Network that answers each input with a function of it."""

    stride, context = 1, 0

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.forward = function


def noisy_voice(seconds: float, rate: int, seed: int = 0, channels: int = 1) -> torch.Tensor:
    """Return ``[C, N]``, each channel another voice in other noise."""
    seeds = range(seed, seed + channels)
    return torch.cat([make_voice(seconds, rate, seed) + make_noise(seconds, rate, seed) for seed in seeds])


def centred(seconds: float, rate: int, seed: int = 0, channels: int = 1) -> torch.Tensor:
    """Return a voice in noise without offset."""
    waveform = noisy_voice(seconds, rate, seed, channels)
    return waveform - waveform.mean(-1, keepdim=True)


def streamed(stream: Stream, noisy: torch.Tensor, size: int) -> torch.Tensor:
    """Return what a stream makes of ``[..., N]`` in pieces of ``size`` samples."""
    parts = [stream.process(part) for part in noisy.split(size, dim=-1)]
    return torch.cat([*parts, stream.flush()], dim=-1)


def write_voices(*names: str) -> None:
    """Write a voice in noise of 0.2 s under each of these names."""
    for name in names:
        audio.write(name, noisy_voice(0.2, 16_000), 16_000, format="FLAC" if name.endswith(".flac") else "WAV")


def files_in(folder: Path | str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def infer(*arguments: str) -> None:
    """Run infer.py with these arguments, in this process."""
    with one_line():
        start(composed("device=cpu", *as_typed(arguments, SETTINGS, inputs="input"), config="infer"))
