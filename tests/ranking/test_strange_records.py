"""Records and scores that are damaged, or that no program of this project wrote."""

from __future__ import annotations

import os

import pytest
from records import record, write

from denoiser.ranking.rank import rank


@pytest.mark.parametrize("part", [{"config": None}, {"config": [1]}, {"monitor": 7}, {"mode": None}])
def test_a_damaged_record_costs_only_itself(tmp_path, part):
    for index, more in enumerate(({}, part)):
        write(tmp_path / "runs" / str(index), {**record(seed=index), **more, "test": None})
    ranking = rank(tmp_path / "runs", tmp_path / "out")
    assert [run["folder"] for c in ranking.configurations for run in c.runs] == [str(tmp_path / "runs/0")]
    assert [run["status"] for run, _ in ranking.unranked] == ["damaged"]


def test_a_text_that_no_encoding_has_is_shown_escaped(tmp_path):
    write(tmp_path / "runs/one", {**record(), "choices": {"model": "\ud800"}, "overrides": ["x=\ud800"]})
    write(tmp_path / "runs/two", {**record("unet6"), "name": "\ud800", "status": "failed"})
    rank(tmp_path / "runs", tmp_path / "out")
    rank(tmp_path / "runs", tmp_path / "out", base="1")
    assert r"\ud800" in (tmp_path / "out/ranking.md").read_text()


def test_files_that_never_end_are_no_texts(tmp_path):
    run = write(tmp_path / "runs/one", {**record(), "test": None})
    os.mkfifo(run / "scores.csv")
    (run / "split.json").symlink_to("/dev/zero")
    (tmp_path / "runs/two").mkdir()
    os.mkfifo(tmp_path / "runs/two/run.json")
    (tmp_path / "runs/three").mkdir()
    (tmp_path / "runs/three/run.json").write_text("[" * 100_000)
    ranking = rank(tmp_path / "runs", tmp_path / "out")
    assert len(ranking.configurations) == 1
    assert {run["status"] for run, _ in ranking.unranked} == {"damaged"}
