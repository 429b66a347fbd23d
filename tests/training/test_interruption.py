"""A training that a signal ends: it leaves a checkpoint of where it is, and goes on from there as if never stopped."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import TINY, train_here, write_vctk
from pytorch_lightning import Callback

from denoiser.console import one_line, run
from denoiser.errors import DivergedError, StopError
from denoiser.training import record
from denoiser.training.folder import MARK


class SignalAt(Callback):
    """Sends this process a signal, at a step of training or of the validation of an epoch, once."""

    then: ClassVar[list] = []  # what a second one would meet

    def __init__(self, step: int = -1, validation: int = -1, epoch: int = 1, number: str = "SIGTERM") -> None:
        self.step, self.validation, self.epoch, self.number = step, validation, epoch, signal.Signals[number]

    def _send(self, trainer) -> None:
        if trainer.current_epoch == self.epoch:
            os.kill(os.getpid(), self.number)
            SignalAt.then = [signal.getsignal(again) for again in (signal.SIGTERM, signal.SIGINT)]

    def on_train_batch_start(self, trainer, module, batch, index) -> None:
        if index == self.step:
            self._send(trainer)

    def on_validation_batch_start(self, trainer, module, batch, index, loader=0) -> None:
        if index == self.validation:
            self._send(trainer)


@pytest.fixture(autouse=True)
def foreground():
    """Ctrl-C is heard, though these tests may run in a shell's background, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = write_vctk(tmp_path_factory.mktemp("corpus"), train=32, rate=16_000, seconds=0.6)
    return [f"data.root={root}", f"data.cache={root}/cache"]


def options(corpus, *more: str) -> list[str]:
    quick = ("metrics=[si_sdr]", "trainer.max_epochs=3", "callbacks.clips=null", "logger=csv", "test=false",
             "data.val_limit=3")  # fmt: skip
    return [*TINY, *corpus, *quick, *more]


def at(**where) -> str:
    values = ", ".join(f"{key}: {value}" for key, value in where.items())
    return f"+callbacks.signal={{_target_: {__name__}.SignalAt, {values}}}"


def state(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)


def same(one: dict, two: dict) -> bool:
    return all(torch.equal(one["state_dict"][key], two["state_dict"][key]) for key in two["state_dict"])


