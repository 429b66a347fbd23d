"""Sweeps: names of folders, resuming, failures, early ends, launchers, shards."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from conftest import ROOT, TINY, composed, run_command, train_here, write_pair, write_vctk
from denoiser import Denoiser, filesystem
from denoiser.cli import infer, train
from denoiser.console import one_line
from denoiser.errors import ConfigError, DenoiserError, DivergedError
from denoiser.evaluation import files
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import plan
from denoiser.settings import CONF, check_shard
from denoiser.sweep import job, naming
from denoiser.sweep.pruning import CURVE, read_values
from denoiser.training import record
from signals import SignalAt, signal_at

DIVERGES = "optimizer.lr=1e30"
SWEEP = "model=unet6,unet8 seed=0,1 data=synthetic optimizer.lr=1e-3"


def sweep_of(*overrides: str, new_sweep: bool = False, **params: str):
    """Return the configuration that a resolver gets of ``train.py -m overrides``."""
    runtime = {"choices": {"data": "synthetic", "sweep": None}}
    hydra = {"overrides": {"task": list(overrides)}, "runtime": runtime, "sweeper": {"params": params}}
    return OmegaConf.create({"hydra": {**hydra, "job": {"num": 7}}, "new_sweep": new_sweep})


@pytest.mark.parametrize(
    ("typed", "more", "same"),
    [
        ("optimizer.lr=0.001 seed=1,0 data='synthetic' model=unet8,unet6", {}, True),
        ("model=unet6,unet8,unet14 seed=range(5) data=synthetic optimizer.lr=1e-3", {}, True),  # more of it
        ("model=unet6,unet8 data=synthetic optimizer.lr=1e-3 trainer.gpus=0", {"seed": "1,2"}, True),
        ("model=unet6,unet8 seed=0,1 data=synthetic optimizer.lr=2e-3", {}, False),
        ("model=unet6,unet8 seed=0 data=synthetic optimizer.lr=1e-3", {}, False),
        (SWEEP, {"new_sweep": True}, False),
    ],
)
def test_the_same_sweep_has_the_same_folder_however_it_is_typed(typed, more, same):
    first = naming.sweep_folder("sweeps", _root_=sweep_of(*SWEEP.split()))
    other = naming.sweep_folder("sweeps", _root_=sweep_of(*typed.split(), **more))
    assert re.fullmatch(r"sweeps/synthetic-model-seed-[0-9a-f]{6}", first)
    assert (first == other) == same


def test_a_run_is_named_by_the_swept_settings_in_any_order():
    def name(*keys, given=("seed=1", "model=unet6", "optimizer.lr=0.001", "data=synthetic")):
        return naming.run_name(*keys, _root_=sweep_of(*given))

    assert name("model", "optimizer.lr", "seed") == name("seed", "model", "optimizer.lr") == "unet6-lr0.001-seed1"
    assert name() == "synthetic-unet6-lr0.001-seed1"
    assert name(given=()) == "7"
    odd = {name("data.root", given=(f"data.root='{text}'",)) for text in ("a/b", "a b", "a_b", "x" * 300, "x" * 301)}
    assert len(odd) == 5
    assert all(re.fullmatch(r"[\w.+-]{1,80}", text) for text in odd)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus, prepared, as data.* settings."""
    root = write_vctk(tmp_path_factory.mktemp("corpus"), rate=16_000, seconds=0.6)
    return [f"data.root={root}", f"data.cache={root}/cache"]


def options(corpus, *more: str) -> list[str]:
    return [*TINY, *corpus, "metrics=[si_sdr]", "trainer.max_epochs=1", "callbacks.clips=null", "logger=csv", *more]


