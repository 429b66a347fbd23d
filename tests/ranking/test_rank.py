"""Ranking of runs: what is one configuration, which is best, what cannot be compared."""

from __future__ import annotations

import csv
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from records import MODELS, record, write_sweep

from denoiser.cli import rank as command
from denoiser.errors import ConfigError
from denoiser.ranking.bootstrap import average, compare, paired_bootstrap, read_scores
from denoiser.ranking.configuration import Spread, flatten
from denoiser.ranking.rank import front, of, rank
from denoiser.ranking.summary import summary
from denoiser.ranking.text import terminal


@pytest.fixture
def sweep(tmp_path) -> Path:
    return write_sweep(tmp_path / "sweep")


def test_seeds_of_a_configuration_are_one_row():
    ranking = of([record(seed=s) for s in (0, 1, 2)] + [record("unet6", seed=5)])
    assert [(c.label, c.n) for c in ranking.configurations] == [("unet10", 3), ("unet6", 1)]
    best = ranking.quality(ranking.configurations[0])
    assert best.mean == pytest.approx(13.1)
    assert best.std == pytest.approx(0.1)  # of a sample: n - 1
    assert [run["seed"] for run in ranking.configurations[0].runs] == [2, 1, 0]  # the best seed first
    one = next(line for line in terminal(ranking).splitlines() if line.startswith("2 "))
    assert "±" not in one
    assert "13.10±0.10" in terminal(ranking)


def test_a_seed_that_ran_twice_counts_once():
    again = record(seed=0, best=20.0, ended="2026-01-02T00:00:00", folder="runs/again")
    ranking = of([record(seed=0), record(seed=1), again])
    assert [run["folder"] for run in ranking.configurations[0].runs] == ["runs/again", "runs/unet10-huber-1"]
    assert "1 left out" in ranking.notes[-1]


def test_a_data_seed_that_was_held_is_no_difference_and_one_that_was_not_is():
    held, moved = [record(seed=s) for s in (0, 1)], [record(seed=s) for s in (0, 1)]
    for run in held:
        run["config"]["data"]["seed"] = 7
    assert [c.n for c in of(held).configurations] == [2]
    moved[0]["config"]["data"]["seed"] = 7
    assert of(moved).columns == ["data.seed"]


@pytest.mark.parametrize(("mode", "first"), [("max", "unet10"), ("min", "unet6")])
def test_sorted_by_validation_in_the_direction_of_the_mode(mode, first):
    runs = [
        record(model, monitor="val/loss", mode=mode, best=MODELS[model][2]) for model in ("unet8", "unet10", "unet6")
    ]
    runs[0]["test"]["enhanced"] = {"pesq": 4.5, "stoi": 1.0, "si_sdr": 99.0}  # the test chooses nothing
    labels = [c.label for c in of(runs).configurations]
    assert labels[0] == first
    assert labels[1] == "unet8"
    assert f"Best by validation: {first}" in summary(of(runs))[0]


def test_what_is_not_defined_is_last_in_either_direction():
    for mode in ("min", "max"):
        runs = [record("unet6", mode=mode, best=None), record("unet8", mode=mode)]
        assert [c.label for c in of(runs).configurations] == ["unet8", "unet6"]


def test_only_what_differs_is_named_and_what_a_choice_implies_is_not():
    runs = [record("unet6"), record("unet10"), record("unet10", "l1")]
    assert of(runs).columns == ["model", "loss"]  # not depth, context, loss.name, nor the one data set
    runs[0]["config"]["optimizer"]["lr"] = 2e-3
    assert of(runs).columns == ["model", "loss", "lr"]  # though unet6 alone has it: no choice of the model's
    runs[2]["overrides"].append("model.depth=3")
    runs[2]["config"]["model"]["depth"] = 3
    ranking = of(runs)
    assert ranking.columns == ["model", "loss", "depth", "lr"]
    assert {c.label for c in ranking.configurations} == {
        "unet6 huber depth=3 lr=0.002", "unet10 huber depth=5 lr=0.001", "unet10 l1 depth=3 lr=0.001"
    }  # fmt: skip


