"""Ranking of runs: grouping over seeds, order, comparison, files."""

import csv
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from denoiser.cli import rank as command
from denoiser.errors import ConfigError
from denoiser.ranking import configuration
from denoiser.ranking.bootstrap import average, compare, of_configuration, paired_bootstrap, read_scores
from denoiser.ranking.configuration import Configuration, SeedStatistics
from denoiser.ranking.rank import rank
from denoiser.ranking.ranking import build
from denoiser.ranking.tables import main_names, report, summary
from denoiser.training.record import CONSTANT, OLD_CONSTANT
from records import record, write, write_sweep


@pytest.fixture
def sweep(tmp_path) -> Path:
    return write_sweep(tmp_path / "sweep")


def columns(runs):
    return list(build(runs).configurations[0].values)


def shown(ranking):
    """Return the lines of the table on the terminal."""
    return [line for line in report(ranking, main_names(ranking)).splitlines() if line.startswith("|")]


def test_seeds_of_a_configuration_are_one_row():
    ranking = build([record(seed=s) for s in (0, 1, 2)] + [record("unet6", seed=5)])
    assert [(c.label, len(c.runs)) for c in ranking.configurations] == [("unet10", 3), ("unet6", 1)]
    best = ranking.configurations[0].over_seeds(ranking.monitor)
    assert best.mean == pytest.approx(13.1)
    assert best.std == pytest.approx(0.1)  # of a sample: n - 1
    assert [run["seed"] for run in ranking.configurations[0].runs] == [2, 1, 0]  # the best seed first
    *_, first, second, _ = shown(ranking)
    assert "13.10 ± 0.10" in first
    assert "±" not in second


def test_hours_of_audio_count_accumulated_batches():
    run = record(batch_audio_seconds=36.0)  # of 20 steps
    assert configuration.value(run, "audio_hours") == pytest.approx(0.2)
    run["config"]["trainer"] = {"accumulate_grad_batches": 4}
    assert configuration.value(run, "audio_hours") == pytest.approx(0.8)


def test_an_older_name_of_the_default_scheduler_is_no_difference():
    old, new = record(seed=0), record(seed=1)
    old["config"]["scheduler"], new["config"]["scheduler"] = OLD_CONSTANT, CONSTANT
    assert len(build([old, new]).configurations) == 1


def test_a_seed_that_ran_twice_counts_once():
    again = record(seed=0, best=20.0, ended="2026-01-02T00:00:00", folder="runs/again")
    ranking = build([record(seed=0), record(seed=1), again])
    assert [run["folder"] for run in ranking.configurations[0].runs] == ["runs/again", "runs/unet10-huber-1"]
    assert "1 left out" in ranking.notes[-1]


def test_a_data_seed_is_a_difference_only_where_it_does_not_follow_the_seed():
    held, moved = [record(seed=s) for s in (0, 1)], [record(seed=s) for s in (0, 1)]
    for run in held:
        run["config"]["data"]["seed"] = 7
    assert [len(c.runs) for c in build(held).configurations] == [2]
    moved[0]["config"]["data"]["seed"] = 7
    assert columns(moved) == ["seed"]


@pytest.mark.parametrize(
    ("mode", "order"), [("max", ["unet10", "unet8", "unet6"]), ("min", ["unet8", "unet10", "unet6"])]
)
def test_sorted_by_validation_in_the_direction_of_the_mode_and_an_undefined_score_last(mode, order):
    scores = {"unet6": None, "unet8": 12.0, "unet10": 13.0}
    runs = [record(model, monitor="val/loss", mode=mode, best=best) for model, best in scores.items()]
    runs[1]["test"]["enhanced"] = {"pesq": 4.5, "stoi": 1.0, "si_sdr": 99.0}  # the test chooses nothing
    ranking = build(runs)
    assert [c.label for c in ranking.configurations] == order
    assert f"Best by validation: {order[0]}" in summary(ranking)[0]


def test_labels_hold_choices_and_typed_settings_that_differ_and_others_only_if_rows_need_them():
    runs = [record("unet6"), record("unet10"), record("unet10", "l1")]
    runs[0]["config"]["optimizer"]["lr"] = 2e-3
    assert columns(runs) == ["model", "loss"]  # not depth, context, loss.name, nor the one data set
    runs[2]["overrides"].append("model.depth=3")
    runs[2]["config"]["model"]["depth"] = 3
    assert columns(runs) == ["model", "loss", "depth"]
    other = record("unet10")
    other["config"]["optimizer"]["lr"] = 2e-3
    ranking = build([*runs, other])
    assert {c.label for c in ranking.configurations} == {
        "unet6 huber depth=3 lr=0.002", "unet10 huber depth=5 lr=0.001", "unet10 l1 depth=3 lr=0.001",
        "unet10 huber depth=5 lr=0.002",
    }  # fmt: skip


