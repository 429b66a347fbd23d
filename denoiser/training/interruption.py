"""A training that is asked to stop: it checkpoints where it is, says how to go on, and leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging

from denoiser import distributed
from denoiser.console import SYSTEM_ERRORS
from denoiser.errors import DenoiserError, StopError
from denoiser.training.folder import CHECKPOINTS, MARK, how_to_resume

REQUEUE: int = getattr(signal, "SIGUSR1", 0)  # what a batch script asks SLURM for: --signal=USR1@120; 0: Windows
_ASKED = [n for n in (signal.SIGTERM, signal.SIGINT, REQUEUE, getattr(signal, "SIGUSR2", 0)) if n]  # last: submitit's
_PENDING = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # Lightning's sign of a validation to be done


class _LeaveError(SystemExit):
    """Ends the training from within: Lightning lets this one through as it is."""

    def __init__(self, number: int, place: str) -> None:
        super().__init__(128 + number)
        self.number, self.place = number, place


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Around a training: what ends it from outside, as one line that says how to go on.

    Raises StopError for a signal, DenoiserError for a process that reads the data and died, and for files and disks.
    """
    last = folder / CHECKPOINTS / "last.ckpt"

    def further() -> str:
        return f"{how_to_resume()} goes on from {last}" if last.is_file() else "it had no checkpoint yet"

    try:
        yield
    except _LeaveError as leave:
        name = signal.Signals(leave.number).name
        raise StopError(f"{folder}: ended by {name} {leave.place}; {further()}", int(str(leave.code))) from None
    except (KeyboardInterrupt, SystemExit) as error:
        cause = error if isinstance(error, KeyboardInterrupt) else error.__context__  # Lightning's answer to Ctrl-C
        if not isinstance(cause, KeyboardInterrupt):
            raise
        raise StopError(f"{folder}: interrupted; {further()}", getattr(cause, "code", 130)) from None
    except (RuntimeError, ConnectionError) as error:
        # It may have been about to hand over a batch: then the connection breaks.
        if isinstance(error, RuntimeError) and not re.search(r"DataLoader worker \(pid.* (killed|exited)", str(error)):
            raise
        raise DenoiserError(
            f"a process that reads the data died, for lack of memory, as a rule: fewer data.workers; {further()}"
        ) from error
    except OSError as error:
        if error.errno not in SYSTEM_ERRORS:
            raise
        raise DenoiserError(f"{error.filename or folder}: {error.strerror}; {further()}") from error


class Interruption(Callback):
    """On SIGTERM, Ctrl-C, and the signals that SLURM sends, writes ``last.ckpt`` at the next step and leaves.

    Within an epoch, and before or in a validation, a resumed run takes the same steps as one that was never stopped:
    batches follow from (seed, epoch, index), so that it can begin at any of them; a validation begins again. A second
    signal ends the process at once. Several processes agree, when the loss is logged, and between epochs.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CHECKPOINTS / "last.ckpt"
        self.number = 0  # of the signal that came
        self.saved = ""  # in what, once it has been answered
        self.before: dict[int, Any] = {}

    def _listen(self, trainer: Trainer) -> None:
        """Take the signals over from Lightning, which gives back at the end what was before."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.before = dict(trainer._signal_connector._original_handlers)
        for number in _ASKED:
            known = self.before.get(number) not in (signal.SIG_DFL, None)
            always = number in (signal.SIGTERM, signal.SIGINT) or (number == REQUEUE and "SLURM_JOB_ID" in os.environ)
            if (known or always) and self.before.get(number) != signal.SIG_IGN:  # as in a shell's background
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._is_submitit_s(number):
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if not distributed.rank():
            os.write(2, b"\nstopping at the end of this step; a second signal ends it at once\n")

    def _is_submitit_s(self, number: int) -> bool:
        """Whether submitit handles this signal: SIGTERM is no end for it, the other one queues the job again."""
        kinds = type(getattr(self.before.get(number), "__self__", None)).__mro__
        return any(kind.__module__.startswith("submitit.") for kind in kinds)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a run that goes on within an epoch begin with the batch that is next."""
        self.number = signal.SIGTERM if trainer.received_sigterm else 0
        self._listen(trainer)
        loop = trainer.fit_loop.epoch_loop
        if not trainer.fit_loop.restarting or loop.batch_progress.is_last_batch:
            return
        loader: Any = trainer.train_dataloader
        sampler = loader.sampler if distributed.world() == 1 else loader.batch_sampler.sampler
        sampler.set_epoch(trainer.current_epoch)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        sampler.skip = loop.batch_progress.current.ready * data.batch_size
        assert trainer.fit_loop._data_fetcher is not None
        iter(trainer.fit_loop._data_fetcher)  # the one from before this began with the first

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._asked(trainer):
            self._leave(trainer, save=False)  # the end of the last epoch has been written

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._asked(trainer):  # before the test
            self._leave(trainer, save=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.world_size > 1 and (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        assert fetcher is not None
        # A gradient that is half gathered is in no checkpoint; what is due after this step comes first.
        between = loop._should_accumulate() or loop.batch_progress.is_last_batch or loop._should_check_val_fx(fetcher)
        if self._asked(trainer) and not between:
            self._leave(trainer)

    def on_validation_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.world_size == 1 and self.number and not trainer.sanity_checking and trainer.fit_loop._data_fetcher:
            self._leave(trainer, validating=True)

    def _asked(self, trainer: Trainer) -> bool:
        if trainer.world_size == 1:
            return bool(self.number)
        return bool(trainer.strategy.reduce_boolean_decision(bool(self.number), all=False))

    def _leave(self, trainer: Trainer, save: bool = True, validating: bool = False) -> None:
        number = self.number or signal.SIGTERM  # which came to another process
        if save and trainer.checkpoint_callbacks:
            self.saved = "validation" if validating else "step"
            # In a validation an average of the weights stands in their place.
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            averages = [c for c in callbacks if isinstance(c, WeightAveraging)] if validating else []
            for callback in averages:
                callback.on_validation_epoch_end(trainer, trainer.lightning_module)
            trainer.save_checkpoint(self.path)
            for callback in averages:
                callback.on_validation_epoch_start(trainer, trainer.lightning_module)
        if self._is_submitit_s(number):
            self.before[number](number, None)
            self.number, self.saved = 0, ""
            return
        requeued = _requeue() if number == REQUEUE and trainer.is_global_zero else None
        place = f"after step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        raise _LeaveError(number, f"{place}{f'; {requeued}' if requeued else ''}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self.saved:
            return
        checkpoint[MARK] = self.saved
        if self.saved == "validation":
            none = dict.fromkeys(_PENDING, 0)
            progress = {"total": dict(_PENDING), "current": none, "is_last_batch": False}
            checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"] = progress


def _requeue() -> str:
    """Have SLURM run this job again; what to say of it."""
    job = os.environ["SLURM_JOB_ID"]
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)  # noqa: S607
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(getattr(error, "stderr", "") or error).split())
        print(f"scontrol requeue {job}: {reason}", file=sys.stderr)
        return f"job {job} could not be queued again"
    return f"job {job} is queued again"
