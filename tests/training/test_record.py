"""The record and the model card that a finished run leaves."""

import json
import math
import re
import shutil

import pytest
import torch

from conftest import TINY, train_here
from denoiser.errors import ConfigError, DenoiserError
from denoiser.training import card, record

MORE = ["data.batch_size=2", "metrics=[si_sdr,stoi]", "~logger", "callbacks.clips=null", "seed=3", "loss=l1"]


@pytest.fixture(scope="module")
def run(vctk, tmp_path_factory):
    """A run of two epochs that was resumed for a third."""
    folder = tmp_path_factory.mktemp("run")
    arguments = [f"data.root={vctk}", f"data.cache={folder}/cache", *TINY, *MORE]
    train_here(folder / "run", *arguments, "trainer.max_epochs=2", "test=false")
    before = record.read(folder / "run")
    train_here(folder / "run", *arguments, "trainer.max_epochs=3", "ckpt_path=last")
    return folder / "run", before, record.read(folder / "run")


def test_a_record_holds_the_run_and_its_curve_outlives_a_resumption(run):
    folder, before, after = run
    assert before["status"] == after["status"] == "finished"
    assert set(after) == set(record.KEYS)
    assert before["test"] is None
    assert (after["name"], after["seed"], after["processes"]) == ("vctk_demand-unet10-l1", 3, 1)
    assert "loss=l1" in after["overrides"]
    assert after["choices"]["loss"] == "l1"
    assert after["config"]["data"]["batch_size"] == 2
    assert [row["epoch"] for row in after["curve"]] == [1, 2, 3]
    assert after["curve"][:2] == before["curve"]
    assert all({"step", "train/loss", "val/loss", "val/si_sdr", "val/stoi"} < set(row) for row in after["curve"])
    assert after["started"] == before["started"] <= before["ended"] <= after["ended"]
    assert 0 < before["fit_seconds"] < after["fit_seconds"]
    best = max(after["curve"], key=lambda row: row["val/si_sdr"])
    assert (after["best"], after["best_epoch"]) == (best["val/si_sdr"], best["epoch"])
    assert after["validation"]["si_sdr"] == after["best"]
    assert torch.load(folder / after["checkpoint"], weights_only=True)["epoch"] + 1 == after["best_epoch"]
    scores = json.loads((folder / "scores.json").read_text())
    assert after["test"] == {key: scores[key] for key in ("n", "noisy", "enhanced", "undefined")}
    assert after["split"] == {"train": 4, "val": 4, "test": 2, "rule": "validation: speakers p226 + p287 held out"}
    assert after["real_time_factor"] > 0
    assert after["audio_seconds_per_second"] > 0
    assert after["batch_audio_seconds"] == pytest.approx(2 * 32 * 128 / 16_000)
    assert not [p for p in (after["config"]["data"]["root"], after["config"]["data"]["cache"]) if p.startswith("/")]


def test_the_record_of_a_tested_run_has_the_epochs_after_the_best(vctk, tmp_path):
    # At a rate of 0 no epoch is better than the first, whose checkpoint the test loads.
    more = ("optimizer.lr=0", "trainer.max_epochs=3", f"data.cache={tmp_path}/cache")
    train_here(tmp_path / "run", f"data.root={vctk}", *TINY, *MORE, *more)
    found = record.read(tmp_path / "run")
    assert found["best_epoch"] == 1
    assert found["test"]["n"] == 2
    assert [row["epoch"] for row in found["curve"]] == [1, 2, 3]


def test_the_card_describes_the_checkpoint(run):
    folder, _, facts = run
    text = (folder / "card.md").read_text()
    assert text.startswith("# vctk\\_demand-unet10-l1, seed 3\n")
    for part in (
        "mean of 2 files", "train 4, val 4, test 2", "p226 + p287 held out", "CC BY 4.0", "10.7488/ds/2117",
        f"chosen by val/si\\_sdr of validation alone: over {facts['validation']['n']} files", "loss=l1", "torch 2.",
        f"{facts['test']['enhanced']['si_sdr']:.2f}", f"{facts['test']['noisy']['stoi']:.3f}",
        f"ckpt={folder}/checkpoints/best.ckpt input=FILE",
    ):  # fmt: skip
        assert part in text
    command = next(line for line in text.splitlines() if line.startswith("python train.py "))
    assert "seed=3" in command
    assert "ckpt_path" not in command
    assert not re.search(r"data\.root='?/", command)  # as seen from here, no machine's path
    pytest.importorskip("matplotlib")
    assert "![Learning curve](curve.png)" in text
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_escaped_in_the_card_and_a_missing_licence_is_said(run):
    folder, _, facts = run
    name = "a|b_c_ *d* <img> [x](y) `z`\n# no heading"
    config = {**facts["config"], "data": {**facts["config"]["data"], "root": name, "licence": None}}
    overrides = ["data.root='it\\'s `a` $HOME'", "a=```"]
    text = card.text(folder, {**facts, "config": config, "overrides": overrides})
    assert "- Corpus: vctk\\_demand; root a\\|b\\_c\\_ \\*d\\* \\<img\\> \\[x\\](y) \\`z\\` \\# no heading\n" in text
    assert "not stated: set data.licence=..." in text
    assert "````bash\npython train.py" in text  # a fence that what it holds does not end


def test_records_are_found_nan_is_null_and_a_damaged_one_is_named(run, tmp_path, capsys):
    record.write(tmp_path / "b", {"status": "diverged", "reason": "NaN", "best": math.nan, "curve": [{"x": math.inf}]})
    shutil.copytree(run[0], tmp_path / "a/deep")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/run.json").write_text('{"status": "fin')
    found = record.find([tmp_path])
    assert [(r["status"], r["folder"]) for r in found] == [
        ("finished", str(tmp_path / "a/deep")), ("diverged", str(tmp_path / "b")),
    ]  # fmt: skip
    assert (found[1]["best"], found[1]["curve"], found[1]["seed"]) == (None, [{"x": None}], None)
    assert "c/run.json: cannot be read" in capsys.readouterr().err
    with pytest.raises(DenoiserError, match="cannot be read as a run's record"):
        record.read(tmp_path / "nowhere")


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_a_callback_that_monitors_the_test_set_is_refused(vctk, tmp_path, callback):
    more = f"+callbacks.mine={{_target_: pytorch_lightning.callbacks.{callback}, monitor: test/si_sdr}}"
    with pytest.raises(ConfigError, match=f"{callback} with monitor=test/si_sdr: only validation chooses"):
        train_here(tmp_path, f"data.root={vctk}", *TINY, more)
