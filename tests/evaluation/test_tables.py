"""Tables of scores: text, CSV, JSON."""

import csv
import json
import math

import pytest

from denoiser.evaluation import tables
from denoiser.evaluation.metrics import METRICS


def row(name, pesq, gained=1.0, **facts):
    noisy, enhanced = {"pesq": pesq, "stoi": 0.5}, {"pesq": pesq + gained, "stoi": 0.6}
    return {"name": name, "noisy": noisy, "enhanced": enhanced, **facts}


def read(path):
    """Return the rows of a scores.csv, without its comments."""
    return list(csv.DictReader(line for line in path.open(newline="", encoding="utf-8") if not line.startswith("#")))


def test_a_table_is_aligned_and_valid_markdown():
    text = tables.table(["name", "n"], [["a|b <i>", "1"], ["c", "-10"]])
    assert text.splitlines() == [
        r"| name      |   n |", r"| --------- | --: |", r"| a\|b \<i> |   1 |", r"| c         | -10 |"
    ]  # fmt: skip


def test_the_summary_counts_files_without_a_metric_and_names_definitions_and_versions(tmp_path):
    summary = tables.write_scores([row("a", 1.0), row("b", 3.0, math.nan)], tmp_path, seed=3)
    # For PESQ, b counts on neither side.
    assert summary["noisy"] == {"pesq": 1.0, "stoi": 0.5}
    assert summary["enhanced"] == {"pesq": 2.0, "stoi": 0.6}
    assert summary["undefined"] == {"pesq": 1}
    assert read(tmp_path / "scores.csv")[1] == {
        "name": "b", "noisy_pesq": "3.0", "noisy_stoi": "0.5", "enhanced_pesq": "nan", "enhanced_stoi": "0.6"
    }  # fmt: skip
    text = tables.scores_table(summary)
    assert "+0.100" in text
    assert "PESQ: not defined for 1 of 2 files" in text
    notes = [line for line in (tmp_path / "scores.csv").read_text().splitlines() if line.startswith("#")]
    assert any(line.startswith("# pesq: ") and "P.862.2" in line for line in notes)
    assert any("pystoi" in line and "torch 2" in line for line in notes)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert (content["seed"], set(content["definitions"])) == (3, {"pesq", "stoi"})
    assert "pesq" in content["versions"]


def test_any_name_comes_back_from_the_csv(tmp_path):
    names = ["#1 take, two", 'a "quoted" one', "plain", "ünï=code#2", "-dash"]
    tables.write_scores([row(name, 1.0) for name in names], tmp_path)
    assert [line["name"] for line in read(tmp_path / "scores.csv")] == names
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(tmp_path / "scores.csv", comment="#")
    assert list(frame["name"]) == names
    assert frame["enhanced_pesq"].mean() == 2.0


def test_scores_are_broken_down_by_noise_type_snr_and_speaker(tmp_path):
    rows = [
        row("p1_1", 1.0, noise_type="bus", snr_db=15.0, speaker="p1"),
        row("p1_2", 2.0, noise_type="cafe", snr_db=2.5, speaker="p1"),
        row("p2_1", 4.0, gained=0.5, noise_type="bus", snr_db=2.5, speaker="p2"),
        row("p2_2", 1.5, speaker="p2"),
    ]
    summary = tables.write_scores(rows, tmp_path)
    groups = json.loads((tmp_path / "scores.json").read_text())["groups"]
    assert list(groups) == ["noise_type", "snr_db", "speaker"]
    assert list(groups["snr_db"]) == ["2.5", "15", "unknown"]
    assert groups["noise_type"]["bus"]["n"] == 2
    assert groups["speaker"]["p2"]["enhanced"]["pesq"] == 3.5
    first, *_, last = read(tmp_path / "scores.csv")
    assert (first["noise_type"], first["snr_db"], first["speaker"]) == ("bus", "15.0", "p1")
    assert (last["noise_type"], last["snr_db"], last["speaker"]) == ("", "", "p2")
    text = " ".join(tables.scores_table(summary).split())
    assert "| bus | 2 | 2.50 -> 3.25 | 0.500 -> 0.600 |" in text
    assert all(f"| by {fact} | n | PESQ | STOI |" in text for fact in ("noise type", "SNR dB", "speaker"))


def test_a_breakdown_is_no_wider_than_a_terminal(tmp_path):
    scores = dict.fromkeys(METRICS, 9.5)
    rows = [{"name": kind, "noisy": scores, "enhanced": scores, "noise_type": kind} for kind in ("bus", "cafe")]
    overall, breakdown = tables.scores_table(tables.write_scores(rows, tmp_path)).split("\n\n")
    assert all(metric.heading in overall for metric in METRICS.values())
    assert max(map(len, breakdown.splitlines())) < 120


def test_a_breakdown_of_one_group_or_of_too_many_is_left_out():
    # One noise type, 21 SNRs.
    alike = [row(f"a{i}", 1.0, noise_type="bus", snr_db=float(i)) for i in range(21)]
    assert tables.groups(alike) == {}
    assert list(tables.groups(alike[:20])) == ["snr_db"]
