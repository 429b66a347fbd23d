"""The record, the model card and the clips that a finished run leaves."""

import json
import math
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from conftest import TINY, train_here
from denoiser import audio
from denoiser.errors import DenoiserError
from denoiser.training import card, clips, record

# At a rate of 0 no epoch is better than the first, whose checkpoint the test loads.
MORE = ["data.batch_size=2", "metrics=[si_sdr,stoi]", "~logger", "callbacks.clips=null", "clips=2", "seed=3",
        "loss=l1", "optimizer.lr=0"]  # fmt: skip


@pytest.fixture(scope="module")
def run(vctk, tmp_path_factory):
    """A run of two epochs that was moved and resumed for a third."""
    folder = tmp_path_factory.mktemp("run")
    arguments = [f"data.root={vctk}", f"data.cache={folder}/cache", *TINY, *MORE]
    train_here(folder / "first", *arguments, "trainer.max_epochs=2", "test=false")
    before = record.read(folder / "first")
    (folder / "first").rename(folder / "run")
    train_here(folder / "run", *arguments, "trainer.max_epochs=3", "ckpt_path=last")
    return folder / "run", before, record.read(folder / "run")


def test_the_record_of_a_moved_and_resumed_run_keeps_its_best_and_its_curve(run):
    folder, before, after = run
    assert before["status"] == after["status"] == "finished"
    assert not (folder.parent / "first").exists()
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
    assert (after["best"], after["best_epoch"]) == (after["curve"][0]["val/si_sdr"], 1)
    assert after["validation"]["si_sdr"] == after["best"]
    assert torch.load(folder / after["checkpoint"], weights_only=True)["epoch"] == 0
    scores = json.loads((folder / "scores.json").read_text())
    assert after["test"] == {key: scores[key] for key in ("n", "noisy", "enhanced", "undefined")}
    assert after["split"] == {"train": 4, "val": 4, "test": 2, "rule": "validation: speakers p226 + p287 held out"}
    assert after["real_time_factor"] > 0
    assert after["audio_seconds_per_second"] > 0
    assert after["batch_audio_seconds"] == pytest.approx(2 * 32 * 128 / 16_000)
    assert not [p for p in (after["config"]["data"]["root"], after["config"]["data"]["cache"]) if p.startswith("/")]


