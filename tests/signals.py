"""Callbacks that do something, or send their own process a signal, at a step that a test chooses."""

import os
import signal
from collections.abc import Callable
from typing import ClassVar

from pytorch_lightning import Callback


class SignalAt(Callback):
    """Sends a signal before a step of the training, or of the validation, of an epoch, in the process of one rank.

    Settings name it: ``+callbacks.signal={_target_: signals.SignalAt, step: 1, number: SIGINT}``.
    """

    handlers_after: ClassVar[list] = []

    def __init__(
        self, step: int = -1, validation: int = -1, epoch: int = 1, number: str = "SIGTERM", rank: int = 0
    ) -> None:
        self.step, self.validation, self.epoch, self.rank = step, validation, epoch, rank
        self.number = signal.Signals[number]

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if index == self.step:
            self._send(trainer)

    def on_validation_batch_start(self, trainer, module, batch, index, loader=0) -> None:
        if index == self.validation:
            self._send(trainer)

    def _send(self, trainer) -> None:
        if (trainer.current_epoch, trainer.global_rank) == (self.epoch, self.rank):
            os.kill(os.getpid(), self.number)
            SignalAt.handlers_after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def signal_at(**where: object) -> str:
    """Return the setting of a :class:`SignalAt`."""
    values = ", ".join(f"{key}: {value}" for key, value in where.items())
    return f"+callbacks.signal={{_target_: signals.SignalAt, {values}}}"


class Do(Callback):
    """Calls ``action`` before a step of an epoch, or at its end."""

    action = staticmethod(lambda: None)

    def __init__(self, epoch: int = 1, step: int | None = None) -> None:
        self.moment = (epoch, step)

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if (trainer.current_epoch, index) == self.moment:
            Do.action()

    def on_train_epoch_end(self, trainer, module) -> None:
        if (trainer.current_epoch, None) == self.moment:
            Do.action()


def doing(action: Callable[[], object], monkeypatch, **when: int) -> str:
    """Return the setting of a :class:`Do`."""
    monkeypatch.setattr(Do, "action", staticmethod(action))
    return f"+callbacks.fault={{_target_: signals.Do{''.join(f', {key}: {value}' for key, value in when.items())}}}"