@pytest.fixture
def handlers():
    """Those of a command, and pytest's own back again."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.parametrize(
    ("where", "more", "whole"),
    [
        ({"step": 1}, ["scheduler=cosine", "callbacks=ema", "callbacks.clips=null"], False),
        ({"step": 2, "number": "SIGINT"}, [], False),
        ({"step": 0}, ["trainer.accumulate_grad_batches=2", "data.batch_size=2"], False),
        ({"step": 3}, [], True),  # the last of the epoch: before its validation
        ({"validation": 1}, ["callbacks=ema", "callbacks.ema.decay=0.5", "callbacks.clips=null"], True),
        ({"validation": 0}, ["trainer.val_check_interval=2"], False),  # within an epoch
        ({"step": 3}, ["trainer.check_val_every_n_epoch=3"], True),  # there is none
        ({"step": 3, "epoch": 2}, ["callbacks.best=null", "trainer.limit_val_batches=0"], True),  # the very last
    ],
    ids=str,
)
def test_it_goes_on_as_if_it_had_not_been_stopped(corpus, tmp_path, handlers, where, more, whole):
    train_here(tmp_path / "whole", *options(corpus, *more))
    number = signal.Signals[where.get("number", "SIGTERM")]
    workers = ["data.workers=2"] if number == signal.SIGINT else []  # nor does it matter who reads the data
    with pytest.raises(StopError, match=rf"ended by {number.name} .*; the same command with ckpt_path=last goes on"):
        train_here(tmp_path / "broken", *options(corpus, *more, *workers, at(**where)))
    assert record.read(tmp_path / "broken")["status"] == "interrupted"
    stopped = state(tmp_path / "broken")
    loop = stopped["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert loop["is_last_batch"] == whole
    done = stopped["global_step"]
    assert done <= state(tmp_path / "whole")["global_step"] * (where.get("epoch", 1) + 1) / 3  # soon after it was asked

    train_here(tmp_path / "broken", *options(corpus, *more, "ckpt_path=last"))
    for name in ("last",) if "callbacks.best=null" in more else ("last", "best"):
        first, second = state(tmp_path / "whole", name), state(tmp_path / "broken", name)
        assert same(first, second)
        assert first["global_step"] == second["global_step"]
        assert MARK not in second
    first, second = record.read(tmp_path / "whole"), record.read(tmp_path / "broken")
    assert (first["status"], first["best"]) == (second["status"], second["best"])
    assert [row["val/si_sdr"] for row in first["curve"]] == [row["val/si_sdr"] for row in second["curve"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exit_code_is_the_signal_s(corpus, tmp_path, capsys, number):
    with pytest.raises(SystemExit) as end, one_line():
        train_here(tmp_path, *options(corpus, at(step=1, epoch=0, number=number.name)))
    assert end.value.code == 128 + number
    assert SignalAt.then == [signal.SIG_DFL] * 2  # it would end at once
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "goes on" in line]
    assert re.search(
        rf"ended by {number.name} after step 2, in epoch 1; .*ckpt_path=last goes on from .*last\.ckpt", line
    )


def test_sigterm_where_nothing_trains_yet_is_an_exception_too(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    cleared = []

    def prepare() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            cleared.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)  # the second one is not held up

    try:
        with pytest.raises(SystemExit) as end:
            run(prepare, list)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert end.value.code == 143
    assert capsys.readouterr().err == "interrupted\n"
    assert cleared == [True]


def test_a_training_with_a_handler_of_slurm_s_is_queued_again(corpus, tmp_path, monkeypatch):
    said = tmp_path / "said"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for key, value in {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(StopError, match="job 16_3 is queued again") as stop:
        train_here(tmp_path / "run", *options(corpus, at(step=1, epoch=0, number="SIGUSR1")))
    assert stop.value.code == 128 + signal.SIGUSR1
    assert said.read_text() == "requeue 16_3\n"
    assert state(tmp_path / "run")["global_step"] == 2
    assert not list((tmp_path / "run").rglob("hpc_ckpt*"))  # Lightning's own, from which nothing would go on


def test_submitit_s_handlers_are_heard_once_the_checkpoint_is_written(corpus, tmp_path, handlers):
    pytest.importorskip("submitit")
    from submitit.core.job_environment import SignalHandler
    from submitit.core.utils import JobPaths

    class Job(SignalHandler):
        """With its own requeueing: what it does there is not ours."""

        def checkpoint_and_try_requeue(self, number, frame=None):
            steps.append(state(tmp_path)["global_step"])
            sys.exit(-1)

    steps: list[int] = []
    job = Job(None, JobPaths(tmp_path, "1"), None)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    try:
        signal.signal(signal.SIGTERM, job.bypass)
        signal.signal(signal.SIGUSR2, job.checkpoint_and_try_requeue)
        train_here(tmp_path / "term", *options(corpus, at(step=1, epoch=0)))  # to its end: SIGTERM is no end there
        with pytest.raises(SystemExit):
            train_here(tmp_path, *options(corpus, at(step=1, epoch=0, number="SIGUSR2")))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert steps == [2]


def test_weights_that_are_no_numbers_do_not_replace_those_that_are(corpus, tmp_path):
    class Spoil(Callback):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch == 1:  # as a last step of an infinite gradient would, of which no loss tells
                next(module.denoiser.net.parameters()).data.fill_(float("nan"))

    Spoiling.make = Spoil
    more = (f"+callbacks.spoil={{_target_: {__name__}.Spoiling.make}}", "trainer.check_val_every_n_epoch=3")
    with pytest.raises(DivergedError, match=r"no finite numbers by step 8, in epoch 2"):
        train_here(tmp_path, *options(corpus, *more))
    assert state(tmp_path)["epoch"] == 0
    assert record.read(tmp_path)["status"] == "diverged"


class Spoiling:
    make: type[Callback]