def test_a_loss_that_is_not_finite_ends_the_run_and_is_recorded(corpus, tmp_path):
    with pytest.raises(DivergedError, match=r"^the loss is (nan|inf) at step \d, in epoch 1: .*optimizer\.lr"):
        train_here(tmp_path / "run", *options(corpus, DIVERGES, "data.batch_size=1", "trainer.log_every_n_steps=2"))
    found = record.read(tmp_path / "run")
    assert (found["status"], found["best"], found["config"]["optimizer"]["lr"]) == ("diverged", None, 1e30)
    assert found["reason"].startswith("the loss is nan")
    assert DIVERGES in found["overrides"]
    # One step, and what is wrong with it shows in the validation.
    with pytest.raises(DivergedError, match=r"^the loss of the validation is nan, in epoch 1"):
        train_here(tmp_path / "one", *options(corpus, DIVERGES, "trainer.limit_train_batches=1"))
    assert not (tmp_path / "one/checkpoints/best.ckpt").exists()


def test_a_run_of_a_sweep_is_skipped_resumed_or_begun_anew(corpus, tmp_path, monkeypatch, capsys):
    def run(*more):
        value = job.run(composed(*options(corpus, *more)), tmp_path / "sweep/a")
        return value, capsys.readouterr(), record.read(tmp_path / "sweep/a")

    value, _, first = run("test=false")
    assert first["status"] == "finished"
    assert value == first["best"]
    again, said, second = run("test=false", "callbacks.progress.refresh_rate=5")  # which changes no result
    assert (again, second) == (value, first)
    assert "not run again" in said.out

    record.write(tmp_path / "sweep/a", {**first, "status": "running", "best": None})  # as kill -9 leaves it
    resumed, said, third = run("test=false")
    assert "goes on from its last checkpoint" in said.out
    assert "epoch 1/1" not in said.out  # there was nothing left of it
    assert (resumed, third["status"]) == (value, "finished")

    _, said, fourth = run("test=false", "optimizer.lr=2e-3")
    assert "optimizer.lr was 0.001, is 0.002" in said.out
    assert fourth["config"]["optimizer"]["lr"] == 2e-3
    kept = tmp_path / "sweep/replaced/a-1"
    assert json.loads((kept / "run.replaced.json").read_text()) == third
    assert (kept / "checkpoints/best.ckpt").is_file()
    assert [Path(found["folder"]).name for found in record.find([tmp_path])] == ["a"]

    value, said, fifth = run("test=false", DIVERGES)
    assert (value, fifth["status"]) == (None, "diverged")
    assert "a: diverged: the loss" in said.err
    with filesystem.locked(tmp_path / "sweep/a/.lock"):
        value, said, _ = run("test=false")
    assert (value, said.out) == (None, "a: another process works on it\n")
    # A trial of a search waits for it, as it would count as failed.
    lock, other = filesystem.lock, filesystem.lock(tmp_path / "sweep/a/.lock")

    def other_ends(path: Path, wait: bool = False, **more: bool) -> int | None:
        if wait:
            os.close(other)
        return lock(path, wait=wait, **more)

    monkeypatch.setattr(filesystem, "lock", other_ends)
    value, said, sixth = run("test=false", "sweep=optuna")
    assert "a: waits for the process that works on it" in said.out
    assert value == sixth["best"] is not None


def multirun(monkeypatch, cwd: Path, *arguments: str, command: Callable = train.run, config: str = "train") -> int:
    """Return the exit code of ``train.py -m`` in this process: to start one costs ten seconds."""
    quiet = ("hydra/hydra_logging=none", "hydra/job_logging=none")
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as the commands do
    monkeypatch.setattr(sys, "argv", [f"{config}.py", "-m", *arguments, *quiet])
    try:
        with one_line():
            hydra.main(version_base="1.3", config_path=CONF, config_name=config)(command)()
    except SystemExit as end:
        return end.code
    return 0


