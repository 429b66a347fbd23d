"""Layers of the U-Net other than plain convolutions: shortcuts, gates, up-sampling, layers over time."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAD_WIDTH = 32  # channels of an attention head
# Added to attention scores that must not count; finite in half precision.
MASKED = -1e4


def in_training_on_cpu(x: Tensor) -> bool:
    """Return True where a gradient may be asked for on a CPU, for which some layers have a faster form."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class Residual(nn.Module):
    """``body(x)`` plus ``x``, which passes a 1x1 convolution where the channels differ.

    After He et al., "Deep Residual Learning for Image Recognition" (2016). The factor of the square root of 1/2 keeps
    the variance.
    """

    def __init__(self, body: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if inputs == outputs else PairConv(inputs, outputs, 1)

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        return (self.body(x) + self.shortcut(x)) * math.sqrt(0.5)


class PairConv(nn.Conv2d):
    """Convolution of one tensor ``[B, C, F, T]``, or of two as if their channels were concatenated.

    For two tensors, without groups, it adds a convolution of each. Nothing is copied, and the gradient takes 2/3 of the
    time.
    """

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        if isinstance(x, Tensor):
            return super().forward(x)
        first, second = self.weight.split([part.shape[1] for part in x], dim=1)
        assert not isinstance(self.padding, str)
        result = F.conv2d(x[0], first, self.bias, self.stride, self.padding)
        return result.add_(F.conv2d(x[1], second, None, self.stride, self.padding))


class Upsample2x(nn.ConvTranspose2d):
    """Transposed convolution as wide as its stride: ``[B, inputs, F, T]`` → ``[B, outputs, 2 F, time T]``.

    ``time`` is 1 or 2. In training on a CPU it is computed as one matrix product, with a gradient in half the time.
    """

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__(inputs, outputs, (2, time), stride=(2, time))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if not in_training_on_cpu(x):
            return super().forward(x, output_size)
        assert self.bias is not None
        inputs, outputs, height, width = self.weight.shape
        weight = self.weight.permute(2, 3, 1, 0).reshape(-1, inputs)
        rows = F.linear(x.permute(0, 2, 3, 1), weight, self.bias.repeat(height * width))
        rows = rows.unflatten(-1, (height, width, outputs)).transpose(2, 3)  # [B, F, height, T, width, outputs]
        return rows.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def gate(channels: int, slope: float) -> nn.Module:
    """Return a map of up-sampled signal and skip connection ``[B, 2 C, F, T]`` to weights of the skip in (0, 1).

    Additive attention of Oktay et al., "Attention U-Net" (2018), gated by the up-sampled signal.
    """
    middle = max(1, channels // 2)
    activation = nn.LeakyReLU(slope, inplace=True)
    return nn.Sequential(nn.Conv2d(2 * channels, middle, 1), activation, nn.Conv2d(middle, 1, 1), nn.Sigmoid())


def max_pool(x: Tensor, step: tuple[int, int]) -> Tensor:
    """Return the maximum of every ``step``, 2 bins and 1 or 2 frames, of ``[B, C, F, T]``.

    Without a gradient it compares neighbours, in half the time of torch's pooling, which also finds their places.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.max_pool2d(x, step)
    x = torch.maximum(x[..., 0::2, :], x[..., 1::2, :])
    return x if step[1] == 1 else torch.maximum(x[..., 0::2], x[..., 1::2])


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
    return Upsample2x(inputs, outputs, time)


class TemporalLayer(nn.Module):
    """Residual layer over time, with the same weights for every row of frequency: ``[B, C, F, T]`` → the same shape.

    Time is cut into chunks of ``reach`` frames, of which T is a multiple, and each chunk is seen together with the
    chunks before and after it. A frame therefore sees at least ``reach`` frames on either side, and never more than
    ``2 * reach - 1``: a block with these around it that begins at a chunk gives the result of the whole signal. After
    Vaswani et al., "Attention is all you need" (2017), with the norm first.

    ``kind`` is ``gru`` (Cho et al., 2014), from state zero in every three chunks and, if ``bidirectional``, backwards
    as well; or ``attention``, to exactly ``reach`` frames on either side.
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
    """GRU over each chunk and its neighbours: ``[R, n, reach, C]`` → the same shape."""

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
    """Attention of each chunk to itself and its neighbours: ``[R, n, reach, C]`` → the same shape.

    Every head has a learnt bias for each distance, as in Raffel et al., "T5" (2020).
    """

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
    """Draw the weights of a convolution with variance ``2 / ((1 + slope²) fan-in)``, and set its bias to zero.

    After He et al., "Delving Deep into Rectifiers" (2015). Other layers stay as they are.
    """
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
