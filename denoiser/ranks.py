"""Which of several processes that train as one this is, by what started it: torchrun, srun, or the first of them.

Apart from what they do together, so that a command line is read without loading torch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from denoiser.errors import ConfigError

FIRST = "the first process"


class Place(NamedTuple):
    """Number ``rank`` of ``world`` processes, and number ``local`` on this machine."""

    rank: int = 0
    local: int = 0
    world: int = 1
    by: str = ""  # what started it, unless it is a process on its own


def place() -> Place:
    """This process's, by its environment."""
    env = os.environ
    if {"RANK", "LOCAL_RANK"} <= env.keys():
        by = "torchrun" if "TORCHELASTIC_RUN_ID" in env else FIRST
        # Lightning takes WORLD_SIZE away when it has done.
        return Place(int(env["RANK"]), int(env["LOCAL_RANK"]), int(env.get("WORLD_SIZE", 1)), by)
    tasks = int(env.get("SLURM_STEP_NUM_TASKS", 1))  # only srun sets this one: not a batch script that starts one
    if tasks > 1:
        return Place(int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"]), tasks, "srun")
    return Place()


def speaks() -> bool:
    """Whether a mistake is told by this process: the first on its machine, so that each is read once."""
    return place().local == 0


def arguments(typed: Sequence[str]) -> list[str]:
    """What this process gives to Hydra: but for the first, no run folder of its own, it hears of that one's."""
    here = place()
    if here.by and not {"-m", "--multirun"}.isdisjoint(typed):
        raise ConfigError(
            f"-m under {here.by}: a sweep is started once, by python; each of its jobs starts its own processes, as "
            "many as trainer.gpus= says"
        )
    return [*typed, *(["hydra.run.dir=.", "hydra.output_subdir=null"] if here.rank else [])]
