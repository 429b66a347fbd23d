"""Layers along time: causal padding and convolutions that continue from piece to piece, and recurrences."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A checkpoint of a few bytes may describe any number of layers, or a context of an hour.
MAX_LEVELS = 16  # levels of a network, and layers of each level
MAX_REACH = 4096  # frames that a layer along time may see
LIMITS = f"expected at most {MAX_LEVELS} levels and layers of each, and {MAX_REACH} frames"

# The last frames or the state that each causal layer keeps for the next piece of the signal.
Memory = dict[nn.Module, Tensor]


def pad_with_silence(features: Tensor, bins: int, frames: int) -> Tensor:
    """Append silence to the features of a head: ``[B, C, F, T]`` → ``[B, C, F + bins, T + frames]``."""
    padding = (0, frames, 0, bins)
    # Silence is -1 in the first channel, the scaled magnitude, and 0 in the others, real and imaginary parts.
    magnitude = F.pad(features[:, :1], padding, value=-1.0)
    if features.shape[1] == 1:
        return magnitude
    return torch.cat([magnitude, F.pad(features[:, 1:], padding)], dim=1)


def missing(count: int, divisor: int) -> int:
    """Return the number of bins or frames that ``count`` lacks to a multiple of ``divisor``."""
    # torch.export does not see that count + (-count % divisor) is such a multiple.
    return (count + divisor - 1) // divisor * divisor - count


class CausalPad(nn.Module):
    """Padding by the previous ``frames`` frames: ``[..., T]`` → ``[..., frames + T]``; zeros before the signal."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        past = None if memory is None else memory.get(self)
        x = F.pad(x, (self.frames, 0)) if past is None else torch.cat([past.to(x.dtype), x], dim=-1)
        if memory is not None:
            memory[self] = x[..., x.shape[-1] - self.frames :]
        return x


class TimeConv(nn.Module):
    """Convolution over a frame and its neighbours in time: ``[B, inputs, F, T]`` → ``[B, outputs, F / stride, T]``.

    ``kernel`` are bins and frames, both odd; a ``causal`` one sees only earlier frames. No bias: a norm follows.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int, causal: bool) -> None:
        super().__init__()
        bins, frames = kernel
        self.past = CausalPad(frames - 1) if causal and frames > 1 else None
        padding = (bins // 2, 0 if causal else frames // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, (stride, 1), padding, bias=False)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return self.conv(x if self.past is None else self.past(x, memory))


class Recurrence(nn.Module):
    """GRU along time, ``[R, T, inputs]`` → ``[R, T, hidden]`` (Cho et al. 2014).

    A causal one continues from piece to piece. Otherwise it runs in both directions: in training over a crop, later
    over segments of ``segment`` frames, of which T is a multiple, each from state zero. A block of whole segments then
    gives the result of the whole signal.
    """

    def __init__(self, inputs: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        if not causal and hidden % 2:
            raise ValueError(f"hidden={hidden}: expected an even number, half of it for each direction")
        self.causal, self.segment = causal, segment
        units = hidden if causal else hidden // 2
        self.gru = nn.GRU(inputs, units, batch_first=True, bidirectional=not causal)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        if self.causal:
            y, state = self.gru(x, None if memory is None else memory.get(self))
            if memory is not None:
                memory[self] = state
            return y
        if self.training:
            return self.gru(x)[0]
        rows, frames, inputs = x.shape
        y, _ = self.gru(x.reshape(rows * (frames // self.segment), self.segment, inputs))
        return y.reshape(rows, frames, y.shape[-1])