def test_a_group_without_settings_is_called_by_its_choice():
    runs = [record(), record()]
    for run, augment, config in zip(runs, ("none", "remix"), ({}, {"remix": {"probability": 1}}), strict=True):
        run["config"]["augment"] = config
        run["choices"]["augment"] = augment
        run["overrides"].append(f"augment={augment}")
    assert {c.label for c in build(runs).configurations} == {"none", "remix"}


def test_the_choice_of_a_head_is_a_difference_and_the_device_is_none():
    runs = [record(), record(seed=1), record()]
    for run, head, gpus in zip(runs, ("noise", "noise", "mask"), (0, 4, 1), strict=True):
        run["choices"]["model/head"] = head
        run["config"]["model"]["head"] = {"name": head}
        run["config"] |= {"trainer": {"gpus": gpus, "processes": gpus}, "deterministic": gpus == 0}
    assert columns(runs) == ["head"]
    assert {c.label: len(c.runs) for c in build(runs).configurations} == {"noise": 2, "mask": 1}


def test_columns_are_named_by_as_little_as_tells_them_apart():
    overrides = ["+one.width=8", "two.width=8", "trainer.max_epochs=8"]
    runs = [record(overrides=overrides), record(overrides=overrides)]
    for run, value in zip(runs, (8, 9), strict=True):
        run["config"] |= {"one": {"width": value}, "two": {"width": value}, "trainer": {"max_epochs": value}}
        run["config"]["scheduler"] = {"epochs": value}
    # Settings of the same last name keep their whole name; an interpolation is not named twice.
    assert columns(runs) == ["one.width", "max_epochs", "two.width"]


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
    assert words in "".join(shown(ranking))
    assert "Best by validation: unet8" in summary(ranking)[0]
    # A seed that was scored otherwise is a row of its own.
    seeds = build([record(seed=0), record(seed=1), record(seed=2, **change)])
    assert [(len(c.runs), bool(c.note)) for c in seeds.configurations] == [(2, False), (1, True)]
    # A run without a test is compared by its validation.
    assert not any(c.note for c in build([record("unet6"), record("unet8", test=None)]).configurations)


def test_pesq_never_stands_alone():
    only = {"n": 8, "pesq": 2.0}
    for test in (None, {"n": 8, "noisy": only, "enhanced": only}):
        run = record(monitor="val/pesq", best=2.0, validation=only, test=test)
        part = "test" if test else "val"
        assert all(f"{part} {metric}" in shown(build([run]))[0] for metric in ("PESQ", "STOI", "SI-SDR"))


def test_the_summary_says_how_much_another_seed_changes():
    runs = [record(model, seed=seed) for model in ("unet10", "unet6") for seed in (0, 2)]
    assert "val SI-SDR dB by about ±0.14 (" in summary(build(runs))[1]
    assert "one seed" in summary(build(runs[::2]))[1]
    assert "nothing to rank" in summary(build([record(status="failed")]))[0]


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
    assert paired_bootstrap(hard, hard).text("pesq") == "+0.00 [+0.00, +0.00] ~"


def test_scores_of_an_earlier_end_are_not_those_of_a_run_without_a_test(tmp_path):
    folder = write(tmp_path / "run", record())
    assert of_configuration(Configuration([record(folder=str(folder))]))
    assert not of_configuration(Configuration([record(folder=str(folder), test=None)]))


def test_common_files_are_compared_after_averaging_over_seeds():
    one = average([{"a": {"pesq": 1.0}, "b": {"pesq": 2.0}}, {"a": {"pesq": 3.0}, "b": {"pesq": math.nan}, "c": {}}])
    assert one == {"a": {"pesq": 2.0}, "b": {"pesq": 2.0}}
    found = compare(one, {"a": {"pesq": 1.0}, "b": {"pesq": 1.0}, "z": {"pesq": 9.0}})
    assert (found["pesq"].mean, found["pesq"].n) == (1.0, 2)
    assert (found["stoi"].n, found["stoi"].text("stoi")) == (0, "n/a")
    assert SeedStatistics.of([1.0, None, math.nan, 3.0]) == SeedStatistics(2.0, math.sqrt(2), 2)


