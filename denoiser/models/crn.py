"""Convolutional recurrent network: strided over frequency, recurrent over time, no pooling in time."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models.causal import LIMITS, MAX_LEVELS, MAX_REACH, Memory, Recurrence, TimeConv, pad_with_silence

SLOPE = 0.2  # of the LeakyReLU


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

    Args:
        stem: bins that become one band of the first level.
        widths: channels of each level; each but the first halves the bands.
        kernel: frames that a convolution sees, odd.
        hidden: units of each layer of the recurrence.
        layers: of the recurrence; 0 for none.
        causal: use no later frame, so that the network can run live, frame by frame.
        segment: frames after which a recurrence that is not causal begins anew.
        bins: F of the spectral representation, for which the bottleneck is made.
        inputs, outputs: channels that the head gives and takes.
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
        missing = 0 if self.training else -frames % self.stride
        x = self.stem(pad_with_silence(x, -bins % self.reduction, missing))
        x = x + self.first(x, memory)
        skips = []
        for level in self.encoder:
            skips.append(x)
            x = level(x, memory)
        for layer in self.bottleneck:
            x = layer(x, memory)
        for level in reversed(self.decoder):
            x = level(x, skips.pop(), memory)
        x = x + self.last(x, memory)
        return self.head(x)[..., :bins, :frames]


class _Unit(nn.Module):
    """Convolution, batch normalisation, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        self.conv = TimeConv(inputs, outputs, (3, kernel), stride, causal)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x, memory)), SLOPE, inplace=True)


class _Down(nn.Module):
    """Level of the encoder: ``[B, C, F, T]`` → ``[B, C', F / 2, T]``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.down = _Unit(inputs, outputs, kernel, 2, causal)
        self.refine = _Unit(outputs, outputs, kernel, 1, causal)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        x = self.down(x, memory)
        return x + self.refine(x, memory)


class _Up(nn.Module):
    """Level of the decoder: ``[B, C', F / 2, T]`` and the skip connection ``[B, C, F, T]`` → ``[B, C, F, T]``."""

    def __init__(self, inputs: int, outputs: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, (2, 1), stride=(2, 1))
        self.refine = _Unit(outputs, outputs, kernel, 1, causal)

    def forward(self, x: Tensor, skip: Tensor, memory: Memory | None) -> Tensor:
        x = self.up(x) + skip
        return x + self.refine(x, memory)
