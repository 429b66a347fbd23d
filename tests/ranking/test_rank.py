"""Ranking of runs: grouping over seeds, order, comparison, files."""

from __future__ import annotations

import csv
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from records import MODELS, record, write_sweep

from denoiser.cli import rank as command
from denoiser.errors import ConfigError
from denoiser.ranking.bootstrap import average, compare, paired_bootstrap, read_scores
from denoiser.ranking.configuration import SeedStatistics
from denoiser.ranking.rank import rank
from denoiser.ranking.ranking import build
from denoiser.ranking.summary import summary
from denoiser.ranking.tables import terminal


@pytest.fixture
def sweep(tmp_path) -> Path:
    return write_sweep(tmp_path / "sweep")


def test_seeds_of_a_configuration_are_one_row():
    ranking = build([record(seed=s) for s in (0, 1, 2)] + [record("unet6", seed=5)])
    assert [(c.label, c.n) for c in ranking.configurations] == [("unet10", 3), ("unet6", 1)]
    best = ranking.quality(ranking.configurations[0])
    assert best.mean == pytest.approx(13.1)
    assert best.std == pytest.approx(0.1)  # of a sample: n - 1
    assert [run["seed"] for run in ranking.configurations[0].runs] == [2, 1, 0]  # the best seed first
    lines = terminal(ranking).splitlines()
    assert "13.10 ± 0.10" in next(line for line in lines if line.startswith("1 "))
    assert "±" not in next(line for line in lines if line.startswith("2 "))


def test_a_seed_that_ran_twice_counts_once():
    again = record(seed=0, best=20.0, ended="2026-01-02T00:00:00", folder="runs/again")
    ranking = build([record(seed=0), record(seed=1), again])
    assert [run["folder"] for run in ranking.configurations[0].runs] == ["runs/again", "runs/unet10-huber-1"]
    assert "1 left out" in ranking.notes[-1]


def test_a_data_seed_is_a_difference_only_where_it_does_not_follow_the_seed():
    held, moved = [record(seed=s) for s in (0, 1)], [record(seed=s) for s in (0, 1)]
    for run in held:
        run["config"]["data"]["seed"] = 7
    assert [c.n for c in build(held).configurations] == [2]
    moved[0]["config"]["data"]["seed"] = 7
    assert build(moved).columns == ["seed"]


@pytest.mark.parametrize(("mode", "first"), [("max", "unet10"), ("min", "unet6")])
def test_sorted_by_validation_in_the_direction_of_the_mode(mode, first):
    runs = [
        record(model, monitor="val/loss", mode=mode, best=MODELS[model][2]) for model in ("unet8", "unet10", "unet6")
    ]
    runs[0]["test"]["enhanced"] = {"pesq": 4.5, "stoi": 1.0, "si_sdr": 99.0}  # the test chooses nothing
    labels = [c.label for c in build(runs).configurations]
    assert labels[0] == first
    assert labels[1] == "unet8"
    assert f"Best by validation: {first}" in summary(build(runs))[0]


def test_an_undefined_score_is_last_in_either_direction():
    for mode in ("min", "max"):
        runs = [record("unet6", mode=mode, best=None), record("unet8", mode=mode)]
        assert [c.label for c in build(runs).configurations] == ["unet8", "unet6"]


def test_labels_hold_settings_that_differ_and_that_no_choice_implies():
    runs = [record("unet6"), record("unet10"), record("unet10", "l1")]
    assert build(runs).columns == ["model", "loss"]  # not depth, context, loss.name, nor the one data set
    runs[0]["config"]["optimizer"]["lr"] = 2e-3
    assert build(runs).columns == ["model", "loss", "lr"]  # though unet6 alone has it: no choice of the model's
    runs[2]["overrides"].append("model.depth=3")
    runs[2]["config"]["model"]["depth"] = 3
    ranking = build(runs)
    assert ranking.columns == ["model", "loss", "depth", "lr"]
    assert {c.label for c in ranking.configurations} == {
        "unet6 huber depth=3 lr=0.002", "unet10 huber depth=5 lr=0.001", "unet10 l1 depth=3 lr=0.001"
    }  # fmt: skip


def test_the_choice_of_a_head_is_a_difference_and_the_device_is_none():
    def headed(model, head, gpus, **limit):
        run = record(model)
        run["config"]["model"]["head"] = {"name": head, **limit}
        run["config"] |= {"trainer": {"gpus": gpus, "processes": gpus}, "deterministic": gpus == 0}
        return {**run, "choices": {**run["choices"], "model/head": head}}

    runs = [headed("unet6", "noise", 0), headed("unet6", "mask", 1, limit=1.2), headed("unet8", "noise", 0)]
    ranking = build(
        [
            *runs,
            {**headed("unet6", "noise", 4), "seed": 1, "config": {**headed("unet6", "noise", 4)["config"], "seed": 1}},
        ]
    )
    assert {(c.label, c.n) for c in ranking.configurations} == {
        ("unet6 noise", 2),
        ("unet6 mask", 1),
        ("unet8 noise", 1),
    }
    assert set(ranking.configurations[0].values) == {"model", "head"}


