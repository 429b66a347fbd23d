"""Preparation of a trained network for inference: fewer passes over memory, the same values up to rounding."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from denoiser.models.unet import UNet


def fold(net: nn.Module, exact: bool = False) -> nn.Module:
    """Fold every batch normalisation into the convolution before it, in place; return the same network, in eval mode.

    With ``exact``, the last layers compute in 32 bits even under autocast to 16, which halves the error of a mask.
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
    if exact:
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
