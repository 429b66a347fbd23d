"""Networks: features of a head ``[B, inputs, F, T]`` → its outputs ``[B, outputs, F, T]``, for any F and T.

A long signal is processed in blocks with the result of the whole: a block begins at a multiple of ``stride``, the
frames of one step of the deepest level, and ``context``, a multiple of it, are frames on either side that can change
the result inside. A network that has ``takes_wanted`` can be called with a slice of the wanted frames, and computes
little more than these.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from denoiser.errors import building
from denoiser.models.cost import count_macs, count_parameters, growth
from denoiser.models.crn import CRN, DualPath
from denoiser.models.unet import UNet

__all__ = ["MODELS", "build", "count_macs", "count_parameters", "fold", "growth"]

MODELS: dict[str, type[nn.Module]] = {"crn": CRN, "dualpath": DualPath, "unet": UNet}


def build(name: str, bins: int | None = None, **arguments: Any) -> nn.Module:
    """Return the network of this name, untrained. A name from a file is only looked up here, never imported.

    ``bins`` is the F of the spectral representation, for networks that are made for one F alone; a U-Net takes any.
    Raises ConfigError for an unknown name and for arguments that the network refuses.
    """
    with building("model", MODELS, name, arguments) as network:
        types = get_type_hints(network.__init__)
        # bidirectional=no is a text, which would count as true.
        for key, value in arguments.items():
            if key in types and not _fits(value, types[key]):
                expected = [getattr(part, "__name__", part) for part in get_args(types[key]) or [types[key]]]
                raise TypeError(f"{key}={value}: expected {', '.join(map(str, expected))}")
        if bins is not None and "bins" in types:
            arguments["bins"] = bins
        return network(**arguments)


def _fits(value: Any, kind: Any) -> bool:
    """Return True for a value of this type, one of those in the signatures of the networks."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is Sequence:
        return isinstance(value, Sequence) and all(_fits(part, parts[0]) for part in value)
    if kind is float:
        return type(value) in (int, float) and abs(value) < math.inf
    return type(value) in (parts or [kind])


def fold(net: nn.Module, last_in_float32: bool = False) -> nn.Module:
    """Fold every batch normalisation into the convolution before it, in place; return the same network, in eval mode.

    With ``last_in_float32``, the last layers do not follow an autocast to 16 bits, which halves the error of a mask.
    """
    net.eval()
    # Identities do nothing, so that the layers on both sides of one are neighbours.
    leaves = [(name, layer) for name, layer in net.named_modules() if not any(layer.children())]
    layers = [(name, layer) for name, layer in leaves if not isinstance(layer, nn.Identity)]
    # Our networks run their layers in the order of their names.
    for (before, convolution), (name, norm) in pairwise(layers):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            net.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
            net.set_submodule(name, nn.Identity())
    if last_in_float32:
        # The head and, in a U-Net, the convolution before it.
        last = ["head"]
        if isinstance(net, UNet) and net.decoder:
            inside = net.decoder[0].named_modules(prefix="decoder.0")
            last += [name for name, layer in inside if isinstance(layer, nn.Conv2d) and "shortcut" not in name][-1:]
        for name in last:
            net.set_submodule(name, Float32(net.get_submodule(name)))
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Float32(nn.Module):
    """A layer that computes in 32 bits, also under autocast to fewer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return self.layer(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.layer(x.float())