def test_a_run_worse_than_the_median_of_its_sweep_ends_early(corpus, tmp_path, capsys):
    def sibling(name: str, value: float, epochs: int = 5) -> None:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / CURVE).write_text("".join(f"{e},{value}\n" for e in range(1, epochs + 1)) + "9,")

    def run(name: str, *end: str):
        rule = "_target_: denoiser.sweep.pruning.MedianPruner, monitor: val/si_sdr, first_epoch: 2, runs: 2"
        more = (f"+callbacks.pruning={{{rule}}}", "test=false", "trainer.max_epochs=3", *end)
        return job.run(composed(*options(corpus, *more)), tmp_path / name), record.read(tmp_path / name)

    sibling("a", 90.0)
    sibling("b", 80.0, epochs=1)  # did not come as far
    sibling("c", float("nan"))  # counts nowhere
    assert run("alone")[1]["status"] == "finished"
    sibling("b", 80.0)
    value, found = run("hopeless")
    assert found["status"] == "pruned"
    assert re.match(r"after epoch 2 its best val/si_sdr, .* is worse than the median of the 3 other", found["reason"])
    assert value == max(read_values(tmp_path / "hopeless" / CURVE, until=2))
    assert "hopeless: pruned: after epoch 2" in capsys.readouterr().out
    # One that ends there anyway finishes.
    assert run("short", "trainer.max_steps=2")[1]["status"] == "finished"
    # A search that asks for the same settings again gets the same value.
    assert run("hopeless")[0] == found["best"] == value
    for name in ("a", "b"):
        sibling(name, -90.0)
    assert run("hopeful")[1]["status"] == "finished"


def test_a_sweep_that_is_killed_goes_on_and_repeats_nothing(corpus, tmp_path, monkeypatch, capsys):
    def statuses() -> dict[str, str]:
        return {Path(r["folder"]).name: r["status"] for r in record.find([tmp_path / "sweeps"])}

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    killer = signal_at(step=0, epoch=1, number="SIGKILL")
    arguments = options(corpus, "test=false", "hydra.sweep.dir=sweeps/one", killer)
    killed = run_command("train.py", "-m", *arguments, "optimizer.lr=1e30,1e-3", "trainer.max_epochs=1,2", cwd=tmp_path)
    assert killed.returncode == -signal.SIGKILL
    diverged = {"lr1e+30-max_epochs1": "diverged", "lr1e+30-max_epochs2": "diverged"}
    assert statuses() == {**diverged, "lr0.001-max_epochs1": "finished", "lr0.001-max_epochs2": "running"}
    first = record.read(tmp_path / "sweeps/one/lr0.001-max_epochs1")

    monkeypatch.setattr(SignalAt, "_send", lambda *_: None)
    assert multirun(monkeypatch, tmp_path, *arguments, "trainer.max_epochs=2,1", "optimizer.lr=1e-3,1e30") == 2
    said = capsys.readouterr()
    assert "lr0.001-max_epochs2: goes on from its last checkpoint" in said.out
    assert "4 runs: 2 finished, 2 diverged" in said.out
    assert statuses() == {**diverged, "lr0.001-max_epochs1": "finished", "lr0.001-max_epochs2": "finished"}
    assert record.read(tmp_path / "sweeps/one/lr0.001-max_epochs1") == first
    assert re.search(r"sweeps/.*/lr1e\+30-max_epochs1: diverged: the loss", said.err)