def test_the_summary_says_if_files_become_worse():
    run = record()
    run["test"]["enhanced"] = {"pesq": 1.2, "stoi": 0.9, "si_sdr": 4.0}
    assert "It makes them worse in PESQ and SI-SDR." in summary(build([run]))[0]
    assert "worse" not in summary(build([record()]))[0]


def test_settings_of_the_same_last_name_keep_their_whole_name():
    runs = [record(), record()]
    for run, (width, other) in zip(runs, ((8, 1), (16, 2)), strict=True):
        run["config"] |= {"extra": {"width": width}, "other": {"width": other}}
        run["overrides"] += ["+extra.width=1", "+other.width=1"]
    assert build(runs).columns == ["extra.width", "other.width"]


def test_interpolations_are_not_named_twice():
    runs = [record(overrides=["trainer.max_epochs=5"]), record(overrides=["trainer.max_epochs=9"])]
    for run, epochs in zip(runs, (5, 9), strict=True):
        run["config"] |= {"trainer": {"max_epochs": epochs}, "scheduler": {"epochs": epochs}}
    assert build(runs).columns == ["max_epochs"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test": {"n": 9, "noisy": {"si_sdr": 2.0}, "enhanced": {"si_sdr": 99.0}}}, "other test files"),
        ({"validation": {"n": 3, "si_sdr": 20.0}}, "other validation files"),
        ({"versions": {"pesq": "9.9"}}, "other versions (denoiser None, pesq 9.9"),
        ({"monitor": "val/pesq", "best": 4.0}, "other monitor"),
    ],
)
def test_runs_scored_on_other_files_or_by_other_versions_come_last_with_a_note(change, words):
    ranking = build([record("unet6"), record("unet8"), record("unet10", **change)])
    assert [c.note[: len(words)] for c in ranking.configurations] == ["", "", words]
    assert "1 of the configurations cannot be compared" in ranking.notes[0]
    assert words in terminal(ranking)
    assert "Best by validation: unet8" in summary(ranking)[0]


def test_seeds_that_were_scored_otherwise_are_a_row_of_their_own():
    ranking = build([record(seed=0), record(seed=1), record(seed=2, versions={"pesq": "9.9"})])
    assert [c.n for c in ranking.configurations] == [2, 1]
    assert [bool(c.note) for c in ranking.configurations] == [False, True]


def test_a_run_without_a_test_is_compared_by_its_validation():
    ranking = build([record("unet6"), record("unet8", test=None)])
    assert [c.note for c in ranking.configurations] == ["", ""]


def test_pesq_never_stands_alone():
    only = {"n": 8, "pesq": 2.0}
    for test in (None, {"n": 8, "noisy": only, "enhanced": only}):
        run = record(monitor="val/pesq", best=2.0, validation=only, test=test)
        header = next(line for line in terminal(build([run])).splitlines() if line.startswith("#"))
        part = "test" if test else "val"
        assert all(f"{part} {metric}" in header for metric in ("PESQ", "STOI", "SI-SDR"))


def test_the_cheaper_and_the_seeds_are_described():
    runs = [record("unet10", seed=0), record("unet10", seed=2), record("unet6", seed=0), record("unet6", seed=2)]
    lines = summary(build(runs))
    assert (
        "At 27 % of its computation (MACs/s): unet6, val SI-SDR lower by 2.00 dB, 14.1 times the standard" in lines[1]
    )
    assert "by about ±0.14 dB" in lines[2]
    assert "one seed" in summary(build(runs[::2]))[2]
    assert "nothing to rank" in summary(build([record(status="failed")]))[0]


def test_the_bootstrap_of_identical_and_of_shifted_systems_is_exact():
    scores = list(np.random.default_rng(0).normal(2, 1, 24))
    same = paired_bootstrap(scores, scores)
    assert (same.mean, same.low, same.high, same.n) == (0, 0, 0, 24)
    assert same.text("pesq") == "+0.00 [+0.00, +0.00] ~"
    shifted = paired_bootstrap([s + 0.5 for s in scores], scores)
    assert [shifted.mean, shifted.low, shifted.high] == pytest.approx([0.5] * 3)
    assert shifted.text("pesq") == "+0.50 [+0.50, +0.50]"


def test_the_interval_of_normal_differences_is_theirs_and_repeats():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 1, 400)
    found = paired_bootstrap(differences, np.zeros(400))
    half = 1.96 * differences.std() / math.sqrt(400)
    assert found.low == pytest.approx(differences.mean() - half, abs=0.01)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.01)
    assert found == paired_bootstrap(differences, np.zeros(400))
    assert found != paired_bootstrap(differences, np.zeros(400), seed=1)
    # Paired: a hard file counts against neither.
    hard = rng.normal(0, 50, 400)
    assert paired_bootstrap(differences + hard, hard).high == pytest.approx(found.high)


