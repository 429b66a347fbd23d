"""A trained U-Net of plain stages, put together anew for a CPU: the same values up to rounding, in less work."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.models.fusion import Activated, Exact, has_pointwise
from denoiser.models.layers import Doubling, pooled
from denoiser.models.causal import with_silence
from denoiser.models.unet import UNet

INNERMOST = torch.channels_last


def merge(net: nn.Module, dtype: torch.dtype) -> Merged | None:
    """Of a folded network, to be computed in ``dtype``; None for one that has other layers than this knows.

    An option of the U-Net that changes what it computes belongs among the conditions here.
    """
    if type(net) is not UNet or len(net.gates) or not net.pairs or not has_pointwise(dtype):
        return None
    if not isinstance(net.bottleneck, nn.Identity) or not all(type(up) is Doubling for up in net.up):
        return None
    for stage in [*net.encoder, *net.decoder]:
        for layer, _ in _layers(stage, dtype):
            if not isinstance(layer, Activated) or layer.convolution.kernel_size != (3, 3):
                return None
    return Merged(net, dtype)


class Merged(nn.Module):
    """``[B, inputs, F, T]`` and the ``wanted`` frames → ``[B, outputs, F, wanted]``, as the U-Net it is made of.

    An up-sampling and the convolution after it are linear, and so one transposed convolution of 4x4: 8 products in the
    place of 11. The convolution of the skipped half is added to it, so that the two are never joined. In all 7 % fewer
    products, 5 to 8 % less time, and 70 MB less of unet10.
    """

    def __init__(self, net: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.stem, self.stride, self.steps, self.needed = net.stem, net.stride, net.steps, net.needed
        encoder, decoder = ([_layers(stage, dtype) for stage in stages] for stages in (net.encoder, net.decoder))
        self.encoder = nn.ModuleList(nn.Sequential(*(_in(*layer) for layer in layers)) for layers in encoder)
        self.joints = nn.ModuleList(_Joint(up, *layers[0]) for up, layers in zip(net.up, decoder, strict=True))
        self.decoder = nn.ModuleList(nn.Sequential(*(_in(*layer) for layer in layers[1:])) for layers in decoder)
        ((head, wide),) = _layers(net.head, dtype)
        self.head, self.wide = _in(head, wide), wide

    def forward(self, x: Tensor, wanted: slice) -> Tensor:
        bins, frames = x.shape[-2:]
        x = with_silence(x, -bins % (self.stem * 2 ** len(self.steps)), -frames % self.stride)
        x = x.unflatten(2, (-1, self.stem)).transpose(2, 3).flatten(1, 2)
        with torch.autocast("cpu", enabled=False):
            x, begin = self._run(x, wanted)
        x = x.unflatten(1, (-1, self.stem)).transpose(2, 3).flatten(2, 3)
        first, last, _ = wanted.indices(frames)
        return x[:, :, :bins, first - begin : last - begin]

    def _run(self, x: Tensor, wanted: slice) -> tuple[Tensor, int]:
        """``[B, C, F, T]`` → ``[B, C', F, T']`` of the frames from the second result on, the wanted ones among them."""
        needed, begin, skips = self.needed(wanted, x.shape[3]), 0, []
        for level, stage in enumerate(self.encoder):
            x = stage(x if level == 0 else pooled(x, self.steps[level - 1]))
            skips.append(x)
        del skips[-1]
        for level in reversed(range(len(self.decoder))):
            _, time = self.steps[level]
            first, last = needed[level][0] // time, -(-needed[level][1] // time)
            above, skip = x[..., first - begin : last - begin], skips.pop()[..., time * first : time * last]
            del x  # what nothing needs any more is let go
            x, begin = self.joints[level](above, skip), time * first
            del above, skip
            x = self.decoder[level](x)
        return self.head(x.to(self.wide)), begin


class _Joint(nn.Module):
    """What comes up ``[B, 2C, F / 2, T / t]`` and the skip ``[B, C, F, T]`` → up-sampled, convolved, LeakyReLU."""

    def __init__(self, up: nn.Module, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(up, nn.ConvTranspose2d)
        assert isinstance(layer, Activated)
        assert layer.convolution.bias is not None
        assert up.bias is not None
        self.slope, self.stride = layer.slope, [*up.stride]
        weight, below = (part.weight.detach() for part in (layer.convolution, up))
        above, beside = weight.split([below.shape[1], weight.shape[1] - below.shape[1]], dim=1)
        # A transposed convolution and a convolution, one after the other, are one by their kernels convolved.
        bins, frames = below.shape[2:]
        merged = below.new_zeros(len(below), len(above), bins + 2, frames + 2)
        for bin, frame in itertools.product(range(bins), range(frames)):
            product = torch.einsum("iu,oukl->iokl", below[:, :, bin, frame], above.flip(2, 3))
            merged[:, :, bin : bin + 3, frame : frame + 3] += product
        self.above, self.beside = _kept(merged, dtype), _kept(beside, dtype)
        # The bias of the up-sampling ends where the signal does: at its edges the convolution finds less of it.
        constant = up.bias.detach()[None, :, None, None].expand(1, -1, 3, 3)
        added = F.conv2d(constant, above, padding=1)
        self.bias = _kept(layer.convolution.bias + added[0, :, 1, 1], dtype)
        self.edges = _kept(added - added[:, :, 1:2, 1:2], dtype)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x, skip = (part.to(self.above.dtype).contiguous(memory_format=INNERMOST) for part in (x, skip))
        y = F.conv_transpose2d(x, self.above, None, self.stride, 1)
        before, middle, after = self.edges.split(1, dim=3)
        row = torch.cat([before, middle.expand(-1, -1, -1, y.shape[3] - 2), after], dim=3)
        y[:, :, :1] += row[:, :, :1]
        y[:, :, -1:] += row[:, :, 2:]
        y[:, :, 1:-1, :1] += before[:, :, 1:2]
        y[:, :, 1:-1, -1:] += after[:, :, 1:2]
        ones = [1, 1]
        torch.ops.mkldnn._convolution_pointwise_.binary(  # adds to y
            y, skip, self.beside, self.bias, ones, ones, ones, 1, "add", 1.0, None, [], None
        )
        return F.leaky_relu_(y, self.slope)


def _layers(stage: nn.Module, dtype: torch.dtype) -> list[tuple[nn.Module, torch.dtype]]:
    """What a stage of a folded network computes, one after the other, and in what."""
    layers = stage if isinstance(stage, nn.Sequential) else [stage]
    return [
        (layer.layer, torch.float32) if isinstance(layer, Exact) else (layer, dtype)
        for layer in layers
        if not isinstance(layer, nn.Identity)
    ]


def _in(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The layer itself where its weights are of this type already, else a copy."""
    return layer if next(layer.parameters()).dtype == dtype else copy.deepcopy(layer).to(dtype)


def _kept(weight: Tensor, dtype: torch.dtype) -> nn.Parameter:
    memory_format = INNERMOST if weight.dim() == 4 else torch.contiguous_format
    return nn.Parameter(weight.detach().to(dtype, memory_format=memory_format), requires_grad=False)
