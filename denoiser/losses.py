"""Losses between the estimated and the true scaled noise magnitude, both ``[B, 1, F, T]``."""

from __future__ import annotations

from typing import Any

from torch import nn

from denoiser.errors import building

LOSSES: dict[str, type[nn.Module]] = {"huber": nn.HuberLoss, "l1": nn.L1Loss, "mse": nn.MSELoss}


def build(name: str, **arguments: Any) -> nn.Module:
    """The loss of this name, a module of ``(estimate, target) -> scalar``."""
    with building("loss", LOSSES, name, arguments) as loss:
        return loss(**arguments)
