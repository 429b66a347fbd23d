"""What a U-Net is put together from, beside convolutions: shortcuts, gates, up-sampling, layers over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 32  # channels of an attention head
MASKED = -1e4  # added to a score that is not to count; finite, for half precision


def in_training_on_cpu(x: Tensor) -> bool:
    """Whether a gradient may be asked for on a CPU, where some layers are computed otherwise than torch's own."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class Residual(nn.Module):
    """``body(x)`` plus ``x``, through a 1x1 convolution where the channels differ.

    After He et al., "Deep Residual Learning for Image Recognition" (2016); the root of 1/2 keeps the variance.
    """

    def __init__(self, body: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if inputs == outputs else PairConv(inputs, outputs, 1)

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return (self.body(x) + self.shortcut(x)) * math.sqrt(0.5)


class PairConv(nn.Conv2d):
    """A convolution that takes two tensors, too, ``[B, C, F, T]`` each, in the place of the two joined.

    It is then the sum of a convolution of each: nothing is copied, and of few channels the gradient takes 2/3 the time.
    """

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        if isinstance(x, Tensor):
            return super().forward(x)
        first, second = self.weight.split([part.shape[1] for part in x], dim=1)
        return self._conv_forward(x[0], first, self.bias).add_(self._conv_forward(x[1], second, None))


class Doubling(nn.ConvTranspose2d):
    """``[B, inputs, F, T]`` → ``[B, outputs, 2F, time T]``, by a kernel as wide as its stride; ``time`` is 1 or 2.

    In training on a CPU as one matrix product, whose gradient takes half the time of a transposed convolution's.
    """

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__(inputs, outputs, (2, time), stride=(2, time))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not in_training_on_cpu(x):
            return super().forward(x, output_size)
        inputs, outputs, *steps = self.weight.shape
        assert self.bias is not None
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, inputs)
        rows = F.linear(x.permute(0, 2, 3, 1), weight, self.bias.repeat(steps[0] * steps[1]))
        rows = rows.unflatten(-1, (*steps, outputs)).transpose(2, 3)  # [B, F, 2, T, time, outputs]
        return rows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class Dropout(nn.Dropout):
    """As torch's, but that a CPU draws 16 bits for a value: in a tenth of the time, a thirtieth of unet10's step."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or x.device.type != "cpu":
            return super().forward(x)
        batch, channels, bins, frames = x.shape
        words = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(1 << 63), None)
        bits = words.view(torch.int16)[: x.numel()].view(batch, bins, frames, channels).permute(0, 3, 1, 2)
        kept = bits >= round(self.p * (1 << 16)) - (1 << 15)
        return x * (kept.to(x.dtype) * (1 / (1 - self.p)))


class Gate(nn.Sequential):
    """Up-sampled and skip ``[B, 2C, F, T]`` → what share of the skip passes, ``[B, 1, F, T]`` in (0, 1).

    The additive attention of Oktay et al., "Attention U-Net" (2018). Its gating signal is the up-sampled one, so that
    nothing is interpolated; a 1x1 convolution of both is the sum of theirs.
    """

    def __init__(self, channels: int, slope: float) -> None:
        middle = max(1, channels // 2)
        super().__init__(
            nn.Conv2d(2 * channels, middle, 1),
            nn.LeakyReLU(slope, inplace=True),
            nn.Conv2d(middle, 1, 1),
            nn.Sigmoid(),
        )


def pooled(x: Tensor, step: tuple[int, int]) -> Tensor:
    """``[B, C, F, T]``, of whole steps → the largest of each ``step``, 2 bins and 1 or 2 frames.

    Without a gradient as maxima of neighbours, in half the time: torch's pooling also finds where they were.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.max_pool2d(x, step)
    x = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    return x if step[1] == 1 else torch.maximum(x[..., 0::2], x[..., 1::2])


def upsample(kind: str, inputs: int, outputs: int, time: int) -> nn.Module:
    """``[B, inputs, F, T]`` → ``[B, outputs, 2F, time T]``; ``time`` is 1 or 2."""
    if kind == "nearest":
        return nn.Sequential(nn.Upsample(scale_factor=(2.0, float(time))), nn.Conv2d(inputs, outputs, 3, padding=1))
    if kind == "subpixel" and time == 2:
        return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))
    # Over one axis torch has no sub-pixel shuffle, but a transposed convolution as wide as its stride is the same map:
    # Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016).
    return Doubling(inputs, outputs, time)


