"""Training as a person runs it: from the command to a tested checkpoint, interrupted, resumed, repeated."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from conftest import (
    SHARED,
    TINY,
    composed,
    make_noise,
    make_voice,
    needs_recordings,
    options,
    run_command,
    train_here,
    write_pair,
    write_vctk,
)
from denoiser import Denoiser
from denoiser.audio import write
from denoiser.cli.arguments import as_typed
from denoiser.cli.train import NAMES
from denoiser.errors import CheckpointError, CorpusError, DenoiserError
from denoiser.evaluation.metrics import METRICS
from denoiser.training import record
from denoiser.training.folder import RunFolder
from signals import doing


def run_folder(cwd: Path) -> Path:
    (folder,) = (cwd / "runs/vctk_demand-unet10-huber").iterdir()
    return folder


def assert_same_weights(run: Path, other: Path, tolerance: float, name: str = "last") -> None:
    one, two = (torch.load(f / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"] for f in (run, other))
    torch.testing.assert_close(one, two, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def trained(vctk, tmp_path_factory):
    """One finished training of 30 epochs: the folder it ran in, and what it printed."""
    cwd = tmp_path_factory.mktemp("trained")
    more = ("trainer.max_epochs=30", "trainer.check_val_every_n_epoch=10", "optimizer.lr=4e-3", "data.batch_size=2",
            "model.width=8")  # fmt: skip
    result = run_command("train.py", *options(vctk, *more), cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd, result.stdout


def test_what_a_run_leaves_behind(trained):
    cwd, printed = trained
    folder = run_folder(cwd)
    lines = printed.strip().splitlines()
    name = folder.relative_to(cwd).as_posix()
    assert lines[0] == lines[-1] == f"run folder: {name}"
    for part in ("parameters", "MAC per second", "p226 + p287 held out", "SNRs of 2 from", "by noise type"):
        assert part in printed
    assert sum(line.startswith("epoch ") for line in lines) == 3
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert json.loads((folder / "split.json").read_text())["test"] == ["p232_000", "p257_001"]
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [(row["name"], row["noise_type"], row["snr_db"]) for row in rows] == [
        ("p232_000", "bus", "2.5"), ("p257_001", "living", "17.5")
    ]  # fmt: skip
    scores = json.loads((folder / "scores.json").read_text())
    assert (scores["n"], scores["seed"]) == (2, 0)
    # It learns to remove noise from voices that it has not heard.
    assert scores["enhanced"]["si_sdr"] > scores["noisy"]["si_sdr"] + 3
    for kind in ("noisy", "enhanced"):
        mean = sum(float(row[f"{kind}_si_sdr"]) for row in rows) / 2
        assert scores[kind]["si_sdr"] == pytest.approx(mean, abs=1e-4)
        assert f"{mean:.2f}" in printed


def test_tensorboard_shows_losses_scores_sound_and_pictures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder(trained[0]))).Reload()
    tags = events.Tags()
    assert {"train/loss_step", "val/loss", "val/si_sdr", "lr-Adam", "cost/macs_per_second"} <= set(tags["scalars"])
    assert any("config" in tag for tag in tags["tensors"])
    assert {"p226_001/noisy", "p226_001/enhanced", "p226_001/clean"} <= set(tags["audio"])
    assert len(events.Scalars("val/si_sdr")) == len(events.Audio("p226_001/enhanced")) == 3
    pytest.importorskip("matplotlib")
    assert len(events.Images("p226_001/spectrogram")) == 3


def test_a_checkpoint_is_plain_data_and_denoises(trained):
    path = run_folder(trained[0]) / "checkpoints/best.ckpt"
    settings = torch.load(path, weights_only=True)["hyper_parameters"]
    assert (settings["spectral"]["sample_rate"], settings["model"]["name"]) == (16_000, "unet")
    assert json.loads(json.dumps(settings)) == settings  # primitives only
    voice = make_voice(1.0, 16_000, 50)
    noisy = voice + make_noise(1.0, 16_000, 50)
    enhanced = Denoiser.from_checkpoint(path, "cpu").enhance(noisy, 16_000)
    assert (enhanced - voice).square().mean() < (noisy - voice).square().mean()


def test_the_same_seed_gives_the_same_run_and_another_does_not(vctk, tmp_path):
    more = ("trainer.max_epochs=1", "metrics=[si_sdr]", "callbacks.clips=null", f"data.cache={tmp_path}/cache")
    for name, seed, deterministic in (("a", 3, "true"), ("b", 3, "true"), ("c", 4, "false")):
        train_here(tmp_path / name, *options(vctk, *more, f"seed={seed}", f"deterministic={deterministic}"))
        # Torch then refuses operations that may give other bits again.
        assert torch.are_deterministic_algorithms_enabled() == (deterministic == "true")
    a, b, c = (json.loads((tmp_path / name / "scores.json").read_text()) for name in "abc")
    assert a["enhanced"] == pytest.approx(b["enhanced"], abs=1e-4)
    assert a["enhanced"] != pytest.approx(c["enhanced"], abs=1e-3)
    assert_same_weights(tmp_path / "a", tmp_path / "b", tolerance=1e-6)


# Lightning goes on otherwise where the steps have a limit.
@pytest.mark.parametrize("end", ["trainer.max_epochs=4", "trainer.max_steps=19"])
def test_a_killed_training_goes_on_as_the_one_that_was_not_killed(vctk, tmp_path, monkeypatch, capsys, end):
    more = (end, "scheduler=cosine", "test=false", "data.batch_size=1", "metrics=[si_sdr]",
            "callbacks.clips=null", f"data.cache={tmp_path}/cache")  # fmt: skip
    run, killed, whole = (tmp_path / name for name in ("run", "killed", "whole"))
    # These files are left by a process that is killed there.
    copy = doing(lambda: shutil.copytree(run, killed), monkeypatch, epoch=2, step=1)
    train_here(run, *options(vctk, *more, copy))
    run.rename(whole)
    killed.rename(run)
    assert (record.read(run)["status"], "epoch 1/" in capsys.readouterr().out) == ("running", True)
    train_here(run, *options(vctk, *more, "ckpt_path=last"))
    assert "epoch 1/" not in capsys.readouterr().out  # which would give the same weights
    for name in ("last", "best"):
        assert_same_weights(whole, run, tolerance=1e-5, name=name)


def test_a_new_run_does_not_overwrite_the_checkpoints_of_an_earlier_one(vctk, tmp_path):
    kept = tmp_path / "run" / "checkpoints" / "best.ckpt"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"weights")
    with pytest.raises(DenoiserError, match=r"run/checkpoints: .* would overwrite; ckpt_path=last goes on"):
        train_here(tmp_path / "run", f"data.root={vctk}")
    assert kept.read_bytes() == b"weights"
    # An interrupted run may have no last.ckpt yet: its command begins anew.
    RunFolder(tmp_path / "run", composed("ckpt_path=last")).check_unused(None)


def test_a_metric_that_no_validation_file_defines_chooses_no_checkpoint(tmp_path, capsys):
    for i in range(4):
        write_pair(tmp_path / f"noisy/{i}.wav", tmp_path / f"clean/{i}.wav", 0.6, 16_000, i)
    for side, sound in (("noisy", make_noise(0.6, 16_000)), ("clean", torch.zeros(1, 9600))):
        write(tmp_path / f"valid/{side}/a.wav", sound, 16_000)
    more = ("data=folders", f"data.root={tmp_path}", f"data.cache={tmp_path}/cache", "trainer.max_epochs=2")
    train_here(tmp_path / "run", *TINY, *more, "metrics=[si_sdr]", "callbacks.clips=null")
    assert "val/si_sdr is defined for no validation file" in capsys.readouterr().out
    assert record.read(tmp_path / "run")["checkpoint"] == "checkpoints/last.ckpt"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["trainer.max_steps=4", "trainer.check_val_every_n_epoch=5"], "due after 5 batches, and .* ends after 4"),
        (["trainer.max_epochs=2", "trainer.val_check_interval=10", "trainer.check_val_every_n_epoch=null"],
         "due after 10 batches"),
        (["trainer.max_steps=3", "trainer.accumulate_grad_batches=3", "data.batch_size=1",
          "trainer.check_val_every_n_epoch=2"], "due after 8 batches, and .* ends after 7"),
    ],
)  # fmt: skip
def test_a_run_without_a_validation_says_so_before_it_trains(vctk, tmp_path, capsys, settings, said):
    quick = ("test=false", "metrics=[si_sdr]", "callbacks.clips=null", "clips=0")
    train_here(tmp_path, *options(vctk, *quick, *settings))
    assert re.search(f"warning: the first validation is {said}.*no best.ckpt", capsys.readouterr().out)
    assert not (tmp_path / "checkpoints/best.ckpt").exists()


def test_resuming_with_other_settings_or_files_is_refused_and_init_from_is_not(trained, vctk, tmp_path):
    run = run_folder(trained[0])
    path = run / "checkpoints/best.ckpt"
    arguments = options(vctk, "model.width=8", "trainer.max_epochs=1", "test=false", f"data.cache={tmp_path}/cache")
    older = torch.load(path, weights_only=True)
    for later in ("two_levels", "shifts"):  # settings that it could not know
        del older["hyper_parameters"]["spectral"][later]
    torch.save(older, tmp_path / "older.ckpt")
    train_here(
        tmp_path / "run",
        *arguments,
        f"init_from={tmp_path}/older.ckpt",
        "loss=l1",
        "optimizer.lr=0",
        "spectral.shifts=2",
    )
    # Nothing is learned at a rate of 0: these are the weights it took.
    assert_same_weights(run, tmp_path / "run", tolerance=0, name="best")
    loss = r"settings differ: loss\._target_ was denoiser\.losses\.Huber, is .*loss\.delta was 1\.0, is None"
    resumed = (f"ckpt_path={path}", "optimizer.lr=4e-3")
    for more, message in (
        ((*resumed, "loss=l1"), loss),
        (resumed, r"training\.batch_size was 2, is 4"),
        ((f"init_from={path}", "model.width=5"), r"model\.width was 8, is 5"),
        ((f"init_from={path}", "spectral.power=0.5"), r"other spectra.*power was 0\.3, is 0\.5"),
    ):
        with pytest.raises(CheckpointError, match=message):
            train_here(tmp_path / "refused", *arguments, *more)
    other = f"data.root={write_vctk(tmp_path / 'other', train=12)}"
    with pytest.raises(CorpusError, match="other files"):
        train_here(run, *arguments, "data.batch_size=2", "optimizer.lr=4e-3", other, "ckpt_path=last")


def test_a_run_of_an_older_version_s_default_scheduler_goes_on(vctk, tmp_path):
    quick = ("test=false", "metrics=[si_sdr]", "callbacks.clips=null", "clips=0", f"data.cache={tmp_path}/cache")
    older = (f"scheduler._target_={record.OLD_CONSTANT['_target_']}", "+scheduler.factor=1.0")
    train_here(tmp_path / "run", *options(vctk, *quick, *older, "trainer.max_epochs=1"))
    path = tmp_path / "run/checkpoints/last.ckpt"
    assert torch.load(path, weights_only=True)["hyper_parameters"]["scheduler"] == record.OLD_CONSTANT
    # The folder of a run means its last checkpoint.
    train_here(tmp_path / "run", *options(vctk, *quick, "trainer.max_epochs=2", f"ckpt_path={tmp_path}/run"))
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-3
    assert [row["epoch"] for row in record.read(tmp_path / "run")["curve"]] == [1, 2]


def test_overfit_drives_one_patch_to_near_zero(vctk, tmp_path):
    more = (f"data.root={vctk}", f"data.cache={tmp_path}/cache", "trainer.max_epochs=100", "logger=csv")
    train_here(tmp_path, "debug=overfit", "model=unet6", "optimizer.lr=3e-3", "trainer.gpus=0", *more)
    with (tmp_path / "csv/version_0/metrics.csv").open() as file:
        losses = [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
    assert len(losses) == 100
    assert losses[-1] < 5e-3 * losses[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor=test/pesq"], "only validation chooses"),
        (["+callbacks.a={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: test/x}"], "only validation"),
        (["seed=-1"], "seed"),
        (["trainer.max_epochs=-1", "scheduler=cosine"], "needs the number of steps"),
        (["trainer.val_check_interval=500"], "val_check_interval"),
        (["data.cache=/proc/nowhere"], "cannot be written"),
        (["data.root=nowhere"], "not VCTK-DEMAND"),
        (["data.shuffle=off"], "expected true or false"),
        (["model.depth=x"], "depth=x"),
        (["metrics=[pesk]"], "metric pesk is unknown"),
        (["data.root=null"], r"data\.root missing"),
        (["data=folders", "data.root=null"], r"data\.root missing"),
        (["ckpt_path=nowhere.ckpt"], "no such checkpoint"),
        (["init_from=small"], r"other spectra: .*; with experiment=small$"),
        (["experiment=small", "data=vctk_demand", "init_from=small", "model=unet6"], r"network: .*experiment=small$"),
        (["trainer.precision=12"], "precision"),
        (["trainer.precision=bf16-true"], r"^trainer\.precision=bf16-true: expected 32-true, bf16-mixed"),
        (["trainer.limit_train_batches=0.01"], r"^trainer: .*limit_train_batches"),
        (["data._target_=denoiser.data.typo.X"], r"^data\._target_=denoiser\.data\.typo\.X: .*No module named"),
        (["data._target_=denoiser.data.pairs.Paris"], r"^data\._target_=denoiser\.data\.pairs\.Paris: .*no attribute"),
        (["~data._target_"], r"^data\._target_=None: "),
        (["trainer.max_time=1"], r"^trainer\.max_time=1: expected DAYS:HOURS"),
        (["data.val_limit=many"], r"^data\.val_limit=many: expected null, or a whole number"),
        (["data.val_limit=0"], r"^data\.val_limit=0: expected null, or a whole number, 1 or more"),
        (["data.batch_size=abc"], r"^data\.batch_size=abc: expected a whole number, 1 or more"),
        (["data.batch_size=2.5"], r"^data\.batch_size=2\.5: expected a whole number"),
        (["data.frames=1"], r"^data\.frames=1: expected a whole number, 2 or more"),
        (["data.frames=1.5"], r"^data\.frames=1\.5: expected a whole number"),
        (["data.seed=-1"], r"^data\.seed=-1: expected a whole number, 0 or more"),
        (["data=synthetic", "data.corpus_seed=-1"], r"^data\.corpus_seed=-1: expected a whole"),
        (["data=synthetic", "data.minutes=many"], "minutes=many, expected 0 or more"),
    ],
)
def test_a_mistake_is_named_and_leaves_nothing(vctk, tmp_path, overrides, message):
    with pytest.raises(DenoiserError, match=message):
        train_here(tmp_path / "run", f"data.root={vctk}", *overrides)
    # The number of steps, and of batches, is asked for once the run has begun.
    late = ("scheduler=cosine", "trainer.limit_train_batches=0.01")
    assert (tmp_path / "run").exists() == any(override in late for override in overrides)


@pytest.mark.parametrize(
    "overrides",
    [["spectral=8k", "optimizer=adamw", "scheduler=cosine", "loss=mse", "monitor=val/loss"],
     ["spectral=48k", "trainer.precision=bf16-mixed", "model.norm=batch", "model.upsampling=subpixel"],
     [f"metrics=[{','.join(METRICS)}]", "monitor=val/lsd", "metric_workers=1"]],
    ids=lambda overrides: overrides[0],
)  # fmt: skip
def test_variants_run_from_end_to_end(vctk, tmp_path, overrides):
    train_here(tmp_path / "run", *options(vctk, f"data.cache={tmp_path}/cache", "debug=fast", *overrides))
    # debug=fast takes one batch of each split.
    assert json.loads((tmp_path / "run/scores.json").read_text())["n"] == 1
    denoiser = Denoiser.from_checkpoint(tmp_path / "run/checkpoints/best.ckpt", "cpu")
    assert denoiser.enhance(make_noise(0.1, 44_100), 44_100).any()


@pytest.mark.parametrize("batch", [1, 4])
def test_validation_by_batches_comes_in_small_and_large_corpora(vctk, tmp_path, capsys, batch):
    every = ("trainer.val_check_interval=3", "trainer.check_val_every_n_epoch=null", "trainer.max_steps=6")
    quick = ("test=false", "metrics=[si_sdr]", "callbacks.clips=null", "clips=0", f"data.cache={tmp_path}/cache")
    train_here(tmp_path / "run", *options(vctk, *quick, *every, f"data.batch_size={batch}"))
    assert [row["step"] for row in record.read(tmp_path / "run")["curve"]] == [3, 6]
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    assert sum(line.startswith("epoch ") for line in capsys.readouterr().out.splitlines()) == 2


def test_the_demo_experiment_runs_on_a_corpus_it_writes_itself(tmp_path):
    pytest.importorskip("espeakng_loader")
    more = (f"data.root={tmp_path}/corpus", f"data.cache={tmp_path}/cache", "data.minutes=0", "data.test_minutes=0")
    train_here(tmp_path / "run", "experiment=demo", "debug=fast", *TINY, "metrics=[si_sdr]", *more)
    assert (tmp_path / "corpus/noisy_trainset_28spk_wav/p226_001.wav").is_file()
    assert (tmp_path / "run/scores.csv").is_file()


@needs_recordings
def test_the_real_corpus_trains_and_its_noisy_row_is_the_known_one(tmp_path):
    corpus = SHARED / "vctk_demand_mini"
    more = ("trainer.max_epochs=1", "metrics=[si_sdr]", f"data.cache={tmp_path}/cache")
    train_here(tmp_path, f"data.root={corpus}", *TINY, *more)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["n"] == 24
    assert scores["noisy"]["si_sdr"] == pytest.approx(4.55, abs=0.05)


def test_a_corpus_may_be_called_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_vctk(tmp_path / "it's ${x}, [1] ${", train=4, test=2, rate=16_000)
    typed = ["data.root=it's ${x}, [1] ${", "data.cache=prepared (${y})", "trainer.max_epochs=1", "metrics=[si_sdr]"]
    train_here(tmp_path / "run", *TINY, *as_typed(typed, NAMES))
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    assert (tmp_path / "prepared (${y})").is_dir()
