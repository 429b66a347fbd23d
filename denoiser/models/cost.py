"""Cost of a network: parameters, multiply-accumulates, and the memory of its largest tensor."""

import copy
import math
import re

import torch
from torch import nn

from denoiser.models.crn import HEADS, DualPath
from denoiser.models.unet import UNet

MAX_GROWTH = 4096  # values of the largest tensor per value of the input; unet10 has 32, dualpath 48
MAX_BLOCK = 1 << 28  # values of the largest tensor for the shortest possible block: 1 GB in 32 bits


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, bins: int, frame_rate: float, inputs: int = 1) -> int:
    """Return the multiply-accumulates of convolutions and matrix products per second of audio."""
    # Imported here because it takes a third of a second.
    from torch.utils.flop_counter import FlopCounterMode

    frames = 256
    counter = FlopCounterMode(display=False)
    # On meta torch takes recurrences and attention apart into operations that its counter knows.
    copied = copy.deepcopy(net).to("meta").eval()
    with torch.no_grad(), counter:
        copied(torch.empty(1, inputs, bins, frames, device="meta"))
    return round(counter.get_total_flops() / 2 * frame_rate / frames)


def growth(net: nn.Module, bins: int) -> float:
    """Estimate the size of the largest tensor inside ``net``, on any device, relative to its input of one channel.

    Raises ValueError above :data:`MAX_GROWTH` or :data:`MAX_BLOCK`: a checkpoint of a few bytes may describe a network
    that fills any memory.
    """
    reduction = 2 ** len(net.pools) if isinstance(net, UNet) else int(getattr(net, "reduction", 1))
    stem = net.stem if isinstance(net, UNet) else 1  # bins that become channels
    bands = math.ceil(bins / reduction)
    sizes = [1.0]
    for name, layer in net.named_modules():
        # Each level has half the bins of the level above it.
        level = re.match(r"(?:encoder|decoder|up|gates)\.(\d+)\.", f"{name}.")
        share = 2.0 ** -int(level[1]) if level else 1.0
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            sizes.append(share * max(layer.in_channels, layer.out_channels) / stem)
        elif isinstance(layer, nn.Linear):
            sizes.append(max(layer.in_features, layer.out_features) * bands / bins)
        elif isinstance(layer, nn.GRU):
            sizes.append(3 * layer.hidden_size * (1 + layer.bidirectional) * bands / bins)
    if isinstance(net, DualPath):
        # Every band attends to every other band.
        sizes.append(HEADS * bands * bands / bins)
    largest = max(sizes)
    shortest = 2 * int(net.context) + int(net.stride)  # type: ignore[arg-type]  # frames
    if largest > MAX_GROWTH or shortest * bins * largest > MAX_BLOCK:
        raise ValueError(f"a network that would take {shortest * bins * largest * 4 / 1e9:.1f} GB at once")
    return largest
