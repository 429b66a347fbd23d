"""Learning rate schedules over all steps of a training."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LambdaLR


def constant(optimizer: Optimizer) -> ConstantLR:
    """Return a schedule that leaves the learning rate as it is."""
    # Its state is that of the checkpoints of version 0.1.0 on.
    return ConstantLR(optimizer, factor=1.0)


def cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05, floor: float = 0.01) -> LambdaLR:
    """Return a linear warm-up over a share of the steps, then half a cosine down to ``floor`` times the learning rate.

    Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts" (2017).
    """
    first = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < first:
            return (step + 1) / first
        progress = min(1.0, (step - first) / max(1, total_steps - first))
        return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, factor)
