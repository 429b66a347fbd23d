"""Optimisers and learning rate schedules, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from denoiser.errors import building

OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW}


def build(parameters: Iterable[nn.Parameter], name: str, **arguments: Any) -> Optimizer:
    """The optimiser of this name over these parameters."""
    with building("optimizer", OPTIMIZERS, name, arguments) as optimizer:
        return optimizer(parameters, **arguments)


def build_schedule(optimizer: Optimizer, steps: int, name: str, **arguments: Any) -> LambdaLR:
    """The schedule of this name over ``steps`` optimiser steps, multiplying the optimiser's learning rate."""
    with building("scheduler", SCHEDULES, name, arguments) as schedule:
        return LambdaLR(optimizer, partial(schedule, steps=steps, **arguments))


def constant(step: int, *, steps: int) -> float:
    return 1.0


def cosine(step: int, *, steps: int, warmup: float = 0.05, floor: float = 0.01) -> float:
    """Linear warm-up over a share of the steps, then half a cosine down to ``floor`` (Loshchilov and Hutter 2017)."""
    first = max(1, round(warmup * steps))
    if step < first:
        return (step + 1) / first
    progress = min(1.0, (step - first) / max(1, steps - first))
    return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES = {"constant": constant, "cosine": cosine}
