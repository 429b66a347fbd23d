"""U-Net: an encoder of convolutions and poolings, a symmetric decoder, skip connections."""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models import layers
from denoiser.models.causal import LIMITS, MAX_LEVELS, MAX_REACH, missing, pad_with_silence
from denoiser.models.layers import Residual, TemporalLayer


class UNet(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, unbounded: a :class:`~denoiser.models.heads.Head` bounds it.

    After Ronneberger, Fischer and Brox, "U-Net" (2015), on spectrograms. Weights start He-normal, biases at zero.
    Arguments are explained in ``conf/model/unet10.yaml``, kinds of layers in :mod:`denoiser.models.layers`. The stem
    turns bins into channels, as in Shi et al., "Real-time single image and video super-resolution" (2016).
    """

    takes_wanted = True

    def __init__(
        self,
        depth: int = 5,
        convs: int = 2,
        stem: int = 1,
        width: int = 16,
        max_width: int = 256,
        kernel: int = 3,
        slope: float = 0.2,
        dropout: float = 0.2,
        dropout_levels: int = 2,
        norm: Literal["none", "batch"] = "none",
        upsampling: Literal["transposed", "nearest", "subpixel"] = "transposed",
        residual: bool = False,
        gates: bool = False,
        convolution: Literal["full", "separable", "grouped"] = "full",
        groups: int = 4,
        time_levels: int | None = None,
        bottleneck: Literal["none", "gru", "attention"] = "none",
        reach: int = 128,
        bidirectional: bool = True,
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        if max(depth, convs) > MAX_LEVELS or reach > MAX_REACH:
            raise ValueError(LIMITS)
        if min(depth, convs, stem, width, groups, inputs, outputs) < 1 or kernel % 2 == 0 or not 0 <= dropout < 1:
            raise ValueError("expected sizes of 1 or more, an odd kernel, 0 <= dropout < 1")
        if time_levels is None:
            time_levels = depth - 1
        if not 0 <= time_levels < depth:
            raise ValueError(f"time_levels={time_levels}: expected null or 0 to {depth - 1}, one per pooling")
        channels = [min(width << level, max(width, max_width)) for level in range(depth)]
        if convolution == "grouped" and any(count % groups for count in channels):
            raise ValueError(f"groups={groups}: expected a divisor of the channels, {channels}")
        spans = [2 ** min(level, time_levels) for level in range(depth)]  # frames per step of each level
        if bottleneck != "none" and (reach < 1 or reach % spans[-1]):
            raise ValueError(f"reach={reach}: expected a multiple of {spans[-1]}, the frames of a deepest step")

        def stage(inputs: int, outputs: int, first: bool = False) -> nn.Module:
            kinds = ["full" if first and index == 0 else convolution for index in range(convs)]
            body = layers.convolutions(inputs, outputs, kernel, kinds, groups, slope, norm == "batch")
            return Residual(body, inputs, outputs) if residual else body

        levels = list(pairwise(channels))
        self.stem = stem
        self.pools = [(2, lower // upper) for upper, lower in pairwise(spans)]  # bins and frames that a pooling joins
        self.encoder = nn.ModuleList([stage(inputs * stem, width, first=True)])
        self.encoder.extend(stage(upper, lower) for upper, lower in levels)
        self.dropout = nn.Dropout(dropout)
        self.dropout_from = depth - dropout_levels  # level
        self.bottleneck: nn.Module = nn.Identity()
        if bottleneck != "none":
            self.bottleneck = TemporalLayer(bottleneck, channels[-1], reach // spans[-1], bidirectional)
        self.up = nn.ModuleList(
            layers.upsample(upsampling, lower, upper, time)
            for (upper, lower), (_, time) in zip(levels, self.pools, strict=True)
        )
        self.decoder = nn.ModuleList(stage(2 * upper, upper) for upper, _ in levels)
        self.gates = nn.ModuleList(layers.gate(upper, slope) for upper, _ in levels if gates)
        self.head = nn.Conv2d(width, outputs * stem, 1)
        self.apply(lambda module: layers.he_normal(module, slope))

        # Steps on either side that the convolutions of a level see, and that its up-sampling sees.
        self.seen_by_stage = convs * (kernel // 2)
        self.seen_by_upsampling = 1 if upsampling == "nearest" else 0
        # Context in frames. Pooling and up-sampling each add at most a step of the deepest level minus one frame.
        convolutions = self.seen_by_stage * (sum(spans) + sum(spans[:-1]))
        resampling = 2 * (spans[-1] - 1) + self.seen_by_upsampling * sum(spans[:-1])
        temporal = {"none": 0, "attention": reach, "gru": 2 * reach - spans[-1]}[bottleneck]
        self.stride = spans[-1] if bottleneck == "none" else reach
        self.context = math.ceil((convolutions + resampling + temporal) / self.stride) * self.stride

    def forward(self, x: Tensor, wanted: slice | None = None) -> Tensor:
        """Return the output for all frames, or for the ``wanted`` ones; the decoder then skips most others."""
        bins, frames = x.shape[-2:]
        whole = self.stem * 2 ** len(self.pools)
        x = pad_with_silence(x, missing(bins, whole), missing(frames, self.stride))
        padded = x.shape[-1]
        if self.stem > 1:
            x = x.unflatten(2, (-1, self.stem)).transpose(2, 3).flatten(1, 2)  # bins of a band become channels

        skips = []
        for level, stage in enumerate(self.encoder):
            if level > 0:
                x = F.max_pool2d(x, self.pools[level - 1])
            x = stage(x)
            if level >= self.dropout_from:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        x = self.bottleneck(x)

        ranges = None if wanted is None else self._needed_frames(wanted, padded)
        begin = 0  # index, within the level, of the first frame of x
        for level in reversed(range(len(self.decoder))):
            x = self.up[level](x)
            skip = skips.pop()
            if ranges is not None:
                first, last = ranges[level]
                begin *= self.pools[level][1]
                x = x[..., first - begin : last - begin]
                skip = skip[..., first:last]
                begin = first
            if self.gates:
                skip = skip * self.gates[level](torch.cat([x, skip], dim=1))
            x = torch.cat([x, skip], dim=1)
            # Freed after its last use: such tensors are half of a long block's memory.
            del skip
            x = self.decoder[level](x)

        x = self.head(x)
        if self.stem > 1:
            x = x.unflatten(1, (-1, self.stem)).transpose(2, 3).flatten(2, 3)
        if wanted is None:
            return x[..., :bins, :frames]
        first, last, _ = wanted.indices(frames)
        return x[..., :bins, first - begin : last - begin]

    def _needed_frames(self, wanted: slice, frames: int) -> list[tuple[int, int]]:
        """Return, for each level of the decoder, the range of frames that the ``wanted`` of ``frames`` depend on."""
        first, last, _ = wanted.indices(frames)
        ranges = []
        for _, time in self.pools:
            first = max(0, first - self.seen_by_stage)
            last = min(frames, last + self.seen_by_stage)
            ranges.append((first, last))
            # Frames of the next deeper level that these come from.
            first = (first - self.seen_by_upsampling) // time
            last = math.ceil((last + self.seen_by_upsampling) / time)
            frames //= time
        return ranges
