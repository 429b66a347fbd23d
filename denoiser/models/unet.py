"""The U-Net: an encoder of convolutions and poolings, a symmetric decoder, skip connections."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.errors import ConfigError


class UNet(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, unbounded: a :class:`~denoiser.heads.Head` bounds it.

    After Ronneberger, Fischer and Brox, "U-Net" (2015), on spectrograms. The encoder holds
    ``depth * convs`` convolutions: 10 in the seed. Weights are He-normal, biases zero.

    Args:
        depth: levels; neighbours are joined by a 2x2 max-pooling on the way down.
        convs: convolutions per level, in the encoder and in the decoder.
        width: channels of the first level, doubled at every level ...
        max_width: ... up to this many.
        kernel: side of the convolutions, odd.
        slope: of the LeakyReLU below zero.
        dropout: probability that a value is dropped at the end of a deep encoder level ...
        dropout_levels: ... which the last this many are.
        norm: ``none`` or ``batch``. Norms over time are not offered: a block would differ from the whole.
        upsampling: ``transposed`` (2x2, stride 2), ``nearest`` (then a 3x3 convolution) or ``subpixel``.
        inputs, outputs: channels that the head gives and takes.
    """

    def __init__(
        self,
        depth: int = 5,
        convs: int = 2,
        width: int = 16,
        max_width: int = 256,
        kernel: int = 3,
        slope: float = 0.2,
        dropout: float = 0.2,
        dropout_levels: int = 2,
        norm: str = "none",
        upsampling: str = "transposed",
        inputs: int = 1,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        if depth < 1 or convs < 1 or width < 1 or kernel % 2 == 0 or not 0 <= dropout < 1:
            raise ConfigError(
                f"unet: depth={depth}, convs={convs}, width={width}, kernel={kernel}, dropout={dropout}; "
                "expected at least one of each, an odd kernel, 0 <= dropout < 1"
            )
        if norm not in ("none", "batch") or upsampling not in ("transposed", "nearest", "subpixel"):
            raise ConfigError(
                f"unet: norm={norm}, upsampling={upsampling}; expected norm none or batch, "
                "upsampling transposed, nearest or subpixel"
            )
        channels = [min(width << level, max(width, max_width)) for level in range(depth)]

        def stage(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for index in range(convs):
                source = after if index else before
                layers.append(nn.Conv2d(source, after, kernel, padding=kernel // 2, bias=norm == "none"))
                if norm == "batch":
                    layers.append(nn.BatchNorm2d(after))
                layers.append(nn.LeakyReLU(slope, inplace=True))
            return nn.Sequential(*layers)

        self.encoder = nn.ModuleList(stage(i, o) for i, o in zip([inputs, *channels], channels, strict=False))
        self.dropout = nn.Dropout(dropout)
        self.dropout_from = depth - dropout_levels
        self.up = nn.ModuleList(_upsample(upsampling, channels[i + 1], channels[i]) for i in range(depth - 1))
        self.decoder = nn.ModuleList(stage(2 * channels[i], channels[i]) for i in range(depth - 1))
        self.head = nn.Conv2d(channels[0], outputs, 1)
        self.apply(lambda module: _he_normal(module, slope))

        self.stride = 2 ** (depth - 1)
        # Reach in frames: convolutions at level l move 2**l frames each; a pooling and an up-sampling one step.
        convolutions = convs * (kernel // 2) * (2 * self.stride - 1 + self.stride - 1)
        resampling = (3 if upsampling == "nearest" else 2) * (self.stride - 1)
        self.context = math.ceil((convolutions + resampling) / self.stride) * self.stride

    def forward(self, magnitude: Tensor) -> Tensor:
        bins, frames = magnitude.shape[-2:]
        # -1 is silence: what lies beyond the signal.
        x = F.pad(magnitude, (0, -frames % self.stride, 0, -bins % self.stride), value=-1.0)
        skips = []
        for level, stage in enumerate(self.encoder):
            x = stage(x if level == 0 else F.max_pool2d(x, 2))
            if level >= self.dropout_from:
                x = self.dropout(x)
            skips.append(x)
        for level in reversed(range(len(self.decoder))):
            x = self.decoder[level](torch.cat([self.up[level](x), skips[level]], dim=1))
        return self.head(x)[..., :bins, :frames]


def _upsample(kind: str, inputs: int, outputs: int) -> nn.Module:
    """``[B, inputs, F, T]`` → ``[B, outputs, 2F, 2T]``."""
    if kind == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
    if kind == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1))
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


def _he_normal(module: nn.Module, slope: float) -> None:
    """He et al., "Delving Deep into Rectifiers" (2015): variance 2 / ((1 + slope²) fan-in)."""
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return
    # Each output of a strided transposed convolution sees only 1 / stride² of its kernel.
    fan_in = module.in_channels * math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        fan_in //= math.prod(module.stride)
    nn.init.normal_(module.weight, std=math.sqrt(2 / ((1 + slope**2) * fan_in)))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