class OverTime(nn.Module):
    """``[B, C, F, T]`` → the same shape: a residual layer over time, the same for every row of frequency.

    Time is cut into chunks of ``reach`` frames, T being a multiple, and each is seen with the chunk before it and the
    one after it. So a frame sees at least ``reach`` frames on either side and never more than ``2 * reach - 1``: a
    block with these around it, begun at a chunk, gives what the whole gives. After Vaswani et al., "Attention is all
    you need" (2017), with the norm first.

    Args:
        kind: ``gru`` (Cho et al., 2014), from state zero in every triple of chunks, or ``attention``, to exactly
            ``reach`` frames on either side.
        bidirectional: whether the GRU runs backwards as well; else no frame sees a later one.
    """

    def __init__(self, kind: str, channels: int, reach: int, bidirectional: bool) -> None:
        super().__init__()
        self.reach = reach
        self.norm = nn.LayerNorm(channels)
        self.mix = _Gru(channels, reach, bidirectional) if kind == "gru" else _Attention(channels, reach)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, bins, frames = x.shape
        rows = x.permute(0, 2, 3, 1)  # a view, where channels lie innermost
        chunks = self.norm(rows).reshape(batch * bins, -1, self.reach, channels)
        mixed = self.out(self.mix(chunks)).reshape(batch, bins, frames, channels)
        return x + mixed.permute(0, 3, 1, 2)


class _Gru(nn.Module):
    def __init__(self, channels: int, reach: int, bidirectional: bool) -> None:
        super().__init__()
        self.reach = reach
        self.directions = 2 if bidirectional else 1
        self.gru = nn.GRU(
            channels, math.ceil(channels / self.directions), batch_first=True, bidirectional=bidirectional
        )

    def forward(self, chunks: Tensor) -> Tensor:
        """``[rows, n, reach, C]`` → the same shape."""
        rows, n, reach, channels = chunks.shape
        around = _around(chunks)[:, :, : (1 + self.directions) * reach]
        out, _ = self.gru(around.reshape(rows * n, -1, channels))
        return out[:, reach : 2 * reach, :channels].reshape(chunks.shape)


class _Attention(nn.Module):
    """Heads with a learnt bias for each distance, as in Raffel et al., "T5" (2020)."""

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // HEAD_WIDTH))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.bias = nn.Parameter(torch.zeros(self.heads, 2 * reach + 1))  # from reach before the query to reach after

    def forward(self, chunks: Tensor) -> Tensor:
        """``[rows, n, reach, C]`` → the same shape."""
        parts = self.qkv(chunks).chunk(3, dim=-1)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(2, 3).flatten(1, 2)  # [rows, n heads, time, C / heads]
            for part in (parts[0], _around(parts[1]), _around(parts[2]))
        )
        beyond = _around(torch.zeros_like(chunks[:1, :, :, :1]), MASKED)[0].transpose(1, 2)  # [n, 1, 3 reach]
        reach = chunks.shape[2]
        # The same 3 reach + 1 values again and again, read as rows of 3 reach, move on by one from query to query.
        band = F.pad(self.bias, (0, reach), value=MASKED)[:, None].expand(-1, reach, -1).flatten(1)
        band = band[:, : reach * 3 * reach].reshape(-1, reach, 3 * reach)  # [heads, reach, 3 reach]
        mask = band + beyond[:, None]  # [n, heads, reach, 3 reach]
        mixed = F.scaled_dot_product_attention(query, key, value, mask.flatten(0, 1).to(query.dtype))
        return mixed.unflatten(1, (-1, self.heads)).transpose(2, 3).flatten(-2)


def _around(chunks: Tensor, beyond: float = 0.0) -> Tensor:
    """``[rows, n, reach, C]`` → each chunk between its neighbours, ``[rows, n, 3 reach, C]``."""
    padded = F.pad(chunks, (0, 0, 0, 0, 1, 1), value=beyond)
    return torch.cat([padded[:, :-2], chunks, padded[:, 2:]], dim=2)


def he_normal(module: nn.Module, slope: float) -> None:
    """He et al., "Delving Deep into Rectifiers" (2015): variance 2 / ((1 + slope²) fan-in), biases zero."""
    if isinstance(module, Residual) and isinstance(module.shortcut, nn.Conv2d):
        with torch.no_grad():  # no activation follows it that would halve the variance
            module.shortcut.weight *= math.sqrt((1 + slope**2) / 2)
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d) or module.weight.is_meta:
        return  # without memory there is nothing to draw, and torch would import for seconds to do it
    fan_in = module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.ConvTranspose2d):
        # Each output of a strided transposed convolution sees only a part of its kernel.
        fan_in //= math.prod(module.stride)
    nn.init.normal_(module.weight, std=math.sqrt(2 / ((1 + slope**2) * fan_in)))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
