"""Orderly end of a training that is asked to stop, by a checkpoint at the next step; and where a resumed one begins."""

import os
import signal
import threading
from itertools import product
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from denoiser import distributed
from denoiser.console import stop
from denoiser.errors import StopError
from denoiser.training import launch
from denoiser.training.folder import RunFolder

# SLURM sends USR1 before the time limit (--signal=USR1@120), submitit has a handler of USR2; Windows has neither.
REQUEUE = getattr(signal, "SIGUSR1", None)
SIGNALS = [signal.SIGTERM, signal.SIGINT, *filter(None, [REQUEUE, getattr(signal, "SIGUSR2", None)])]
NO_HANDLERS = (None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler, stop)


class Interruption(Callback):
    """Stop by SIGTERM, Ctrl-C or SLURM's USR1: writes ``last.ckpt`` after the current step and ends by StopError.

    Anything due after the step comes first, so that a resumed run takes the same steps as one that was never stopped:
    the rest of an accumulated batch, a validation, the end of an epoch. A signal that another program handles, as
    submitit does USR2, is passed on once the checkpoint is written; the training goes on if that handler returns.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.received = 0
        # Those from before the training: Lightning puts its own in their place.
        handlers: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
        self.foreign = {number: handler for number, handler in handlers.items() if handler not in NO_HANDLERS}
        # A job that a shell runs in the background ignores Ctrl-C.
        stops = [number for number in (signal.SIGTERM, signal.SIGINT) if handlers[number] != signal.SIG_IGN]
        self.heard: set[int] = {*stops, *self.foreign}
        if REQUEUE and "SLURM_JOB_ID" in os.environ:
            self.heard.add(REQUEUE)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.received = signal.SIGTERM if trainer.received_sigterm else 0
        if threading.current_thread() is threading.main_thread():
            for number in self.heard:
                signal.signal(number, self._receive)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The end of the last epoch has been written.
        self._leave_if_asked(trainer)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        is_stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        interval, by_epoch = trainer.val_check_batch, trainer.check_val_every_n_epoch is not None
        batches = batch_idx + 1 if by_epoch else trainer.fit_loop.total_batch_idx + 1
        # A checkpoint from before a validation would leave it out.
        is_validated = trainer.is_last_batch or interval is None or batches % interval == 0
        if is_stepped and not is_validated:
            self._leave_if_asked(trainer, save=bool(trainer.checkpoint_callbacks))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The test is left out.
        self._leave_if_asked(trainer)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        if number in self.foreign:
            return
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if distributed.rank() == 0:
            # print() is not safe here: the signal may have come in the midst of another print().
            os.write(2, b"\nstopping at the end of this step; a second signal ends it at once\n")

    def _leave_if_asked(self, trainer: Trainer, save: bool = False) -> None:
        if not trainer.strategy.reduce_boolean_decision(self.received != 0, all=False):
            return
        if save:
            trainer.save_checkpoint(self.run.last_checkpoint)
        number = self.received or signal.SIGTERM
        if number in self.foreign:
            self.received = 0
            self.foreign[number](number, None)
            return
        if distributed.rank() != 0:
            # Lightning kills process 0 when another one ends with an error.
            raise SystemExit(0)
        cause = f"{signal.Signals(number).name} after step {trainer.global_step}, in epoch {trainer.current_epoch + 1}"
        queued = launch.requeue() if number == REQUEUE else ""
        raise StopError(f"{self.run.path}: ended by {cause}{queued}; {self.run.how_to_go_on()}", 128 + number)


class Resumption(Callback):
    """Begin of a resumed training at the step after its checkpoint's, where Lightning would pass over a part of it."""

    def __init__(self) -> None:
        self.max_steps = -1  # of a training that is resumed and has steps to go

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if checkpoint["global_step"] < trainer.max_steps:
            self.max_steps = trainer.max_steps
        loop = checkpoint["loops"]["fit_loop"]
        counts = loop["epoch_progress"]
        is_counted = counts["current"]["processed"] == counts["current"]["started"]
        # An epoch that max_steps or max_time cut short counts as a whole one: the rest of it would be left out.
        batches = loop["epoch_loop.batch_progress"]
        if is_counted and not batches["is_last_batch"]:
            for count in counts.values():
                count["processed"] -= 1
            # The gradients of batches that have made no step, as where max_time ended amid them, are in no checkpoint.
            again = batches["current"]["processed"] % trainer.accumulate_grad_batches
            for key, count in product(("total", "current"), ("ready", "started", "processed", "completed")):
                batches[key][count] -= again

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # With a limit of steps Lightning would go on from the end of an epoch by leaving out the one after it.
        if self.max_steps != -1:
            trainer.fit_loop.epoch_loop.max_steps = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.max_steps != -1:
            trainer.fit_loop.epoch_loop.max_steps = self.max_steps
