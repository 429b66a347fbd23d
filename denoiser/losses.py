"""Losses between the estimated and the true scaled noise magnitude, both ``[B, 1, F, T]``."""

from __future__ import annotations

from typing import Any

from torch import nn

from denoiser.errors import ConfigError

LOSSES: dict[str, type[nn.Module]] = {"huber": nn.HuberLoss, "l1": nn.L1Loss, "mse": nn.MSELoss}


def build(name: str, **arguments: Any) -> nn.Module:
    """The loss of this name, a module of ``(estimate, target) -> scalar``."""
    if name not in LOSSES:
        raise ConfigError(f"loss '{name}' is unknown; there are: {', '.join(sorted(LOSSES))}")
    try:
        return LOSSES[name](**arguments)
    except TypeError as error:
        raise ConfigError(f"loss '{name}': {str(error).replace('.__init__()', '')}") from error
