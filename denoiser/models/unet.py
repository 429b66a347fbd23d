"""U-Net: an encoder of convolutions and poolings, a symmetric decoder, skip connections."""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models import layers
from denoiser.models.causal import LIMITS, MAX_LEVELS, MAX_REACH, pad_with_silence
from denoiser.models.layers import Residual, TemporalLayer


class UNet(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, unbounded: a :class:`~denoiser.models.heads.Head` bounds it.

    After Ronneberger, Fischer and Brox, "U-Net" (2015), on spectrograms. Weights start He-normal, biases at zero.
    Arguments are explained in ``conf/model/unet10.yaml``, kinds of layers in :mod:`denoiser.models.layers`. The stem is
    sub-pixel, as in Shi et al., "Real-time single image and video super-resolution" (2016).
    """

    narrows = True

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
            raise ValueError("expected at least one of each, an odd kernel, 0 <= dropout < 1")
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
        self.steps = [(2, lower // upper) for upper, lower in pairwise(spans)]  # bins and frames that a pooling joins
        self.encoder = nn.ModuleList([stage(inputs * stem, width, first=True)])
        self.encoder.extend(stage(upper, lower) for upper, lower in levels)
        self.dropout = nn.Dropout(dropout)
        self.dropout_from = depth - dropout_levels  # level
        self.bottleneck: nn.Module = nn.Identity()
        if bottleneck != "none":
            self.bottleneck = TemporalLayer(bottleneck, channels[-1], reach // spans[-1], bidirectional)
        self.up = nn.ModuleList(
            layers.upsample(upsampling, lower, upper, time)
            for (upper, lower), (_, time) in zip(levels, self.steps, strict=True)
        )
        # Convolutions within groups need both inputs as one tensor.
        self.takes_pairs = convolution == "full"
        self.decoder = nn.ModuleList(stage(2 * upper, upper) for upper, _ in levels)
        self.gates = nn.ModuleList(layers.gate(upper, slope) for upper, _ in levels if gates)
        self.head = nn.Conv2d(width, outputs * stem, 1)
        self.apply(lambda module: layers.he_normal(module, slope))

        # Steps on either side that a result depends on: of all convolutions of a level, and of its up-sampling.
        self.seen_by_stage = convs * (kernel // 2)
        self.seen_by_upsampling = 1 if upsampling == "nearest" else 0
        # The same in frames for the whole network. Halving time and undoing it moves a result by up to one step less
        # one frame each.
        convolutions = self.seen_by_stage * (sum(spans) + sum(spans[:-1]))
        resampling = 2 * (spans[-1] - 1) + self.seen_by_upsampling * sum(spans[:-1])
        temporal = {"none": 0, "attention": reach, "gru": 2 * reach - spans[-1]}[bottleneck]
        self.stride = spans[-1] if bottleneck == "none" else reach
        self.context = math.ceil((convolutions + resampling + temporal) / self.stride) * self.stride

    def forward(self, x: Tensor, wanted: slice | None = None) -> Tensor:
        """Return the output for all frames, or for the ``wanted`` ones, for which the decoder computes little more."""
        bins, frames = x.shape[-2:]
        x = pad_with_silence(x, -bins % (self.stem * 2 ** len(self.steps)), -frames % self.stride)
        padded = x.shape[-1]
        if self.stem > 1:
            x = x.unflatten(2, (-1, self.stem)).transpose(2, 3).flatten(1, 2)  # bins of a band become channels

        # Faster in training on a CPU.
        as_pairs = self.takes_pairs and x.device.type == "cpu" and torch.is_grad_enabled()
        as_pairs = as_pairs and not torch.compiler.is_compiling()
        skips = []
        for level, stage in enumerate(self.encoder):
            if level > 0:
                x = F.max_pool2d(x, self.steps[level - 1])
            x = stage(x)
            if level >= self.dropout_from:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        x = self.bottleneck(x)

        ranges = None if wanted is None else self._needed_frames(wanted, padded)
        begin = 0  # place of the first frame of x in the whole level
        for level in reversed(range(len(self.decoder))):
            x = self.up[level](x)
            skip = skips.pop()
            if ranges is not None:
                first, last = ranges[level]
                begin *= self.steps[level][1]
                x = x[..., first - begin : last - begin]
                skip = skip[..., first:last]
                begin = first
            if self.gates:
                skip = skip * self.gates[level](torch.cat([x, skip], dim=1))
            both = (x, skip) if as_pairs else torch.cat([x, skip], dim=1)
            # Tensors that are not needed again are freed: they are half of the memory of a long block.
            del x, skip
            x = self.decoder[level](both)
            del both

        x = self.head(x)
        if self.stem > 1:
            x = x.unflatten(1, (-1, self.stem)).transpose(2, 3).flatten(2, 3)
        if wanted is None:
            return x[..., :bins, :frames]
        first, last, _ = wanted.indices(frames)
        return x[..., :bins, first - begin : last - begin]

    def _needed_frames(self, wanted: slice, frames: int) -> list[tuple[int, int]]:
        """Return the range of frames at each level of the decoder on which the ``wanted`` of all ``frames`` depend."""
        first, last, _ = wanted.indices(frames)
        ranges = []
        for _, time in self.steps:
            first = max(0, first - self.seen_by_stage)
            last = min(frames, last + self.seen_by_stage)
            ranges.append((first, last))
            # The frames of the next deeper level that are up-sampled to these.
            first = (first - self.seen_by_upsampling) // time
            last = math.ceil((last + self.seen_by_upsampling) / time)
            frames //= time
        return ranges
