"""Networks: what a head gives ``[B, inputs, F, T]`` → what it takes ``[B, outputs, F, T]``, any F and T.

A network states ``stride`` (frames that one step of its deepest level spans) and ``context`` (frames
beyond a block that can change the result inside it, a multiple of stride): with them a long signal is
processed in blocks with the result of the whole. One that has ``narrows`` can be called with the slice of the frames
that are wanted, and spares the work on others.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from denoiser.errors import building
from denoiser.models.crn import CRN
from denoiser.models.dualpath import DualPath
from denoiser.models.fusion import fold
from denoiser.models.unet import UNet

__all__ = ["MODELS", "build", "count_macs", "count_parameters", "fold"]
MODELS: dict[str, type[nn.Module]] = {"crn": CRN, "dualpath": DualPath, "unet": UNet}


def build(name: str, **arguments: Any) -> nn.Module:
    """The network of this name. Names from a file are only ever looked up here, never imported."""
    with building("model", MODELS, name, arguments) as network:
        _check_kinds(network, arguments)
        return network(**arguments)


def _check_kinds(network: type[nn.Module], arguments: Mapping[str, Any]) -> None:
    """Raise TypeError where an argument is not what the network says: ``no`` is a text, and so true."""
    for name, parameter in inspect.signature(network).parameters.items():
        kind = str(parameter.annotation)
        if name in arguments and kind in _KINDS and not _KINDS[kind](arguments[name]):
            raise TypeError(f"{name} is no {kind}")


_KINDS: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: type(value) is int,
    "int | None": lambda value: value is None or type(value) is int,
    "float": lambda value: type(value) in (int, float) and abs(value) < math.inf,
    "str": lambda value: isinstance(value, str),
    "Sequence[int]": lambda value: isinstance(value, Sequence) and all(type(v) is int for v in value),
}


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def count_macs(net: nn.Module, bins: int, frame_rate: float, inputs: int = 1) -> int:
    """Multiply-accumulates per second of audio, over whole 256-frame patches.

    Of convolutions and matrix products only, those inside nn.GRU, nn.LSTM and nn.MultiheadAttention included: on
    ``meta``, torch takes them apart into what its counter knows, while on a CPU the last two count nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode  # a third of a second to import

    frames = 256
    counter = FlopCounterMode(display=False)
    meta = copy.deepcopy(net).to("meta").eval()
    with torch.no_grad(), counter:
        meta(torch.empty(1, inputs, bins, frames, device="meta"))
    return round(counter.get_total_flops() / 2 * frame_rate / frames)
