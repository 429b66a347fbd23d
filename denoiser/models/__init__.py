"""Networks: features of a head ``[B, inputs, F, T]`` → its outputs ``[B, outputs, F, T]``, for any F and T.

A long signal is processed in blocks with the result of the whole: a block begins at a multiple of ``stride``, the
frames of one step of the deepest level, and ``context``, a multiple of it, are frames on either side that can change
the result inside. A network that has ``narrows`` can be called with a slice of the wanted frames, and computes little
more than these.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from denoiser.errors import building
from denoiser.models.cost import count_macs, count_parameters, growth
from denoiser.models.crn import CRN, DualPath
from denoiser.models.fusion import fold
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