def test_a_head_is_named_as_it_was_chosen_and_where_a_run_ran_is_no_difference():
    def headed(model, head, gpus, **limit):
        run = record(model)
        run["config"]["model"]["head"] = {"name": head, **limit}
        run["config"] |= {"trainer": {"gpus": gpus, "processes": gpus}, "deterministic": gpus == 0}
        return {**run, "choices": {**run["choices"], "model/head": head}}

    runs = [headed("unet6", "noise", 0), headed("unet6", "mask", 1, limit=1.2), headed("unet8", "noise", 0)]
    ranking = of(
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


def test_what_makes_files_worse_is_said():
    run = record()
    run["test"]["enhanced"] = {"pesq": 1.2, "stoi": 0.9, "si_sdr": 4.0}
    assert "It makes them worse in PESQ and SI-SDR." in summary(of([run]))[0]
    assert "worse" not in summary(of([record()]))[0]


def test_a_short_name_is_of_one_key_only():
    runs = [record(), record()]
    for run, (width, other) in zip(runs, ((8, 1), (16, 2)), strict=True):
        run["config"] |= {"extra": {"width": width}, "other": {"width": other}}
    assert of(runs).columns == ["extra.width", "other.width"]
    assert flatten({"a": {"b": {"c": 1}}, "d": [1], "e": {}}) == {"a.b.c": 1, "d": [1], "e": {}}


def test_interpolations_are_not_named_twice():
    runs = [record(overrides=["trainer.max_epochs=5"]), record(overrides=["trainer.max_epochs=9"])]
    for run, epochs in zip(runs, (5, 9), strict=True):
        run["config"] |= {"trainer": {"max_epochs": epochs}, "scheduler": {"epochs": epochs}}
    assert of(runs).columns == ["max_epochs"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test": {"n": 9, "noisy": {"si_sdr": 2.0}, "enhanced": {"si_sdr": 9.0}}}, "the test files"),
        ({"validation": {"n": 3, "si_sdr": 20.0}}, "the validation files"),
        ({"versions": {"pesq": "9.9"}}, "the metrics' packages"),
        ({"monitor": "val/pesq", "best": 4.0}, "the monitor"),
    ],
)
def test_what_was_scored_otherwise_is_ranked_apart_and_said(change, words):
    ranking = of([record("unet6"), record("unet8"), record("unet10", **change)])
    assert [(c.label, c.alike, c.place) for c in ranking.configurations] == [
        ("unet8", "A", 1), ("unet6", "A", 2), ("unet10", "B", 1)
    ]  # fmt: skip
    assert len(ranking.notes) == 1
    assert words in ranking.notes[0]
    assert "1 run marked B" in terminal(ranking)
    assert "Best by validation: unet8" in summary(ranking)[0]


def test_a_run_without_a_test_goes_with_those_of_its_validation():
    ranking = of([record("unet6"), record("unet8", test=None)])
    assert {c.alike for c in ranking.configurations} == {"A"}


def test_pesq_never_stands_alone():
    only = {"n": 8, "pesq": 2.0}
    run = record(monitor="val/pesq", best=2.0, validation=only, test={"n": 8, "noisy": only, "enhanced": only})
    header = next(line for line in terminal(of([run])).splitlines() if line.startswith("#"))
    for part in ("val", "test"):
        assert [f"{part} {m}" in header for m in ("PESQ", "STOI", "SI-SDR")] == [True] * 3


def test_the_terminal_table_fits():
    runs = [record(model, loss, seed) for model in MODELS for loss in ("huber", "l1") for seed in (0, 1)]
    for run in runs:
        run["choices"]["model"] += "_of_a_name_that_somebody_made_very_long"
    assert max(map(len, terminal(of(runs)).splitlines())) <= 120


def test_the_cheaper_and_the_seeds_are_told_in_words():
    runs = [record("unet10", seed=0), record("unet10", seed=2), record("unet6", seed=0), record("unet6", seed=2)]
    lines = summary(of(runs))
    assert "At 27 % of its computation (MACs/s): unet6, val SI-SDR lower by 2.00 dB, 14.1 times" in lines[1]
    assert "by about ±0.14 dB" in lines[2]
    assert "one seed" in summary(of(runs[::2]))[2]
    assert "nothing to rank" in summary(of([record(status="failed")]))[0]


def test_the_pareto_front_leaves_out_what_a_cheaper_one_equals():
    points = [(1, 5), (2, 4), (2, 7), (3, 7), (4, 9), (1, 3), (math.nan, 99), (5, math.nan)]
    assert front(points) == [0, 2, 4]


def test_the_bootstrap_of_identical_and_of_shifted_systems_is_exact():
    scores = list(np.random.default_rng(0).normal(2, 1, 24))
    same = paired_bootstrap(scores, scores)
    assert (same.mean, same.low, same.high, same.n) == (0, 0, 0, 24)
    assert same.holds_zero
    assert "not distinguishable in PESQ: +0.00 [+0.00, +0.00] over 24 files" in same.words("pesq")
    shifted = paired_bootstrap([s + 0.5 for s in scores], scores)
    assert [shifted.mean, shifted.low, shifted.high] == pytest.approx([0.5] * 3)
    assert shifted.words("pesq") == "better by 0.50 [0.50, 0.50] PESQ over 24 files"
    assert shifted.words("lsd") == "worse by 0.50 [0.50, 0.50] LSD dB over 24 files"
    assert paired_bootstrap(scores, [s + 0.5 for s in scores]).words("pesq").startswith("worse by 0.50 [0.50, 0.50]")


