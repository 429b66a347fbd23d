"""Networks: features of a head ``[B, inputs, F, T]`` → its outputs ``[B, outputs, F, T]``, for any F and T.

Every network has two attributes, with which a long signal can be processed in blocks with the result of the whole:

- ``stride``: frames spanned by one step of its deepest level; a block begins at a multiple of it.
- ``context``: frames on either side of a block that can change the result inside it, a multiple of ``stride``.

A network that has ``narrows`` can be called with a slice of the wanted frames, and computes little more than these.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
        parameters = inspect.signature(network).parameters
        _check_types(parameters, arguments)
        if bins is not None and "bins" in parameters:
            arguments["bins"] = bins
        return network(**arguments)


# By the text of an annotation: annotations are texts here, see ``from __future__ import annotations``.
_TYPES: dict[str, Callable[[Any], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: type(value) is int,
    "int | None": lambda value: value is None or type(value) is int,
    "float": lambda value: type(value) in (int, float) and abs(value) < math.inf,
    "str": lambda value: isinstance(value, str),
    "Sequence[int]": lambda value: isinstance(value, Sequence) and all(type(v) is int for v in value),
}


def _check_types(parameters: Mapping[str, inspect.Parameter], arguments: Mapping[str, Any]) -> None:
    """Raise TypeError for an argument of the wrong type: ``bidirectional=no`` is a text, which would count as true."""
    for name, value in arguments.items():
        annotation = str(parameters[name].annotation) if name in parameters else ""
        if annotation in _TYPES and not _TYPES[annotation](value):
            raise TypeError(f"{name}={value} is not of type {annotation}")
