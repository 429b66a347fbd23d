"""Level of a recording that is read in pieces: the RMS and the offset that are divided out before the network."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from denoiser.audio.blocks import resampling


class Level(NamedTuple):
    """RMS of each channel about its mean, and the mean of the recording, both ``[C, 1]``.

    The mean is an offset (DC), removed and not restored.
    """

    rms: Tensor
    mean: Tensor

    def to(self, device: torch.device) -> "Level":
        return Level(self.rms.to(device), self.mean.to(device))


class RunningLevel:
    """The level of all blocks ``[C, n]`` so far, summed in double precision."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = torch.zeros(1, 1, device="cpu")
        self.squares = torch.zeros(1, 1, device="cpu")

    def add(self, block: Tensor) -> None:
        self.count += block.shape[-1]
        # A copy of the block in double precision would make measuring a file take half as long again.
        self.sum = self.sum + block.sum(-1, keepdim=True, dtype=torch.float64).cpu()
        norm = torch.linalg.vector_norm(block, dim=-1, keepdim=True, dtype=torch.float64)
        self.squares = self.squares + norm.square().cpu()

    @property
    def level(self) -> Level:
        count = max(1, self.count)
        mean = self.sum / count
        variance = self.squares / count - mean.square()
        return Level(variance.clamp(min=0).sqrt().float(), mean.float())


class RunningOffset:
    """The offset (DC) of a signal that arrives in pieces: at each sample, the mean of it and all before it.

    Samples that equal the one before are not counted: they are digital silence, whose offset must stay as it is.
    """

    def __init__(self) -> None:
        self._counts = self._sums = torch.zeros(1, 1, dtype=torch.float64, device="cpu")
        self._first: Tensor | None = None
        self._last = torch.zeros(1, 1)

    def __call__(self, block: Tensor) -> Tensor:
        """Return the offset ``[C, n]`` at each sample of the next block ``[C, n]``, whatever its length."""
        if not block.shape[-1]:
            return block
        if self._first is None:
            self._first = self._last = block[:, :1].clone()
        moves = block != torch.cat([self._last, block[:, :-1]], dim=-1)
        counts = self._counts.to(block.device) + moves.cumsum(-1)
        sums = self._sums.to(block.device) + (block * moves).double().cumsum(-1)
        # Views would keep the whole block in memory.
        self._counts, self._sums, self._last = (each[:, -1:].clone() for each in (counts, sums, block))
        return torch.where(counts > 0, (sums / counts.clamp(min=1)).to(block.dtype), self._first)


def measure_level(blocks: Callable[[], Iterable[Tensor]], sample_rate: int, model_rate: int | None) -> Level:
    """Return the level of a recording at ``sample_rate`` Hz; ``blocks()`` yields ``[C, n]`` from its beginning.

    The RMS is that at ``model_rate``, or with None that of the recording as it is.
    """
    if model_rate is None or model_rate == sample_rate:
        running = RunningLevel()
        for block in blocks():
            running.add(block)
        return running.level
    offset: Tensor | float = 0.0
    for _ in range(2):
        native, resampled = RunningLevel(), RunningLevel()
        resampler = resampling(sample_rate, model_rate)
        for block in blocks():
            native.add(block)
            for part in resampler.push(block - offset):
                resampled.add(part)
        for part in resampler.flush():
            resampled.add(part)
        mean = native.level.mean
        rms = torch.hypot(resampled.level.rms, resampled.level.mean)
        # A large offset is a step at both ends, which the resampling filter turns into ripple: measure without it.
        # Below a thousandth of the RMS, an offset changes it by less than 1e-5 dB.
        if bool(((mean - offset).abs() <= 1e-3 * rms).all()):
            break
        offset = mean
    return Level(rms, mean)
