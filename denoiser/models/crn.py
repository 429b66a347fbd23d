"""The convolutional recurrent network: strided over frequency, recurrent over time, no pooling in time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.errors import ConfigError
from denoiser.models.causal import MAX_LEVELS, MAX_REACH, MOST, Memory, Recurrence, TimeConv, with_silence

SLOPE = 0.2  # of the LeakyReLU


class CRN(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, unbounded: a :class:`~denoiser.models.heads.Head` bounds it.

    After Tan and Wang, "A convolutional recurrent neural network for real-time speech enhancement" (2018): convolutions
    that reduce the frequencies, a GRU over time on all that is left of a frame, and the way back with skip connections.
    Here the first convolution joins ``stem`` bins at once, each level has a residual convolution beside the one that
    halves the bands, and skips are added.

    Args:
        stem: bins that become one band of the first level.
        widths: channels of each level; each but the first halves the bands.
        kernel: frames that a convolution sees, odd.
        hidden: units of each layer of the recurrence.
        layers: of the recurrence; 0 for none.
        causal: no frame is used before it has come: the network can run live, one frame after another.
        segment: frames after which a recurrence that is not causal begins anew.
        bins: F, which the bottleneck is made for.
        inputs, outputs: channels that the head gives and takes.
    """

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
            raise ConfigError(f"{len(widths)} widths, layers={layers}, segment={segment}; {MOST}")
        if min(stem, kernel, hidden, segment, bins, *widths) < 1 or not widths or kernel % 2 == 0 or layers < 0:
            raise ConfigError(
                f"stem={stem}, widths={list(widths)}, kernel={kernel}, hidden={hidden}, layers={layers}, "
                f"segment={segment}, bins={bins}; expected at least 1 of each (layers: 0 for none), and an odd kernel"
            )
        self.bins, self.causal, self.reduction = bins, causal, stem * 2 ** (len(widths) - 1)
        # Each band of the first level sees as many bins again beside its own.
        self.stem = nn.Conv2d(inputs, widths[0], (2 * stem + 1, 1), (stem, 1), (stem, 0))
        self.first = _Unit(widths[0], widths[0], kernel, 1, causal)
        steps = list(itertools.pairwise(widths))
        self.encoder = nn.ModuleList(_Down(wide, narrow, kernel, causal) for wide, narrow in steps)
        bands = math.ceil(bins / self.reduction)
        self.bottleneck = nn.ModuleList(self.between(widths[-1], bands, hidden, causal, segment) for _ in range(layers))
        self.decoder = nn.ModuleList(_Up(narrow, wide, kernel, causal) for wide, narrow in steps)
        self.last = _Unit(widths[0], widths[0], kernel, 1, causal)
        self.head = nn.ConvTranspose2d(widths[0], outputs, (3 * stem, 1), (stem, 1), (stem, 0))
        self.stride = 1 if causal or not layers else segment
        # A frame follows from what the decoder sees, that from whole segments, and those from what the encoder sees.
        before, after = ((kernel // 2) * (1 + count) for count in (2 * len(steps), len(steps)))
        around = math.ceil(after / self.stride) * self.stride + before
        self.context = 0 if causal else math.ceil(around / self.stride) * self.stride

    @staticmethod
    def between(channels: int, bands: int, hidden: int, causal: bool, segment: int) -> nn.Module:
        """A layer of the bottleneck: ``[B, C, F', T]`` → the same."""
        return _Folded(channels, bands, hidden, causal, segment)

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        bins, frames = x.shape[-2:]
        more = 0 if self.training else -frames % self.stride  # to whole segments, of which a crop is one
        x = self.stem(with_silence(x, -bins % self.reduction, more))
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

    def __init__(self, before: int, after: int, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        self.conv = TimeConv(before, after, (3, kernel), stride, causal, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x, memory)), SLOPE, inplace=True)


class _Down(nn.Module):
    """``[B, C, F, T]`` → ``[B, C', F / 2, T]``."""

    def __init__(self, before: int, after: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.down = _Unit(before, after, kernel, 2, causal)
        self.refine = _Unit(after, after, kernel, 1, causal)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        x = self.down(x, memory)
        return x + self.refine(x, memory)


class _Up(nn.Module):
    """``[B, C', F / 2, T]`` and the skip ``[B, C, F, T]`` → ``[B, C, F, T]``."""

    def __init__(self, before: int, after: int, kernel: int, causal: bool) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(before, after, (2, 1), stride=(2, 1))
        self.refine = _Unit(after, after, kernel, 1, causal)

    def forward(self, x: Tensor, skip: Tensor, memory: Memory | None) -> Tensor:
        x = self.up(x) + skip
        return x + self.refine(x, memory)


class _Folded(nn.Module):
    """A recurrence over time on all channels and bands of a frame at once, beside a shortcut."""

    def __init__(self, channels: int, bands: int, hidden: int, causal: bool, segment: int) -> None:
        super().__init__()
        self.recurrence = Recurrence(channels * bands, hidden, causal, segment)
        self.out = nn.Linear(hidden, channels * bands)

    def forward(self, x: Tensor, memory: Memory | None) -> Tensor:
        batch, channels, bands, frames = x.shape
        rows = x.permute(0, 3, 2, 1).reshape(batch, frames, bands * channels)
        y = self.out(self.recurrence(rows, memory)).view(batch, frames, bands, channels)
        return x + y.permute(0, 3, 2, 1)
