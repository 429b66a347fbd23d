"""Layers of the U-Net: convolutions, shortcuts, gates, up-sampling, layers over time."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 32  # channels of an attention head
MASKED = -1e4  # added to attention scores that must not count; finite in half precision


def convolutions(
    inputs: int, outputs: int, kernel: int, kinds: Sequence[str], groups: int, slope: float, normalised: bool
) -> nn.Sequential:
    """Return convolutions ``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, one after the other, of these ``kinds``.

    ``full``; or two steps, within groups of channels and then across them by 1x1: ``separable`` (groups of one channel:
    Howard et al., "MobileNets", 2017) or ``grouped``, into ``groups``. Each has an activation, and a norm if
    ``normalised``.
    """
    parts: list[nn.Module] = []

    def add(inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        parts.append(nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=not normalised))
        if normalised:
            parts.append(nn.BatchNorm2d(outputs))
        parts.append(nn.LeakyReLU(slope, inplace=True))

    for kind in kinds:
        if kind == "full":
            add(inputs, outputs, kernel)
        else:
            add(inputs, inputs, kernel, groups if kind == "grouped" else inputs)
            add(inputs, outputs, 1)
        inputs = outputs
    return nn.Sequential(*parts)


class Residual(nn.Module):
    """``body(x)`` plus ``x`` (He et al. 2016), which passes a 1x1 convolution where channels differ; variance stays."""

    def __init__(self, body: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.body(x) + self.shortcut(x)) * math.sqrt(0.5)


def gate(channels: int, slope: float) -> nn.Module:
    """Return a map of upsampled and skip ``[B, 2 C, F, T]`` to weights: Oktay et al., "Attention U-Net" (2018)."""
    middle = max(1, channels // 2)
    activation = nn.LeakyReLU(slope, inplace=True)
    return nn.Sequential(nn.Conv2d(2 * channels, middle, 1), activation, nn.Conv2d(middle, 1, 1), nn.Sigmoid())


def upsample(kind: str, inputs: int, outputs: int, time: int) -> nn.Module:
    """Return a layer ``[B, inputs, F, T]`` → ``[B, outputs, 2 F, time T]``; ``time`` is 1 or 2.

    ``kind`` is ``transposed`` (2x2, stride 2), ``nearest`` (then a 3x3 convolution) or ``subpixel``.
    """
    if kind == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=(2.0, float(time))), nn.Conv2d(inputs, outputs, 3, padding=1))
    if kind == "subpixel" and time == 2:
        return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))
    # Torch has no sub-pixel shuffle over one axis, but a transposed convolution as wide as its stride is the same map:
    # Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016).
    return nn.ConvTranspose2d(inputs, outputs, (2, time), stride=(2, time))


class TemporalLayer(nn.Module):
    """Residual layer over time, with the same weights for every row of frequency: ``[B, C, F, T]`` → the same shape.

    T is cut into whole chunks of ``reach`` frames, each seen together with its neighbours: ``gru`` (Cho et al., 2014)
    begins from state zero in every three chunks, and sees up to ``2 * reach - 1`` frames on either side, in a block as
    in the whole signal; ``attention`` (Vaswani et al., 2017) sees exactly ``reach``.
    """

    def __init__(self, kind: str, channels: int, reach: int, bidirectional: bool) -> None:
        super().__init__()
        self.reach = reach
        self.norm = nn.LayerNorm(channels)
        self.mix = _ChunkGRU(channels, bidirectional) if kind == "gru" else _ChunkAttention(channels, reach)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bins, frames = x.shape
        rows = self.norm(x.permute(0, 2, 3, 1))
        chunks = rows.reshape(batch * bins, frames // self.reach, self.reach, channels)
        mixed = self.out(self.mix(chunks)).reshape(batch, bins, frames, channels)
        return x + mixed.permute(0, 3, 1, 2)


class _ChunkGRU(nn.Module):
    def __init__(self, channels: int, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        units = math.ceil(channels / 2) if bidirectional else channels
        self.gru = nn.GRU(channels, units, batch_first=True, bidirectional=bidirectional)

    def forward(self, chunks: Tensor) -> Tensor:
        rows, n, reach, channels = chunks.shape
        seen = _with_neighbours(chunks)
        if not self.bidirectional:
            seen = seen[:, :, : 2 * reach]
        out, _ = self.gru(seen.reshape(rows * n, -1, channels))
        return out[:, reach : 2 * reach, :channels].reshape(chunks.shape)


class _ChunkAttention(nn.Module):
    """Attention of each chunk to itself and its neighbours, with a bias for each distance (Raffel et al. 2020)."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // HEAD_WIDTH))
        self.qkv = nn.Linear(channels, 3 * channels)
        # For distances from ``reach`` frames before the query to ``reach`` frames after it.
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))

    def forward(self, chunks: Tensor) -> Tensor:
        query, key, value = self.qkv(chunks).chunk(3, dim=-1)
        parts = query, _with_neighbours(key), _with_neighbours(value)
        # [R, n, time, C] → [R, n heads, time, C / heads]
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, self._mask(chunks).to(query.dtype))
        return mixed.unflatten(1, (-1, self.heads)).transpose(2, 3).flatten(-2)

    def _mask(self, chunks: Tensor) -> Tensor:
        """Return what is added to the scores, ``[n heads, reach, 3 reach]``: learnt biases, or :data:`MASKED`."""
        reach = chunks.shape[2]
        # From 1 - 2 reach to 2 reach - 1: the distance of each frame seen from each query.
        frames = torch.arange(3 * reach, device=chunks.device)
        distances = frames - frames[reach : 2 * reach, None]
        bias = F.pad(self.bias, (reach - 1, reach - 1), value=MASKED)[:, distances + 2 * reach - 1]
        # The first chunk has none before it, and the last none after it.
        outside = _with_neighbours(torch.zeros_like(chunks[:1, :, :, :1]), MASKED)[0].transpose(1, 2)  # [n, 1, 3 reach]
        return (bias + outside[:, None]).flatten(0, 1)


def _with_neighbours(chunks: Tensor, outside: float = 0.0) -> Tensor:
    """Join each chunk with the one before and after it: ``[R, n, reach, C]`` → ``[R, n, 3 reach, C]``."""
    padded = F.pad(chunks, (0, 0, 0, 0, 1, 1), value=outside)
    return torch.cat([padded[:, :-2], chunks, padded[:, 2:]], dim=2)


def he_normal(module: nn.Module, slope: float) -> None:
    """Draw a convolution's weights with variance ``2 / ((1 + slope²) fan-in)`` (He et al. 2015); its bias is zero."""
    if isinstance(module, Residual) and isinstance(module.shortcut, nn.Conv2d):
        # No activation follows the shortcut that would halve the variance.
        with torch.no_grad():
            module.shortcut.weight *= math.sqrt((1 + slope**2) / 2)
    # On the device "meta" there is nothing to draw, and torch would import for seconds to do it.
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d) or module.weight.is_meta:
        return
    fan_in = module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        # An output of a strided transposed convolution sees only a part of the kernel.
        fan_in //= math.prod(module.stride)
    nn.init.normal_(module.weight, std=math.sqrt(2 / ((1 + slope**2) * fan_in)))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