def test_common_files_are_compared_after_averaging_over_seeds():
    one = average([{"a": {"pesq": 1.0}, "b": {"pesq": 2.0}}, {"a": {"pesq": 3.0}, "b": {"pesq": math.nan}, "c": {}}])
    assert one == {"a": {"pesq": 2.0}, "b": {"pesq": 2.0}}
    found = compare(one, {"a": {"pesq": 1.0}, "b": {"pesq": 1.0}, "z": {"pesq": 9.0}}, ["pesq", "stoi"])
    assert (found["pesq"].mean, found["pesq"].n) == (1.0, 2)
    assert (found["stoi"].n, found["stoi"].text("stoi")) == (0, "n/a")
    assert SeedStatistics.of([1.0, None, math.nan, 3.0]) == SeedStatistics(2.0, math.sqrt(2), 2)


def test_damaged_scores_are_no_scores(tmp_path):
    assert read_scores(tmp_path) == {}
    (tmp_path / "scores.csv").write_text("name,enhanced_pesq\na,2.5\nb\n")
    assert read_scores(tmp_path) == {}


def test_a_folder_of_runs_becomes_a_table_and_a_page(sweep, tmp_path, capsys):
    rank(sweep, tmp_path / "out")
    shown = capsys.readouterr().out
    assert [line.split()[:4] for line in shown.splitlines() if re.match(r"[1-6] ", line)] == [
        ["1", "unet10", "l1", "2"], ["2", "unet10", "huber", "2"], ["3", "unet8", "l1", "1"],
        ["4", "unet8", "huber", "2"], ["5", "unet6", "l1", "1"], ["6", "unet6", "huber", "2"],
    ]  # fmt: skip
    text, page = (tmp_path / "out/ranking.md").read_text(), (tmp_path / "out/ranking.html").read_text()
    for place in (shown, text, page.replace("&lt;", "<").replace("&gt;", ">")):
        assert "diverged: train/loss is nan" in place
        assert "failed: RuntimeError: out of memory" in place
        assert "damaged: " in place
    assert "<at step" not in text + page  # as text, not as markup
    with open(tmp_path / "out/ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 6 + ["damaged", "diverged", "failed"]
    assert (rows[0]["seeds"], rows[0]["n"], rows[0]["val_si_sdr_mean"]) == ("1 0", "2", "13.35")
    assert float(rows[0]["test_si_sdr_std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert rows[2]["val_si_sdr_std"] == ""
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert "| 1 | unet10 | l1 | 2 |" in table[2]
    assert "unet10 l1 minus" in text  # the best against each other


def test_a_run_of_an_earlier_version_ranks_beside_those_of_today(sweep, tmp_path):
    """``old_run`` is a run as version 0.1.0 left it before its modules moved."""
    shutil.copytree(Path(__file__).parent / "old_run", sweep / "old")
    ranking = rank(sweep, tmp_path, write_page=False)
    (old,) = (c for c in ranking.configurations if c.runs[0]["folder"] == str(sweep / "old"))
    assert old.label == "vctk_demand unet6 huber root=corpus (scored otherwise)"
    assert ranking.scores[str(sweep / "old")]["p232_000"]["si_sdr"] == pytest.approx(-19.5166)


def test_two_configurations_are_compared_by_place_name_or_folder(sweep, tmp_path, capsys):
    for pair in (("1", "2"), ("unet10 l1", "unet10 huber"), ("unet10-l1-0", str(sweep / "unet10-huber-1"))):
        ranking = rank([sweep], tmp_path, pair, write_page=False)
        assert list(ranking.intervals) == ["unet10 huber"]
        assert "+0.30 [+0.30, +0.30]" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no configuration unet99"):
        rank(sweep, tmp_path, ("1", "unet99"), write_page=False)
    with pytest.raises(ConfigError, match="both name"):
        rank(sweep, tmp_path, ("1", "unet10 l1"), write_page=False)


def test_folders_that_overlap_count_a_run_once(sweep, tmp_path):
    ranking = rank([sweep, sweep / "unet10-l1-0", sweep / "../sweep"], tmp_path, write_page=False)
    assert sum(c.n for c in ranking.configurations) == 10
    assert not ranking.notes


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runs=nowhere"], "runs=nowhere: no such folder"),
        (["runs=empty"], "no run.json below"),
        ([], "runs missing"),
        (["runs=empty", "compare=1"], "expected two configurations"),
        (["rnus=x"], "did you mean runs"),
    ],
)
def test_a_mistake_is_one_line(arguments, line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=re.escape(line)):
        command.main(arguments)


def test_the_command_ranks(sweep, tmp_path, capsys):
    command.main([f"runs={sweep}", f"out={tmp_path / 'out'}", "page=false"])
    assert "Best by validation: unet10 l1" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ranking.csv", "ranking.md"]
