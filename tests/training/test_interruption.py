"""A training that a signal ends: it leaves a checkpoint and goes on from there as if it had never been stopped."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from conftest import TINY, train_here, write_vctk
from denoiser.console import one_line, run
from denoiser.errors import DivergedError, StopError
from denoiser.training import record
from signals import SignalAt, doing, signal_at


class SpoilWeights(Callback):
    """Makes a weight NaN at the end of the second epoch, as a step with an infinite gradient would."""

    def on_train_epoch_end(self, trainer, module) -> None:
        if trainer.current_epoch == 1:
            next(module.denoiser.net.parameters()).data.fill_(float("nan"))


class StopAt(Callback):
    """Ends the training, as max_time does, within the gradients that are accumulated of two batches."""

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        trainer.should_stop |= (trainer.current_epoch, index) == (1, 2)


@pytest.fixture(autouse=True)
def handlers():
    """Return a function that tells the signal handlers; a test begins with those of a program in the foreground."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    # A shell's background jobs ignore Ctrl-C, and tests before this one may have left a handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield lambda: {number: signal.getsignal(number) for number in before}
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = write_vctk(tmp_path_factory.mktemp("corpus"), train=32, rate=16_000, seconds=0.6)
    return [f"data.root={root}", f"data.cache={root}/cache"]


def options(corpus, *more: str) -> list[str]:
    quick = ("metrics=[si_sdr]", "trainer.max_epochs=3", "callbacks.clips=null", "logger=csv", "test=false",
             "data.val_limit=3")  # fmt: skip
    return [*TINY, *corpus, *quick, *more]


def state(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("where", "more", "steps"),
    [
        # An epoch has four steps. The stops are in the middle of the second, before its end, ...
        ({"step": 1, "number": "SIGINT"}, ["scheduler=cosine", "callbacks=ema", "callbacks.clips=null"], 6),
        # ... after the rest of a batch whose gradients are accumulated, ...
        ({"step": 0}, ["trainer.accumulate_grad_batches=2", "data.batch_size=2"], 5),
        # ... after the validation that is due, or has begun, at the epoch's end or within it, ...
        ({"step": 3}, [], 8),
        ({"validation": 1}, [], 8),
        ({"validation": 0}, ["trainer.val_check_interval=2"], 7),
        # ... and after the very last step.
        ({"step": 3, "epoch": 2}, ["callbacks.best=null", "trainer.limit_val_batches=0"], 12),
    ],
    ids=str,
)
def test_a_resumed_training_is_the_one_that_was_not_stopped(corpus, tmp_path, handlers, capsys, where, more, steps):
    before = handlers()
    number = signal.Signals[where.get("number", "SIGTERM")]
    # Worker processes read ahead; what they have read is read again.
    workers = ["data.workers=2"] if number == signal.SIGINT else []
    arguments = options(corpus, *more, *workers)
    with pytest.raises(StopError, match=rf"ended by {number.name} .*; the same command with ckpt_path=last goes on"):
        train_here(tmp_path / "run", *arguments, signal_at(**where))
    assert handlers() == before
    assert record.read(tmp_path / "run")["status"] == "interrupted"
    assert state(tmp_path / "run")["global_step"] == steps

    assert "epoch 1/3" in capsys.readouterr().out
    train_here(tmp_path / "run", *arguments, "ckpt_path=last")
    assert "epoch 1/3" not in capsys.readouterr().out  # begun anew it would have the same weights
    train_here(tmp_path / "whole", *options(corpus, *more))
    for name in ("last",) if "callbacks.best=null" in more else ("last", "best"):
        whole, resumed = state(tmp_path / "whole", name), state(tmp_path / "run", name)
        torch.testing.assert_close(resumed["state_dict"], whole["state_dict"], rtol=0, atol=1e-5)
        assert resumed["global_step"] == whole["global_step"]
    assert record.read(tmp_path / "run")["status"] == "finished"
    first, second = ([row["val/si_sdr"] for row in record.read(tmp_path / run)["curve"]] for run in ("whole", "run"))
    assert second == pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize(
    "more", [[], ["trainer.val_check_interval=3", "trainer.check_val_every_n_epoch=null"]], ids=["epochs", "batches"]
)
def test_a_training_that_a_limit_ended_within_an_epoch_goes_on_there(corpus, tmp_path, more):
    for folder, steps in (("run", 6), ("whole", 10)):
        train_here(tmp_path / folder, *options(corpus, *more, f"trainer.max_steps={steps}"))
    train_here(tmp_path / "run", *options(corpus, *more, "trainer.max_steps=10", "ckpt_path=last"))
    whole, resumed = state(tmp_path / "whole"), state(tmp_path / "run")
    torch.testing.assert_close(resumed["state_dict"], whole["state_dict"], rtol=0, atol=1e-5)
    assert (resumed["epoch"], resumed["global_step"]) == (whole["epoch"], 10)


