"""Processes of a training: their number, what starts them, their common end, and those that died."""

import atexit
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing import connection
from typing import Any

from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning import Callback, Trainer

from denoiser import distributed
from denoiser.errors import ConfigError, DenoiserError
from denoiser.settings import in_sweep

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
    """Let the processes that Lightning starts, which may wait for ever, end with process 0, also where it is killed."""
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


class DataWorkers(Callback):
    """Record of the processes that read the data: torch no longer lists one that died."""

    processes: Sequence[Any] = ()

    def on_train_start(self, *args: Any) -> None:
        self.processes = multiprocessing.active_children()


def raise_if_one_died(error: Exception, trainer: Trainer, advice: str) -> None:
    """Raise a DenoiserError if a data worker, or a process that trains with this one, has died."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    workers = next(callback.processes for callback in callbacks if isinstance(callback, DataWorkers))
    # A connection breaks a little before the system says that the process at its other end is dead.
    connection.wait([worker.sentinel for worker in workers], timeout=1)
    # After any error they have ended, but those that Lightning ended have an exit code of 0.
    if any(worker.exitcode for worker in workers):
        reason = "a process that reads the data died, for lack of memory, as a rule: fewer data.workers"
        raise DenoiserError(f"{reason}; {advice}") from error
    peers = getattr(trainer.strategy.launcher, "procs", [])
    if dead := [peer.returncode for peer in peers if peer.poll()]:
        raise DenoiserError(f"one of the processes of this training died (exit code {dead[0]}); {advice}") from error


def requeue() -> str:
    """Have SLURM run this job again; return a phrase that says so."""
    job = os.environ["SLURM_JOB_ID"]
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    result = subprocess.run(["scontrol", "requeue", job], check=False)  # noqa: S607
    return f"; job {job} {'is' if result.returncode == 0 else 'could not be'} queued again"