def test_a_killed_study_asks_its_killed_trial_again_and_counts_it_once(corpus, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    url = f"sqlite:///{tmp_path}/sweep/study.db"
    (tmp_path / "sweep").mkdir()
    study = optuna.create_study(study_name="denoiser", storage=url, direction="maximize")
    rates = {"optimizer.lr": optuna.distributions.LogUniformDistribution(1e-4, 1e-2)}
    study.tell(study.ask(rates), 1.0)
    killed = study.ask(rates)
    more = ("test=false", "sweep=optuna", "data.batch_size=4", "model=unet10", "loss=l1", "hydra.sweep.dir=sweep")
    assert multirun(monkeypatch, tmp_path, *options(corpus, *more), "hydra.sweeper.n_trials=3") == 0
    _, *trials = optuna.load_study(study_name="denoiser", storage=url).trials
    assert [(t.number, t.state.name) for t in trials] == [(1, "FAIL"), (2, "COMPLETE"), (3, "COMPLETE")]
    assert trials[1].params == killed.params != trials[2].params
    assert {trial.value for trial in trials[1:]} == {found["best"] for found in record.find([tmp_path])}


def test_a_study_in_which_every_run_fails_ends_with_one_line(tmp_path):
    optuna = pytest.importorskip("optuna")
    from denoiser.sweep.study import Storage

    study = optuna.create_study(storage=Storage(f"sqlite:///{tmp_path}/study.db"))
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    with pytest.raises(DenoiserError, match="no run of this sweep finished"):
        _ = study.best_trial


def test_runs_at_once_give_the_same_scores_as_one_after_the_other(corpus, tmp_path, monkeypatch, capsys):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    arguments = options(corpus, "test=false", "seed=0,1")
    assert multirun(monkeypatch, tmp_path, *arguments, "hydra.sweep.dir=one") == 0
    assert "2 runs: 2 finished" in capsys.readouterr().out
    assert (tmp_path / "one/ranking.html").is_file()
    more = ("hydra.sweep.dir=two", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert multirun(monkeypatch, tmp_path, *arguments, *more) == 0
    for name in ("seed0", "seed1"):
        one, two = (record.read(tmp_path / sweep / name)["best"] for sweep in ("one", "two"))
        # Fewer threads each: sums are in another order.
        assert one == pytest.approx(two, rel=1e-5)


@pytest.mark.parametrize(("launcher", "extra"), [("submitit_local", "sweep"), ("ray", "ray")])
def test_a_missing_launcher_is_one_line(launcher, extra, tmp_path, monkeypatch, capsys):
    name = launcher.split("_")[0]
    monkeypatch.setitem(sys.modules, f"hydra_plugins.hydra_{name}_launcher.{name}_launcher", None)
    assert multirun(monkeypatch, tmp_path, "data=synthetic", f"hydra/launcher={launcher}") == 2
    assert capsys.readouterr().err.splitlines() == [
        f'error: hydra/launcher={launcher} needs a package that is missing: pip install "denoiser[{extra}]"'
    ]
    assert not list(tmp_path.iterdir())


def test_an_archive_in_shards_gives_the_same_files_as_in_one(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(files, "NAMES", ("si_sdr",))
    for index in range(3):
        name = f"{index % 2}/{index}.wav"
        write_pair(tmp_path / "archive" / name, tmp_path / "clean" / name, 0.5 + index / 5, 16_000, index)
    enhance_files(Denoiser.from_checkpoint(checkpoint, "cpu"), plan([str(tmp_path / "archive")], str(tmp_path / "one")))
    (tmp_path / "archive/bad.wav").write_bytes(b"no sound")
    before = set(tmp_path.iterdir())
    arguments = ("shard=range(2)", "shards=2", f"ckpt={checkpoint}", "input=archive", "output=two", "reference=clean")
    assert multirun(monkeypatch, tmp_path, *arguments, "device=cpu", command=infer.start, config="infer") == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("of 2: not all files were done, or scored")
    assert set(tmp_path.iterdir()) - before == {tmp_path / "two"}  # and nothing of Hydra's
    names = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.wav")]
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    counts = [json.loads((tmp_path / f"two/shard-{i}-of-2/scores.json").read_text())["n"] for i in range(2)]
    assert sum(counts) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shards=3"], r"shards=3: which part\? shard=0 to 2, or all: -m 'shard=range\(3\)'"),
        (["shards=3", "shard=3"], "shard=3: expected a number from 0 to 2"),
        (["shard=1"], "shard=1: of how many"),
        (["shards=0"], "shards=0: expected 1 or more"),
    ],
)
def test_a_shard_out_of_range_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_shard(composed("ckpt=a", "input=b", *arguments, config="infer"))