def test_a_training_that_its_time_ended_within_accumulated_gradients_makes_no_half_step(corpus, tmp_path):
    more = ["data.batch_size=2", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=2"]
    train_here(tmp_path / "run", *options(corpus, *more, f"+callbacks.stop._target_={__name__}.StopAt"))
    assert state(tmp_path / "run")["global_step"] == 5
    train_here(tmp_path / "run", *options(corpus, *more, "ckpt_path=last"))
    train_here(tmp_path / "whole", *options(corpus, *more))
    whole, resumed = state(tmp_path / "whole"), state(tmp_path / "run")
    assert resumed["global_step"] == whole["global_step"]
    weights = [key for key in whole["state_dict"] if "running" not in key and "tracked" not in key]
    for key in weights:
        torch.testing.assert_close(resumed["state_dict"][key], whole["state_dict"][key], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_a_signal_to_the_whole_group_of_processes_leaves_the_data_workers_at_work(corpus, tmp_path, monkeypatch, name):
    def signal_all() -> None:
        # Sent by another process, as by a terminal: torch's workers end by themselves at the parent's SIGTERM.
        group = [os.getpid(), *(worker.pid for worker in multiprocessing.active_children())]
        subprocess.run(["kill", f"-{name}", *map(str, group)], check=True)

    # More batches are due before the stop than the workers have read ahead.
    more = ["data.workers=2", "data.batch_size=1", "trainer.accumulate_grad_batches=8"]
    with pytest.raises(StopError, match=rf"ended by SIG{name} after step 3, in epoch 2; .* goes on from"):
        train_here(tmp_path, *options(corpus, *more, doing(signal_all, monkeypatch, epoch=1, step=0)))
    assert record.read(tmp_path)["status"] == "interrupted"


def test_the_exit_code_and_the_last_line_name_the_signal(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit) as end, one_line():
        train_here(tmp_path, *options(corpus, signal_at(step=1, epoch=0)))
    assert end.value.code == 128 + signal.SIGTERM
    # A second signal would end the process at once.
    assert SignalAt.handlers_after == [signal.SIG_DFL] * 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "goes on" in line]
    assert re.search(r"ended by SIGTERM after step 2, in epoch 1; .*ckpt_path=last goes on from .*last\.ckpt", line)


def test_sigterm_before_the_training_ends_the_program_by_an_exception(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def prepare() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    with pytest.raises(SystemExit) as end:
        run(prepare, list)
    assert end.value.code == 143
    assert capsys.readouterr().err == "interrupted\n"


def test_slurm_s_warning_queues_the_job_again(corpus, tmp_path, monkeypatch):
    said = tmp_path / "said"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for key, value in {"SLURM_JOB_ID": "17", "SLURM_ARRAY_JOB_ID": "16", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(StopError, match="job 16_3 is queued again") as stop:
        train_here(tmp_path / "run", *options(corpus, signal_at(step=1, epoch=0, number="SIGUSR1")))
    assert stop.value.code == 128 + signal.SIGUSR1
    assert said.read_text() == "requeue 16_3\n"
    assert state(tmp_path / "run")["global_step"] == 2


def test_another_program_s_handlers_are_called_once_the_checkpoint_is_written(corpus, tmp_path):
    """submitit has two: SIGTERM is to be ignored, and USR2 queues the job again and exits."""
    calls = []

    def ignore(number, frame) -> None:
        calls.append((number, state(tmp_path)["global_step"]))

    def queue_again(number, frame) -> None:
        ignore(number, frame)
        sys.exit(-1)

    signal.signal(signal.SIGTERM, ignore)
    signal.signal(signal.SIGUSR2, queue_again)
    then = signal_at(step=2, epoch=0, number="SIGUSR2").replace(".signal=", ".then=")
    with pytest.raises(SystemExit):
        train_here(tmp_path, *options(corpus, signal_at(step=0, epoch=0), then))
    assert calls == [(signal.SIGTERM, 1), (signal.SIGUSR2, 3)]
    # Lightning's own handlers are gone again.
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)] == [ignore, queue_again]


def test_weights_that_are_not_finite_do_not_replace_a_good_checkpoint(corpus, tmp_path):
    more = (f"+callbacks.spoil={{_target_: {__name__}.SpoilWeights}}", "trainer.check_val_every_n_epoch=3")
    with pytest.raises(DivergedError, match=r"no finite numbers by step 8, in epoch 2"):
        train_here(tmp_path, *options(corpus, *more))
    assert state(tmp_path)["epoch"] == 0
    assert record.read(tmp_path)["status"] == "diverged"
