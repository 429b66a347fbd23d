"""Errors from outside that end a training, each as one line that says how to go on."""

import multiprocessing
from multiprocessing import connection
from multiprocessing.process import BaseProcess

from pytorch_lightning import Callback, LightningModule, Trainer

from denoiser.console import SYSTEM_ERRORS
from denoiser.errors import DenoiserError, StopError
from denoiser.training.folder import RunFolder


class DataWorkers(Callback):
    """Remembers the processes that read the data: one that died is in no list any more."""

    def __init__(self) -> None:
        self.processes: list[BaseProcess] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.processes = list(multiprocessing.active_children())


def explain(error: BaseException, run: RunFolder) -> BaseException:
    """Return a StopError for what a signal ended and a DenoiserError for a disk's failure; else the error itself."""
    # Lightning turns KeyboardInterrupt into SystemExit.
    cause = error.__context__ if isinstance(error, SystemExit) else error
    if isinstance(cause, StopError) and str(cause):
        return cause
    if isinstance(cause, KeyboardInterrupt):
        return StopError(f"{run.path}: interrupted; {run.how_to_go_on()}", getattr(cause, "code", 130))
    if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
        return DenoiserError(f"{error.filename or run.path}: {error.strerror}; {run.how_to_go_on()}")
    return error


def raise_if_a_process_died(error: Exception, trainer: Trainer, run: RunFolder) -> None:
    """Raise a DenoiserError if a data worker, or a process that trains with this one, has died."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    workers = next(callback.processes for callback in callbacks if isinstance(callback, DataWorkers))
    # A connection breaks a little before the system says that the process at its other end is dead.
    if connection.wait([worker.sentinel for worker in workers], timeout=1):
        text = "a process that reads the data died, for lack of memory, as a rule: fewer data.workers"
        raise DenoiserError(f"{text}; {run.how_to_go_on()}") from error
    peers = getattr(trainer.strategy.launcher, "procs", [])
    if dead := [peer.returncode for peer in peers if peer.poll()]:
        text = f"one of the processes of this training died (exit code {dead[0]})"
        raise DenoiserError(f"{text}; {run.how_to_go_on()}") from error
