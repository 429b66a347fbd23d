"""How loud a recording is, found in pieces: what the network is spared of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from denoiser.audio.blocks import resampling

SMALL_OFFSET = 1e-3  # of the RMS: an offset below that adds less than 1e-5 dB to it


class Level(NamedTuple):
    """What is divided out of a recording before the network sees it: ``rms`` about ``mean``, each ``[C, 1]``.

    The RMS is that of the signal at the model's rate; the mean is the recording's offset (DC), which is noise.
    """

    rms: Tensor
    mean: Tensor


class Running:
    """RMS and mean ``[C, 1]`` of all that was added so far, in double precision."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares = 0, torch.zeros(1, 1), torch.zeros(1, 1)

    def add(self, block: Tensor) -> None:
        self.count += block.shape[-1]
        # By way of a copy in double precision, reading a file for its level takes half as long again.
        self.sum = self.sum + block.sum(-1, keepdim=True, dtype=torch.float64).cpu()
        norm = torch.linalg.vector_norm(block, dim=-1, keepdim=True, dtype=torch.float64)
        self.squares = self.squares + norm.square().cpu()

    @property
    def level(self) -> Level:
        mean = self.sum / max(1, self.count)
        return Level((self.squares / max(1, self.count) - mean.square()).clamp(min=0).sqrt().float(), mean.float())


def measure(blocks: Callable[[], Iterable[Tensor]], sample_rate: int, model_rate: int) -> Level:
    """The level of a recording ``[C, N]`` at ``sample_rate`` Hz that ``blocks()`` yields from its beginning."""
    if sample_rate == model_rate:
        running = Running()
        for block in blocks():
            running.add(block)
        return running.level
    offset: Tensor | float = 0.0
    for _ in range(2):
        native, lowered = Running(), Running()
        resampler = resampling(sample_rate, model_rate)
        for block in blocks():
            native.add(block)
            for part in resampler.push(block - offset):
                lowered.add(part)
        for part in resampler.flush():
            lowered.add(part)
        mean, rms = native.level.mean, torch.hypot(*lowered.level)
        # A large offset makes a step at the ends, and the filter a ripple of it: once more without.
        if bool(((mean - offset).abs() <= SMALL_OFFSET * rms).all()):
            break
        offset = mean
    return Level(rms, mean)
