"""Networks: features of a head ``[B, inputs, F, T]`` → its outputs ``[B, outputs, F, T]``, for any F and T.

Two attributes let a long signal be processed in blocks with the result of the whole:

- ``stride``: frames spanned by one step of its deepest level; a block begins at a multiple of it.
- ``context``: frames on either side of a block that can change the result inside it, a multiple of ``stride``.

A network that has ``narrows`` can be called with a slice of the wanted frames, and computes little more than these.
"""

import math
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import nn

from denoiser.errors import building
from denoiser.models.cost import count_macs, count_parameters, growth
from denoiser.models.crn import CRN
from denoiser.models.dualpath import DualPath
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
        _check_types(types, arguments)
        if bins is not None and "bins" in types:
            arguments["bins"] = bins
        return network(**arguments)


def _check_types(types: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raise TypeError for an argument of the wrong type: ``bidirectional=no`` is a text, which would count as true."""
    for name, value in arguments.items():
        kind = types.get(name)
        if kind and not _fits(value, kind):
            expected = [getattr(part, "__name__", part) for part in get_args(kind) or [kind]]
            raise TypeError(f"{name}={value}: expected {', '.join(expected)}")


def _fits(value: Any, kind: Any) -> bool:
    """Return True for a value of this type, and for any value of a type that no network here has."""
    parts = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_fits(value, part) for part in parts)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is Sequence:
        return isinstance(value, Sequence) and all(_fits(part, parts[0]) for part in value)
    if kind is float:
        return type(value) in (int, float) and abs(value) < math.inf
    return type(value) is kind or kind not in (bool, int, str, type(None))