def test_the_interval_is_the_normal_one_where_that_is_true_and_repeats():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.1, 1, 400)
    found = paired_bootstrap(differences, np.zeros(400))
    half = 1.96 * differences.std() / math.sqrt(400)
    assert found.low == pytest.approx(differences.mean() - half, abs=0.01)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.01)
    assert found == paired_bootstrap(differences, np.zeros(400))
    assert found != paired_bootstrap(differences, np.zeros(400), seed=1)
    # Paired: what is hard in a file counts for neither.
    hard = rng.normal(0, 50, 400)
    assert paired_bootstrap(differences + hard, hard).high == pytest.approx(found.high)


def test_files_that_both_have_are_compared_seeds_averaged_first():
    one = average([{"a": {"pesq": 1.0}, "b": {"pesq": 2.0}}, {"a": {"pesq": 3.0}, "b": {"pesq": math.nan}, "c": {}}])
    assert one == {"a": {"pesq": 2.0}, "b": {"pesq": 2.0}}
    found = compare(one, {"a": {"pesq": 1.0}, "b": {"pesq": 1.0}, "z": {"pesq": 9.0}}, ["pesq", "stoi"])
    assert (found["pesq"].mean, found["pesq"].n) == (1.0, 2)
    assert (found["stoi"].n, found["stoi"].text("stoi")) == (0, "n/a")
    assert Spread.of([1.0, None, math.nan, 3.0]) == Spread(2.0, math.sqrt(2), 2)


def test_damaged_scores_are_no_scores(tmp_path):
    assert read_scores(tmp_path) == ({}, {})
    (tmp_path / "scores.csv").write_text("name,enhanced_pesq\na,2.5\nb\n")
    assert read_scores(tmp_path) == ({}, {})


def test_a_folder_of_runs_becomes_a_table_and_a_page(sweep, tmp_path, capsys):
    rank(sweep, tmp_path / "out")
    printed = capsys.readouterr()
    shown = printed.out.splitlines()
    assert [line.split()[:4] for line in shown if re.match(r"[1-6] ", line)] == [
        ["1", "unet10", "l1", "2"], ["2", "unet10", "huber", "2"], ["3", "unet8", "l1", "1"],
        ["4", "unet8", "huber", "2"], ["5", "unet6", "l1", "1"], ["6", "unet6", "huber", "2"],
    ]  # fmt: skip
    text, page = (tmp_path / "out/ranking.md").read_text(), (tmp_path / "out/ranking.html").read_text()
    for place in (printed.out, text, page.replace("&lt;", "<").replace("&gt;", ">")):
        assert "diverged: train/loss is nan" in place
        assert "failed: RuntimeError: out of memory" in place
        assert "torn" in place
        assert "damaged: " in place
    assert "<at step" not in text + page  # as text, not as markup
    with open(tmp_path / "out/ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 6 + ["diverged", "failed", "damaged"]
    assert (rows[0]["seeds"], rows[0]["n"], rows[0]["val_si_sdr_mean"]) == ("1 0", "2", "13.35")
    assert float(rows[0]["test_si_sdr_std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert rows[2]["val_si_sdr_std"] == ""
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert "| 1 | unet10 | l1 | 2 |" in table[2]
    assert "unet10 l1 minus" in text  # the best against each other
    assert "Made without sounds: " in page
    assert "its record does not say what it was tested on" in page
    assert not re.search(r"https?:|//\w", re.sub(r"base64,[\w+/=]+", "", page))


def test_two_configurations_are_compared_by_place_name_or_folder(sweep, tmp_path, capsys):
    for pair in (("1", "2"), ("unet10 l1", "unet10 huber"), ("unet10-l1-0", str(sweep / "unet10-huber-1"))):
        ranking = rank([sweep], tmp_path, pair, page=False)
        assert list(ranking.intervals) == ["unet10 huber"]
        assert "better by 0.30 [0.30, 0.30] SI-SDR dB over 12 files" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="no configuration unet99"):
        rank(sweep, tmp_path, ("1", "unet99"), page=False)
    with pytest.raises(ConfigError, match="both name"):
        rank(sweep, tmp_path, ("1", "unet10 l1"), page=False)


def test_folders_that_overlap_count_a_run_once(sweep, tmp_path):
    ranking = rank([sweep, sweep / "unet10-l1-0", sweep / "../sweep"], tmp_path, page=False)
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


def test_the_command_ranks(sweep, tmp_path):
    command = [
        sys.executable,
        "-m",
        "denoiser",
        "rank",
        f"runs={sweep}",
        f"out={tmp_path / 'out'}",
        "page=false",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Best by validation: unet10 l1" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ranking.csv", "ranking.md"]


@pytest.mark.parametrize(
    "change", [{"config": None}, {"test": [1]}, {"curve": ["x"]}, {"choices": "a"}, {"test": {"enhanced": 3}}]
)
def test_a_record_of_other_shape_costs_only_itself(change):
    ranking = of([record("unet6"), record() | change])
    assert [c.label for c in ranking.configurations] == ["synthetic unet6 huber"]
    assert f"damaged: not as a run writes it: {next(iter(change))}" in terminal(ranking)
