"""Training as a person runs it: from the command to a tested checkpoint, interrupted, resumed, repeated."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SHARED, TINY, make_noise, make_voice, needs_recordings, run_command, write_vctk

from denoiser import Denoiser, audio


def options(vctk: Path, *more: str) -> list[str]:
    return [f"data.root={vctk}", *TINY, *more]


def run_folder(cwd: Path) -> Path:
    (folder,) = (cwd / "runs/vctk_demand-unet10-huber").iterdir()
    return folder


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def same(a: Path, b: Path, tolerance: float) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.allclose(one[k], two[k], rtol=0, atol=tolerance) for k in one)


@pytest.fixture(scope="module")
def trained(vctk, tmp_path_factory):
    """One finished training of 30 epochs: the folder it ran in, and what it printed."""
    cwd = tmp_path_factory.mktemp("trained")
    more = ("trainer.max_epochs=30", "trainer.check_val_every_n_epoch=10", "optimizer.lr=5e-3")
    result = run_command("train.py", *options(vctk, *more), cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd, result.stdout


def test_it_learns_to_remove_noise_from_voices_it_has_not_heard(trained):
    scores = json.loads((run_folder(trained[0]) / "scores.json").read_text())
    assert scores["enhanced"]["si_sdr"] > scores["noisy"]["si_sdr"] + 2


def test_what_a_run_leaves_behind(trained):
    cwd, printed = trained
    folder = run_folder(cwd)
    lines = printed.strip().splitlines()
    name = folder.relative_to(cwd).as_posix()
    assert lines[0] == lines[-1] == f"run folder: {name}"
    assert "parameters" in printed
    assert "MAC per second of audio" in printed
    assert "p226 + p287 held out" in printed
    assert sum(line.startswith("epoch ") for line in lines) == 3
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert json.loads((folder / "split.json").read_text())["test"] == ["p232_000", "p257_001"]
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    assert [row["name"] for row in rows] == ["p232_000", "p257_001"]
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["n"] == 2
    for kind in ("noisy", "enhanced"):
        mean = sum(float(row[f"{kind}_si_sdr"]) for row in rows) / 2
        assert scores[kind]["si_sdr"] == pytest.approx(mean, abs=1e-4)
        assert f"{mean:.2f}" in printed
    assert scores["seed"] == 0
    assert scores["versions"]["torch"] == torch.__version__


def test_tensorboard_shows_losses_scores_sound_and_pictures(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder(trained[0]))).Reload()
    tags = events.Tags()
    assert {"train/loss_step", "val/loss", "val/si_sdr", "lr-Adam", "cost/macs_per_second"} <= set(tags["scalars"])
    assert len(events.Scalars("val/si_sdr")) == 3
    clip = "p226_001"
    assert {f"{clip}/noisy", f"{clip}/enhanced", f"{clip}/clean"} <= set(tags["audio"])
    assert len(events.Audio(f"{clip}/enhanced")) == 3
    pytest.importorskip("matplotlib")
    assert len(events.Images(f"{clip}/spectrogram")) == 3
    assert any("config" in tag for tag in tags["tensors"])


def test_a_checkpoint_is_plain_data_and_denoises_from_another_folder(trained, tmp_path):
    path = run_folder(trained[0]) / "checkpoints/best.ckpt"
    settings = torch.load(path, weights_only=True)["hyper_parameters"]
    assert settings["spectral"]["sample_rate"] == 16_000
    assert settings["model"]["name"] == "unet"
    assert json.loads(json.dumps(settings)) == settings  # primitives only
    voice = make_voice(1.0, 16_000, 50)
    noisy = voice + make_noise(1.0, 16_000, 50)
    audio.write(tmp_path / "talk.wav", noisy, 16_000)
    result = run_command("infer.py", f"ckpt={path}", "input=talk.wav", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    enhanced, _ = audio.read(tmp_path / "talk_enhanced.wav")
    assert (enhanced - voice).square().mean() < (noisy - voice).square().mean()
    # The file is what the Python interface gives, to 16 bit.
    again = Denoiser.from_checkpoint(path, "cpu").enhance(audio.read(tmp_path / "talk.wav")[0], 16_000)
    assert torch.allclose(enhanced, again, atol=1 / 32_768)


def test_the_same_seed_gives_the_same_run_and_another_does_not(vctk, tmp_path):
    folders = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        result = run_command("train.py", *options(vctk, "trainer.max_epochs=2", f"seed={seed}"), cwd=tmp_path / name)
        assert result.returncode == 0, result.stderr
        folders.append(run_folder(tmp_path / name))
    scores = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    assert scores[0]["enhanced"] == scores[1]["enhanced"]
    assert scores[0]["enhanced"] != scores[2]["enhanced"]
    assert same(*(folder / "checkpoints/last.ckpt" for folder in folders[:2]), tolerance=0)


@pytest.mark.parametrize("scheduler", ["constant", "cosine"])
def test_killed_and_resumed_is_the_uninterrupted_training(tmp_path, scheduler):
    root = write_vctk(tmp_path / "corpus", train=80, test=2, rate=16_000)
    more = ("trainer.max_epochs=6", f"scheduler={scheduler}", f"data.cache={tmp_path}/cache", "test=false")
    arguments = options(root, *more)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert run_command("train.py", *arguments, cwd=whole).returncode == 0

    command = [sys.executable, str(ROOT / "train.py"), *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=broken, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch 3/6"):
            break
    time.sleep(0.05)  # into the fourth epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert torch.load(run_folder(broken) / "checkpoints/last.ckpt", weights_only=True)["epoch"] in (2, 3, 4)

    result = run_command("train.py", *arguments, "ckpt_path=last", cwd=broken)
    assert result.returncode == 0, result.stderr
    assert "epoch 3/6" not in result.stdout  # it went on, it did not start over
    assert "epoch 6/6" in result.stdout
    last = "checkpoints/last.ckpt"
    assert same(run_folder(whole) / last, run_folder(broken) / last, tolerance=1e-6)
    assert same(run_folder(whole) / "checkpoints/best.ckpt", run_folder(broken) / "checkpoints/best.ckpt", 1e-6)


def test_resuming_with_other_settings_is_refused_and_init_from_is_not(trained, vctk, tmp_path):
    path = run_folder(trained[0]) / "checkpoints/best.ckpt"
    arguments = options(vctk, "trainer.max_epochs=1", "test=false")
    result = run_command("train.py", *arguments, f"ckpt_path={path}", "loss=l1", "optimizer.lr=5e-3", cwd=tmp_path)
    assert result.returncode == 2
    assert "loss.name was huber, is l1" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    result = run_command("train.py", *arguments, f"init_from={path}", "loss=l1", "optimizer.lr=0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (last,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")
    assert same(path, last, tolerance=0)  # nothing learned at a rate of 0: these are the weights it took
    result = run_command("train.py", *arguments, f"init_from={path}", "model.width=5", cwd=tmp_path)
    assert result.returncode == 2
    assert "do not fit" in result.stderr


def test_a_grid_runs_each_point_in_a_folder_of_its_own(vctk, tmp_path):
    arguments = options(vctk, "debug=fast", "model=unet6,unet10", "loss=huber,l1")
    result = run_command("train.py", "-m", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (sweep,) = (tmp_path / "sweeps").iterdir()
    names = sorted(p.name for p in sweep.iterdir() if p.is_dir())
    assert names == [
        f"{i}-vctk_demand-{model}-{loss}"
        for i, (model, loss) in enumerate((m, n) for m in ("unet6", "unet10") for n in ("huber", "l1"))
    ]
    for name in names:
        assert (sweep / name / "checkpoints/best.ckpt").is_file()
        assert json.loads((sweep / name / "scores.json").read_text())["n"] == 1  # debug=fast: one batch of each split


def test_overfit_drives_one_batch_to_near_zero(vctk, tmp_path):
    arguments = options(vctk, "debug=overfit", "model.width=16", "trainer.max_epochs=200", "logger=csv")
    result = run_command("train.py", *[a for a in arguments if "dropout" not in a and "clips" not in a], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with (run_folder(tmp_path) / "metrics.csv").open() as file:
        losses = [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
    assert len(losses) == 200
    assert losses[-1] < 1e-4 < 0.01 * losses[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.gpus=1"], "trainer.gpus=1 asks for a GPU that is not there"),
        (["model=unet99"], "unet99"),
        (["monitor=test/pesq"], "only validation chooses"),
        (["data.root=nowhere"], "not VCTK-DEMAND"),
        (["data.root=null"], "data.root missing"),
        (["ckpt_path=nowhere.ckpt"], "no such checkpoint"),
        (["model.depht=3"], "depht"),
        (["metrics=[loudness]", "monitor=val/loudness"], "loudness is unknown"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(vctk, tmp_path, overrides, message):
    result = run_command("train.py", f"data.root={vctk}", *overrides, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@needs_recordings
def test_the_real_corpus_trains_and_its_noisy_row_is_the_known_one(tmp_path):
    corpus = SHARED / "vctk_demand_mini"
    result = run_command("train.py", f"data.root={corpus}", *TINY, "trainer.max_epochs=1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    scores = json.loads((run_folder(tmp_path) / "scores.json").read_text())
    assert scores["n"] == 24
    assert scores["noisy"]["si_sdr"] == pytest.approx(4.55, abs=0.05)
    if scores["noisy"].get("pesq") is not None:
        assert scores["noisy"]["pesq"] == pytest.approx(1.66, abs=0.02)
        assert scores["noisy"]["stoi"] == pytest.approx(0.876, abs=0.002)
