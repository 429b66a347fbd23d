"""The U-Net: an encoder of convolutions and poolings, a symmetric decoder, skip connections."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from denoiser.errors import ConfigError
from denoiser.models.causal import MAX_LEVELS, MAX_REACH, MOST, with_silence
from denoiser.models.layers import (
    Dropout,
    Gate,
    OverTime,
    PairConv,
    Residual,
    he_normal,
    in_training_on_cpu,
    pooled,
    upsample,
)  # fmt: skip

CHOICES = {
    "norm": ("none", "batch"),
    "upsampling": ("transposed", "nearest", "subpixel"),
    "convolution": ("full", "separable", "grouped"),
    "bottleneck": ("none", "gru", "attention"),
}


class UNet(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, unbounded: a :class:`~denoiser.models.heads.Head` bounds it.

    After Ronneberger, Fischer and Brox, "U-Net" (2015), on spectrograms. The encoder holds
    ``depth * convs`` convolutions: 10 in the seed. Weights are He-normal, biases zero. Called with ``wanted``, a slice
    of the frames, it returns these alone, and its decoder computes little more.

    Args:
        depth: levels; neighbours are joined by a 2x2 max-pooling on the way down.
        convs: convolutions per level, in the encoder and in the decoder.
        stem: neighbouring bins that become the channels of one band before the first level, and bins again after the
            last: sub-pixel, as Shi et al., "Real-time single image and video super-resolution" (2016).
        width: channels of the first level, doubled at every level ...
        max_width: ... up to this many.
        kernel: side of the convolutions, odd.
        slope: of the LeakyReLU below zero.
        dropout: probability that a value is dropped at the end of a deep encoder level ...
        dropout_levels: ... which the last this many are.
        norm: ``none`` or ``batch``. Norms over time are not offered: a block would differ from the whole.
        upsampling: ``transposed`` (2x2, stride 2), ``nearest`` (then a 3x3 convolution) or ``subpixel``.
        residual: whether each level's result is added to what enters it, in the encoder and in the decoder.
        gates: whether the decoder weights the skip connections (attention gates).
        convolution: ``full``, or in two steps, within groups of channels and then across them by 1x1: ``separable``
            (groups of one: Howard et al., "MobileNets", 2017) or ``grouped``. The very first one stays full, as there.
        groups: of ``grouped``.
        time_levels: how many poolings, from the first on, halve time as well as frequency; None for all.
        bottleneck: ``none``, ``gru`` or ``attention`` over time, on every row of the deepest level.
        reach: frames of the spectrogram that the bottleneck sees on either side, a multiple of what one of its own
            spans; 125 are a second.
        bidirectional: whether the bottleneck's GRU sees what comes later.
        inputs, outputs: channels that the head gives and takes.
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
        norm: str = "none",
        upsampling: str = "transposed",
        residual: bool = False,
        gates: bool = False,
        convolution: str = "full",
        groups: int = 4,
        time_levels: int | None = None,
        bottleneck: str = "none",
        reach: int = 128,
        bidirectional: bool = True,
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.stem = stem
        counts = {
            "depth": depth,
            "convs": convs,
            "stem": stem,
            "width": width,
            "groups": groups,
            "inputs": inputs,
            "outputs": outputs,
        }
        if max(depth, convs) > MAX_LEVELS or reach > MAX_REACH:
            raise ConfigError(f"unet: depth={depth}, convs={convs}, reach={reach}; {MOST}")
        if min(counts.values()) < 1 or kernel % 2 == 0 or not 0 <= dropout < 1:
            given = ", ".join(f"{name}={value}" for name, value in counts.items())
            raise ConfigError(
                f"unet: {given}, kernel={kernel}, dropout={dropout}; "
                "expected at least one of each, an odd kernel, 0 <= dropout < 1"
            )
        chosen = {"norm": norm, "upsampling": upsampling, "convolution": convolution, "bottleneck": bottleneck}
        for name, value in chosen.items():
            if value not in CHOICES[name]:
                raise ConfigError(f"unet: {name}={value}; expected {', '.join(CHOICES[name])}")
        channels = [min(width << level, max(width, max_width)) for level in range(depth)]
        if convolution == "grouped" and (uneven := [c for c in channels if c % groups]):
            raise ConfigError(f"unet: groups={groups} do not divide {uneven[0]} channels; expected a divisor")
        halvings = depth - 1 if time_levels is None else time_levels
        if not 0 <= halvings <= depth - 1:
            raise ConfigError(f"unet: time_levels={time_levels}; expected null or 0 to {depth - 1}, one per pooling")
        spans = [2 ** min(level, halvings) for level in range(depth)]  # frames, of a step at each level
        if bottleneck != "none" and (reach < 1 or reach % spans[-1]):
            raise ConfigError(f"unet: reach={reach}; expected a multiple of {spans[-1]}, the frames of a deepest step")

        def stage(source: int, target: int, first: bool = False) -> nn.Module:
            layers: list[nn.Module] = []

            def convolve(source: int, target: int, kernel: int, groups: int) -> None:
                layers.append(PairConv(source, target, kernel, padding=kernel // 2, groups=groups, bias=norm == "none"))
                if norm == "batch":
                    layers.append(nn.BatchNorm2d(target))
                layers.append(nn.LeakyReLU(slope, inplace=True))

            entered = source
            for index in range(convs):
                if convolution == "full" or (first and index == 0):
                    convolve(entered, target, kernel, 1)
                else:
                    convolve(entered, entered, kernel, groups if convolution == "grouped" else entered)
                    convolve(entered, target, 1, 1)
                entered = target
            body = nn.Sequential(*layers)
            return Residual(body, source, target) if residual else body

        pairs = list(pairwise(channels))
        self.encoder = nn.ModuleList([stage(inputs * stem, width, first=True), *(stage(i, o) for i, o in pairs)])
        self.dropout = Dropout(dropout)
        self.dropout_from = depth - dropout_levels
        self.bottleneck = (
            nn.Identity()
            if bottleneck == "none"
            else OverTime(bottleneck, channels[-1], reach // spans[-1], bidirectional)
        )
        self.steps = [(2, after // before) for before, after in pairwise(spans)]  # of poolings, over [F, T]
        self.up = nn.ModuleList(
            upsample(upsampling, i, o, time) for (o, i), (_, time) in zip(pairs, self.steps, strict=True)
        )
        self.pairs = convolution == "full"  # within groups of channels it takes them together
        self.decoder = nn.ModuleList(stage(2 * o, o) for o, _ in pairs)
        self.gates = nn.ModuleList(Gate(o, slope) for o, _ in pairs if gates)
        self.head = nn.Conv2d(width, outputs * stem, 1)
        self.apply(lambda module: he_normal(module, slope))

        # Reach in frames: a convolution at a level moves what a step there spans, a halving of time and its undoing
        # one step each; the convolution after nearest neighbours, one as well.
        convolutions = convs * (kernel // 2) * (sum(spans) + sum(spans[:-1]))
        resampling = 2 * (spans[-1] - 1) + (sum(spans[:-1]) if upsampling == "nearest" else 0)
        over_time = {"none": 0, "attention": reach, "gru": 2 * reach - spans[-1]}[bottleneck]
        self.around = convs * (kernel // 2)  # steps on either side that one of a level's results follows from ...
        self.doubled = 1 if upsampling == "nearest" else 0  # ... and that one of up-sampling's does
        self.stride = spans[-1] if bottleneck == "none" else reach
        self.context = math.ceil((convolutions + resampling + over_time) / self.stride) * self.stride

    def forward(self, x: Tensor, wanted: slice | None = None) -> Tensor:
        bins, frames = x.shape[-2:]
        x = with_silence(x, -bins % (self.stem * 2 ** len(self.steps)), -frames % self.stride)
        if self.stem > 1:
            x = x.unflatten(2, (-1, self.stem)).transpose(2, 3).flatten(1, 2)
        skips = []
        for level, stage in enumerate(self.encoder):
            x = stage(x if level == 0 else pooled(x, self.steps[level - 1]))
            if level >= self.dropout_from:
                x = self.dropout(x)
            skips.append(x)
        x = self.bottleneck(x)
        del skips[-1]  # what nothing needs any more is let go: of a long block it is the half
        needed = None if wanted is None else self.needed(wanted, frames + -frames % self.stride)
        begin = 0  # what is left of x in time begins there
        for level in reversed(range(len(self.decoder))):
            x, skip = self.up[level](x), skips.pop()
            if needed is not None:
                first, last = needed[level]
                begin *= self.steps[level][1]
                x, skip, begin = x[..., first - begin : last - begin], skip[..., first:last], first
            if self.gates:
                skip = skip * self.gates[level](torch.cat([x, skip], dim=1))
            joined = (x, skip) if self.pairs and in_training_on_cpu(x) else torch.cat([x, skip], dim=1)
            del x, skip
            x = self.decoder[level](joined)
            del joined
        x = self.head(x)
        if self.stem > 1:
            x = x.unflatten(1, (-1, self.stem)).transpose(2, 3).flatten(2, 3)
        if wanted is None:
            return x[..., :bins, :frames]
        first, last, _ = wanted.indices(frames)
        return x[..., :bins, first - begin : last - begin]

    def needed(self, wanted: slice, frames: int) -> list[tuple[int, int]]:
        """Of each level of the decoder, the steps in time that the ``wanted`` frames follow from: from, to.

        ``frames``, a multiple of the stride, are all there are. Of a block with its context the rest is a tenth of the
        work.
        """
        needed, (first, last, _) = [], wanted.indices(frames)
        for _, time in self.steps:
            first, last = max(0, first - self.around), min(frames, last + self.around)
            needed.append((first, last))
            first, last, frames = (first - self.doubled) // time, -(-(last + self.doubled) // time), frames // time
        return needed
