"""More various batches from the same corpus: changes of noise and clean speech, made where the batch lies.

Random numbers are drawn on the CPU from (seed, epoch, first item), and only they travel: a batch is the same on any
device, after a resumption and in any number of workers, and nothing waits for a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from denoiser.data.augment_changes import CHANGES, Change
from denoiser.errors import ConfigError, building


class Augment(nn.Module):
    """Several changes, one after the other in the order of ``CHANGES``; without any, a batch stays as it is.

    Each draws from a stream of its own, so that leaving one out does not alter the others' draws.
    """

    def __init__(self, changes: Mapping[str, Change]) -> None:
        super().__init__()
        self.changes = nn.ModuleDict({name: changes[name] for name in CHANGES if name in changes})

    def forward(self, batch: Mapping[str, Any], key: Sequence[int]) -> dict[str, Any]:
        """``{"noisy": [B, N], "clean": [B, N], "level": [B, 1], ...}`` → such a batch, drawn from ``key``.

        Noisy is exactly clean plus noise. The batch given stays as it is.
        """
        if not self.changes:
            return dict(batch)
        noise, clean, level = batch["noisy"] - batch["clean"], batch["clean"], batch["level"]
        for place, name in enumerate(CHANGES, start=1):  # 1: a seed does not end in 0, [a] and [a, 0] are one stream
            if name in self.changes:
                noise, clean, level = self.changes[name](noise, clean, level, np.random.default_rng([*key, place]))
        return {**batch, "noisy": clean + noise, "clean": clean, "level": level}


def build(settings: Mapping[str, Any] | None, sample_rate: int) -> Augment:
    """The augmentation of these settings, ``{name: arguments}``; arguments of null leave that change out."""
    changes: dict[str, Change] = {}
    for name, arguments in (settings or {}).items():
        if arguments is None:
            continue
        if not isinstance(arguments, Mapping):
            raise ConfigError(f"augment.{name}={arguments}: expected its settings, or null to leave it out")
        with building("augment", CHANGES, name, arguments) as change:
            changes[name] = change(sample_rate, **arguments)
    return Augment(changes)