def test_a_folder_of_runs_becomes_a_table_and_a_page(sweep, tmp_path, capsys):
    command.main([f"runs={sweep}", f"out={tmp_path / 'out'}"])
    shown = capsys.readouterr().out
    text, page = (tmp_path / "out/ranking.md").read_text(), (tmp_path / "out/ranking.html").read_text()
    for place in (shown, text):
        assert re.findall(r"^\| +(\d) \| (\w+ \w+) +\| +(\d) ", place, re.MULTILINE) == [
            ("1", "unet10 l1", "2"), ("2", "unet10 huber", "2"), ("3", "unet8 l1", "1"),
            ("4", "unet8 huber", "2"), ("5", "unet6 l1", "1"), ("6", "unet6 huber", "2"),
        ]  # fmt: skip
        assert "minus unet10 l1" in place  # the best against each other
    for place in (shown, text, page):
        assert "diverged: train/loss is nan" in place
        assert "failed: RuntimeError: out of memory" in place
        assert "damaged: " in place
        assert " <at step" not in place  # as text, not as markup
    with open(tmp_path / "out/ranking.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 6 + ["damaged", "diverged", "failed"]
    assert (rows[0]["seeds"], rows[0]["n"], rows[0]["val_si_sdr_mean"]) == ("1 0", "2", "13.35")
    assert (rows[0]["model"], rows[0]["loss"]) == ("unet10", "l1")
    assert float(rows[0]["test_si_sdr_std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert rows[2]["val_si_sdr_std"] == ""


def test_a_run_of_an_earlier_version_ranks_beside_those_of_today(sweep, tmp_path):
    """``old_run`` is a run as version 0.1.0 left it before its modules moved."""
    shutil.copytree(Path(__file__).parent / "old_run", sweep / "old")
    ranking = rank([sweep], tmp_path, write_page=False)
    (old,) = (c for c in ranking.configurations if c.runs[0]["folder"] == str(sweep / "old"))
    assert re.fullmatch(r"vctk_demand unet6 huber .*root=corpus depth=2 .*\(scored otherwise\)", old.label)
    assert read_scores(sweep / "old")["p232_000"]["si_sdr"] == pytest.approx(-19.5166)


def test_two_configurations_are_compared_by_place_name_or_folder(sweep, tmp_path, capsys):
    for pair in (("1", "2"), ("unet10 l1", "unet10 huber"), ("unet10-l1-0", str(sweep / "unet10-huber-1"))):
        # Folders that overlap count a run once.
        ranking = rank([sweep, sweep / "unet10-l1-0", sweep / "../sweep"], tmp_path / "out", pair, write_page=False)
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ranking.csv", "ranking.md"]
        assert sum(len(c.runs) for c in ranking.configurations) == 10
        assert not ranking.notes
        assert (list(ranking.intervals), ranking.reference) == (["unet10 l1"], "unet10 huber")
        assert "+0.30 [+0.30, +0.30]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["runs=nowhere"], "runs=nowhere: no such folder"),
        (["runs=empty"], "no run.json below"),
        ([], "runs missing"),
        (["runs=sweep", "compare=1"], "expected two configurations"),
        (["runs=sweep", "compare=1,unet99"], "no configuration unet99"),
        (["runs=sweep", "compare=1,unet10 l1"], "both name unet10 l1"),
        (["rnus=x"], "did you mean runs"),
    ],
)
def test_a_mistake_is_one_line(arguments, line, sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=re.escape(line)):
        command.main(arguments)


def test_a_text_that_no_encoding_has_is_shown_escaped(tmp_path):
    write(tmp_path / "runs/one", {**record(), "name": "\ud800", "overrides": ["x=\ud800"]})
    write(tmp_path / "runs/two", {**record("unet6"), "overrides": [], "name": "\ud800", "status": "failed"})
    rank([tmp_path / "runs"], tmp_path / "out")
    rank([tmp_path / "runs"], tmp_path / "out", base="1")
    assert r"\ud800" in (tmp_path / "out/ranking.md").read_text()


def test_a_damaged_file_costs_only_itself(tmp_path):
    good = write(tmp_path / "good", {**record(), "test": None})
    (good / "scores.csv").write_text("name,enhanced_pesq\na,2.5\nb\n")
    (good / "split.json").symlink_to("/dev/zero")
    for index, part in enumerate(({"config": None}, {"config": [1]}, {"monitor": 7}, {"mode": None})):
        write(tmp_path / str(index), {**record(), **part, "test": None})
    for name in ("deep", "pipe"):
        (tmp_path / name).mkdir()
    (tmp_path / "deep/run.json").write_text("[" * 100_000)
    os.mkfifo(tmp_path / "pipe/run.json")
    ranking = rank([tmp_path])
    assert [run["folder"] for run in ranking.runs] == [str(good)]
    assert [run["status"] for run, _ in ranking.unranked] == ["damaged"] * 6
    assert read_scores(good) == {}
