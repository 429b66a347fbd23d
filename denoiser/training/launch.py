"""Processes that train one network: their number, what starts them, and their common end."""

import atexit
import os
import signal
import threading
import time
from datetime import timedelta
from typing import Any

from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning import Trainer

from denoiser import distributed
from denoiser.errors import ConfigError
from denoiser.training.folder import in_sweep

# One process may prepare a corpus, or score the last files, while the others wait for it.
TIMEOUT = timedelta(hours=3)
# Environment variable with the id of process 0, for those that it starts.
FIRST_PROCESS = "DENOISER_FIRST_PROCESS"


def check_processes(asked: int, nodes: int, settings: str) -> None:
    """Raise ConfigError where ``asked`` processes on ``nodes`` machines have not been, or cannot be, started."""
    settings += f" trainer.num_nodes={nodes}"
    launcher, started = distributed.launcher(), distributed.started_processes()
    if launcher and started != asked:
        raise ConfigError(f"{settings}: makes {asked} processes, and {launcher} started {started}")
    if not launcher and nodes > 1:
        raise ConfigError(f"{settings}: several machines are started by torchrun or srun; see docs/scaling.md")
    if asked > 1 and in_sweep():
        raise ConfigError(f"{settings}: a run of a sweep has one process; for several GPUs: hydra/launcher=joblib")


def environment() -> list[Any]:
    """Return the plugin that tells Lightning what starts the processes, unless Lightning finds out by itself."""
    if distributed.launcher() == "srun":
        # Lightning would save hpc_ckpt_*.ckpt in the midst of a step, and prefer it to all later checkpoints.
        return [SLURMEnvironment(auto_requeue=False)]
    if distributed.launcher() == "torchrun":
        return []
    # In a batch job that starts one python, Lightning would expect srun to start the others.
    return [LightningEnvironment()]


def end_together(trainer: Trainer) -> None:
    """Let the processes that Lightning starts end with process 0, also where it fails or is killed.

    The others write nothing, and may wait for ever for a process that met a mistake of its own.
    """
    launcher = trainer.strategy.launcher
    if launcher is None or distributed.launcher():
        return
    if distributed.rank() == 0:
        os.environ[FIRST_PROCESS] = str(os.getpid())
        atexit.register(launcher.kill, signal.SIGKILL)
    elif FIRST_PROCESS in os.environ:
        threading.Thread(target=_end_with, args=[int(os.environ[FIRST_PROCESS])], daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
