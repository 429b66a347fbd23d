"""Convolutional recurrent networks: strided over frequency, recurrent over time, no pooling in time."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models.causal import (
    LIMITS,
    MAX_LEVELS,
    MAX_REACH,
    Memory,
    Recurrence,
    TimeConv,
    missing,
    pad_with_silence,
)

SLOPE = 0.2  # of the LeakyReLU
HEADS = 4  # of the attention of DualPath


class FrameRecurrence(nn.Module):
    """Recurrence over time on all channels and bands of a frame at once, added to its input ``[B, C, F, T]``."""

    def __init__(self, channels: int, bands: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        self.recurrence = Recurrence(channels * bands, hidden, causal, segment)
        self.out = nn.Linear(hidden, channels * bands)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        batch, channels, bands, frames = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(batch, frames, bands * channels)
        y = self.out(self.recurrence(rows, memory)).view(batch, frames, bands, channels)
        return x + y.permute(0, 3, 2, 1)


class CRN(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, unbounded: a :class:`~denoiser.models.heads.Head` bounds it.

    After Tan and Wang, "A convolutional recurrent neural network for real-time speech enhancement" (2018): convolutions
    reduce the frequencies, a GRU runs over time on what is left of a frame, and the way back has skip connections. Here
    the first convolution joins ``stem`` bins at once, levels have residual convolutions, and skips are added.

    Arguments are explained in ``conf/model/crn.yaml``; ``bins`` is the F that the bottleneck is made for.
    """

    layer: type[nn.Module] = FrameRecurrence  # of the bottleneck

    def __init__(
        self,
        stem: int = 4,
        widths: Sequence[int] = (32, 48, 64),
        kernel: int = 3,
        hidden: int = 256,
        layers: int = 1,
        causal: bool = True,
        segment: int = 256,
        bins: int = 256,
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        if max(len(widths), layers) > MAX_LEVELS or segment > MAX_REACH:
            raise ValueError(LIMITS)
        if min(stem, kernel, hidden, segment, bins, *widths) < 1 or not widths or kernel % 2 == 0 or layers < 0:
            raise ValueError("expected at least one of each (layers: 0 for none), and an odd kernel")
        self.causal = causal
        self.reduction = stem * 2 ** (len(widths) - 1)  # bins per band of the deepest level
        bands = math.ceil(bins / self.reduction)
        levels = list(pairwise(widths))

        # Each band of the first level sees as many bins beside its own.
        self.stem = nn.Conv2d(inputs, widths[0], (2 * stem + 1, 1), (stem, 1), (stem, 0))
        self.first = _Unit(widths[0], widths[0], kernel, 1, causal)
        self.encoder = nn.ModuleList(_Down(upper, lower, kernel, causal) for upper, lower in levels)
        self.bottleneck = nn.ModuleList(self.layer(widths[-1], bands, hidden, causal, segment) for _ in range(layers))
        self.decoder = nn.ModuleList(_Up(lower, upper, kernel, causal) for upper, lower in levels)
        self.last = _Unit(widths[0], widths[0], kernel, 1, causal)
        self.head = nn.ConvTranspose2d(widths[0], outputs, (3 * stem, 1), (stem, 1), (stem, 0))

        # A frame depends on the frames that the decoder sees, those on whole segments, and a segment on the frames
        # that the encoder sees beyond it.
        self.stride = 1 if causal or not layers else segment
        encoder = (kernel // 2) * (1 + 2 * len(levels))
        decoder = (kernel // 2) * (1 + len(levels))
        around = math.ceil(decoder / self.stride) * self.stride + encoder
        self.context = 0 if causal else math.ceil(around / self.stride) * self.stride

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        bins, frames = x.shape[-2:]
        # In training a crop is one segment of its own.
        more = 0 if self.training else missing(frames, self.stride)
        x = self.stem(pad_with_silence(x, missing(bins, self.reduction), more))
        x = self.first(x, memory)
        skips = []
        for level in self.encoder:
            skips.append(x)
            x = level(x, memory)
        for layer in self.bottleneck:
            x = layer(x, memory)
        for level in reversed(self.decoder):
            x = level(x, skips.pop(), memory)
        return self.head(self.last(x, memory))[..., :bins, :frames]


class DualPathLayer(nn.Module):
    """Recurrence along time, attention along frequency, two linear layers; each normalised first and added."""

    def __init__(self, channels: int, bands: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        if channels % HEADS:
            raise ValueError(f"widths end with {channels}; expected a multiple of {HEADS}, the heads of the attention")
        # Attention alone cannot tell high bands from low ones: each has a learnt vector.
        self.place = nn.Parameter(0.02 * torch.randn(bands, channels))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.recurrence = Recurrence(channels, hidden, causal, segment)
        self.out = nn.Linear(hidden, channels)
        self.attend = nn.Linear(channels, 3 * channels)
        self.joined = nn.Linear(channels, channels)
        self.wide = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        batch, channels, bands, frames = x.shape
        rows = x.permute(0, 2, 3, 1)  # [B, F', T, C]
        y = self.recurrence(self.norms[0](rows).reshape(batch * bands, frames, channels), memory)
        rows = rows + self.out(y).view(batch, bands, frames, channels)
        rows = rows.transpose(1, 2)  # [B, T, F', C]
        rows = rows + self.joined(self._attention(self.norms[1](rows) + self.place))
        rows = rows + self.narrow(F.silu(self.wide(self.norms[2](rows))))
        return rows.permute(0, 3, 2, 1)

    def _attention(self, rows: Tensor) -> Tensor:
        batch, frames, bands, channels = rows.shape
        parts = self.attend(rows).reshape(batch * frames, bands, 3, HEADS, channels // HEADS)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # [B T, HEADS, F', C / HEADS] each
        # Written out because torch's fused attention takes ten times as long backwards, for so few bands on a CPU.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        mixed = torch.softmax(scores, dim=-1) @ value
        return mixed.transpose(1, 2).reshape(batch, frames, bands, channels)


class DualPath(CRN):
    """:class:`CRN` with another bottleneck: all bands share one recurrence over time, and attend to each other.

    It is of the family of DPRNN (Luo, Chen and Yoshioka 2020), DPCRN (Le et al. 2021), GTCRN (Rong et al. 2024) and
    FastEnhancer (Ahn et al. 2025): few parameters, each used many times. ``hidden`` are units for one band.
    """

    layer = DualPathLayer


class _Unit(nn.Module):
    """Convolution, batch normalisation, LeakyReLU; without a stride, added to its input."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        self.conv = TimeConv(inputs, outputs, (3, kernel), stride, causal)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = stride == 1

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        y = F.leaky_relu(self.norm(self.conv(x, memory)), SLOPE, inplace=True)
        return x + y if self.residual else y


class _Down(nn.Module):
    """Level of the encoder: ``[B, C, F, T]`` → ``[B, C', F / 2, T]``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.down = _Unit(inputs, outputs, kernel, 2, causal)
        self.refine = _Unit(outputs, outputs, kernel, 1, causal)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        return self.refine(self.down(x, memory), memory)


class _Up(nn.Module):
    """Level of the decoder: ``[B, C', F / 2, T]`` and the skip connection ``[B, C, F, T]`` → ``[B, C, F, T]``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, (2, 1), stride=(2, 1))
        self.refine = _Unit(outputs, outputs, kernel, 1, causal)

    def forward(self, x: Tensor, skip: Tensor, memory: Memory | None) -> Tensor:
        return self.refine(self.up(x) + skip, memory)
