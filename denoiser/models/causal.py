"""What looks along time: causal layers that remember, and recurrences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# A description of a few bytes may ask for any number of layers, or for a minute of silence around each second.
MAX_LEVELS, MAX_REACH = 16, 4096  # levels, and layers of each; frames
MOST = f"expected at most {MAX_LEVELS} levels and layers of each, and {MAX_REACH} frames"

Memory = dict[nn.Module, Tensor]  # what each causal layer keeps of the frames so far, for those that follow


def with_silence(x: Tensor, bins: int, frames: int) -> Tensor:
    """``[B, C, F, T]`` of a head → ``[B, C, F + bins, T + frames]``: what lies beyond the signal is silence.

    That is -1 in the scaled magnitude, the first channel, and 0 in the real and imaginary parts, the others.
    """
    more = (0, frames, 0, bins)
    if x.shape[1] == 1:
        return F.pad(x, more, value=-1.0)
    return torch.cat([F.pad(x[:, :1], more, value=-1.0), F.pad(x[:, 1:], more)], dim=1)


class Past(nn.Module):
    """``[..., T]`` → ``[..., frames + T]``: with the frames before it, silence at the beginning of a signal."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        earlier = None if memory is None else memory.get(self)
        x = F.pad(x, (self.frames, 0)) if earlier is None else torch.cat([earlier.to(x.dtype), x], dim=-1)
        if memory is not None:
            memory[self] = x[..., x.shape[-1] - self.frames :]
        return x


class TimeConv(nn.Module):
    """A convolution ``[B, C, F, T]`` → ``[B, C', F / stride, T]``, over this frame and its neighbours in time.

    Args:
        before, after: channels.
        kernel: bins and frames, both odd.
        stride: in frequency.
        causal: only frames before, as many as both sides had.
        groups: of channels.
        bias: or none, before a normalisation.
    """

    def __init__(
        self,
        before: int,
        after: int,
        kernel: tuple[int, int],
        stride: int = 1,
        causal: bool = True,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        past = kernel[1] - 1
        self.past = Past(past) if causal and past else None
        along = 0 if causal else past // 2
        self.conv = nn.Conv2d(before, after, kernel, (stride, 1), (kernel[0] // 2, along), groups=groups, bias=bias)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        return self.conv(x if self.past is None else self.past(x, memory))


class Recurrence(nn.Module):
    """A GRU along time, ``[R, T, D]`` → ``[R, T, H]`` (Cho et al. 2014).

    Causal, it goes on from piece to piece. Else it runs both ways, over a crop in training, and later over segments of
    ``segment`` frames, which T is a multiple of: each begins anew. So a block that begins at a multiple of ``segment``
    gives what the whole does, and long recordings run as a batch of segments instead of one long loop.
    """

    def __init__(self, size: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        self.causal, self.segment = causal, segment
        if not causal and hidden % 2:
            raise ValueError(f"hidden={hidden}: half of them look ahead, so it must be even")
        self.gru = nn.GRU(size, hidden if causal else hidden // 2, batch_first=True, bidirectional=not causal)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        if self.causal:
            y, state = self.gru(x, None if memory is None else memory.get(self))
            if memory is not None:
                memory[self] = state
            return y
        if self.training:
            return self.gru(x)[0]
        rows, frames, size = x.shape
        y, _ = self.gru(x.reshape(rows * (frames // self.segment), self.segment, size))
        return y.reshape(rows, frames, y.shape[-1])