def test_a_checkpoint_that_is_resumed_elsewhere_needs_no_best_beside_it(run, vctk, tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(run[0] / "checkpoints/last.ckpt", tmp_path / "checkpoints")
    arguments = [f"data.root={vctk}", f"data.cache={run[0].parent}/cache", *TINY, *MORE]
    train_here(tmp_path, *arguments, "trainer.max_epochs=3", "ckpt_path=last")
    assert "checkpoints/best.ckpt is not there" in capsys.readouterr().out
    found = record.read(tmp_path)
    assert (found["checkpoint"], found["best"]) == ("checkpoints/last.ckpt", None)
    assert "the last ones, as no validation chose an epoch" in (tmp_path / "card.md").read_text()


def test_the_card_of_a_run_that_keeps_no_best_checkpoint_says_that_its_weights_are_the_last(vctk, tmp_path):
    arguments = [f"data.root={vctk}", f"data.cache={tmp_path}/cache", *TINY, *MORE, "callbacks.best=null", "test=false"]
    train_here(tmp_path, *arguments, "trainer.max_epochs=1")
    assert record.read(tmp_path)["validation"]["si_sdr"] == record.read(tmp_path)["best"]
    assert "the last ones, as no validation chose an epoch" in (tmp_path / "card.md").read_text()


def test_the_best_epoch_is_the_checkpoint_s_also_after_a_change_of_monitor(vctk, tmp_path):
    # The loss of this optimizer grows.
    more = ["metrics=[si_sdr]", "callbacks.clips=null", "+optimizer.maximize=true", "test=false"]
    arguments = [f"data.root={vctk}", f"data.cache={tmp_path}/cache", *TINY, *more]
    train_here(tmp_path, *arguments, "trainer.max_epochs=1")
    train_here(tmp_path, *arguments, "trainer.max_epochs=2", "monitor=val/loss", "ckpt_path=last")
    found = record.read(tmp_path)
    assert found["curve"][0]["val/loss"] < found["curve"][1]["val/loss"]
    assert torch.load(tmp_path / found["checkpoint"], weights_only=True)["epoch"] == 1
    assert (found["best_epoch"], found["validation"]["loss"]) == (2, found["curve"][1]["val/loss"])


def test_a_finished_run_leaves_clips_of_validation(run):
    left = clips.read(run[0])
    assert len(left) == 2
    for clip in left:
        sounds = {kind: audio.read(clip[kind]) for kind in clips.KINDS}
        assert {rate for _, rate in sounds.values()} == {16_000}
        assert len({sound.shape[-1] for sound, _ in sounds.values()}) == 1


def test_clips_are_spread_over_noises_and_levels():
    facts = {f"f{i:02}": {"noise_type": ("bus", "fan")[i % 2], "snr_db": (2.5, 17.5)[i // 2 % 2]} for i in range(12)}
    chosen = clips.choose(facts, 4)
    assert {(facts[name]["noise_type"], facts[name]["snr_db"]) for name in chosen} == {
        ("bus", 2.5), ("bus", 17.5), ("fan", 2.5), ("fan", 17.5),
    }  # fmt: skip
    assert clips.choose(dict(reversed(facts.items())), 4) == chosen
    assert clips.choose({f"f{i}": {} for i in range(8)}, 4) == ["f1", "f3", "f5", "f7"]
    assert clips.choose({"a": {}}, 4) == ["a"]


def fenced(text: str) -> list[str]:
    """Return what stands in the fenced blocks of a card."""
    return re.findall(r"^(```+)\w+\n(.*?)\n\1$", text, flags=re.DOTALL | re.MULTILINE)


def test_the_card_describes_the_checkpoint(run):
    folder, _, found = run
    text, test = (folder / "card.md").read_text(), found["test"]
    facts, scores, commands, config = (body for _, body in fenced(text))
    licence = found["config"]["data"]["licence"]
    assert yaml.safe_load(facts) == {**{key: found[key] for key in card.FACTS}, "licence": licence}
    assert yaml.safe_load(config) == found["config"]
    for part in ("mean of 2 files", f"{test['enhanced']['si_sdr']:.2f}", f"{test['noisy']['stoi']:.3f}"):
        assert part in scores
    train, infer = commands.splitlines()
    assert train.startswith("denoiser train data.root=../")  # as seen from here, no machine's path
    assert "seed=3 loss=l1" in train
    assert "ckpt_path" not in train
    assert infer == f"denoiser ckpt={folder}/checkpoints/best.ckpt input=FILE"
    pytest.importorskip("matplotlib")
    assert "![Learning curve](curve.png)" in text
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_card_holds_names_of_any_kind_and_says_that_a_licence_is_missing(run):
    folder, _, found = run
    name = "a|b_c_ *d* <img> [x](y) `z`\n# no heading\n```"
    config = {**found["config"], "data": {**found["config"]["data"], "root": name, "licence": None}}
    overrides = ["data.root='it\\'s `a` $HOME'", "a=```", f"data.cache='{Path.cwd()}/my cache'"]
    text = card.text(folder, {**found, "name": name, "config": config, "overrides": overrides})
    facts, _, commands, config = (body for _, body in fenced(text))
    facts, config = yaml.safe_load(facts), yaml.safe_load(config)
    assert (facts["name"], config["data"]["root"]) == (name, name)
    assert facts["licence"] == "not stated: set data.licence=..."
    typed = shlex.split(commands)
    assert typed[2:5] == ["data.root='it\\'s `a` $HOME'", "a=```", "data.cache=my cache"]


def test_records_are_found_nan_is_null_and_a_damaged_one_is_named(run, tmp_path):
    record.write(tmp_path / "b", {"status": "diverged", "reason": "NaN", "best": math.nan, "curve": [{"x": math.inf}]})
    shutil.copytree(run[0], tmp_path / "a/deep")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/run.json").write_text('{"status": "fin')
    found = record.find([tmp_path, tmp_path / "b"])
    assert [r["status"] for r in found] == ["finished", "diverged", "damaged"]
    assert [r["folder"] for r in found] == [str(tmp_path / name) for name in ("a/deep", "b", "c")]
    assert (found[1]["best"], found[1]["curve"], found[1]["seed"]) == (None, [{"x": None}], None)
    assert "c/run.json: cannot be read" in found[2]["reason"]
    with pytest.raises(DenoiserError, match="cannot be read as a run's record"):
        record.read(tmp_path / "nowhere")
