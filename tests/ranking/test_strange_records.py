"""Records of runs made by strangers: nothing in them is run, and a damaged one costs only itself."""

from __future__ import annotations

import json

import pytest
import records

from denoiser.errors import ConfigError, CorpusError
from denoiser.ranking import clips, rank


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.Popen", "test_strange_records.Evil", "", None, 7, ["os.system"]]
)
def test_the_record_of_a_run_names_no_code(tmp_path, monkeypatch, target):
    """``run.json`` says by which class the corpus was read; ranking runs reads it with that class, for its clips."""
    monkeypatch.chdir(tmp_path)
    run = records.record()
    run["config"]["data"] = {"_target_": target, "args": ["touch", "ran"], "command": "touch ran"}
    with pytest.raises((CorpusError, ConfigError), match=r"is unknown|does not say"):
        clips._test_set(run)
    records.write(tmp_path / "runs/one", run)
    rank.rank(tmp_path / "runs", tmp_path / "out")
    assert "Made without sounds" in (tmp_path / "out/ranking.html").read_text()
    assert not ran
    assert not (tmp_path / "ran").exists()


ran: list[bool] = []


class Evil:
    def __init__(self, **settings) -> None:
        ran.append(True)


@pytest.mark.parametrize(
    "part",
    [{"best": [1]}, {"parameters": {}}, {"mode": "sideways"}, {"monitor": 7}, {"config": {"model": [], "data": 1}},
     {"macs_per_second": 10**400}, {"validation": {"pesq": "high"}}, {"curve": [{"epoch": "one"}]}, {"split": [1]},
     {"versions": {"torch": {}}}, {"overrides": [1]}, {"choices": {"model": []}}, {"fit_seconds": "long"}],
)  # fmt: skip
def test_a_record_that_says_something_else_costs_only_itself(tmp_path, part):
    for index, more in enumerate(({}, part)):
        records.write(tmp_path / "runs" / str(index), {**records.record(seed=index), **more, "test": None})
    ranking = rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False)
    assert [run["folder"] for c in ranking.configurations for run in c.runs] == [str(tmp_path / "runs/0")]
    assert [run["status"] for run, _ in ranking.unranked] == ["damaged"]


def test_a_text_that_no_encoding_has_is_shown_escaped(tmp_path, capsys):
    records.write(
        tmp_path / "runs/one", {**records.record(), "choices": {"model": "\ud800"}, "overrides": ["x=\ud800"]}
    )
    records.write(tmp_path / "runs/two", {**records.record("unet6"), "name": "\ud800", "status": "failed"})
    rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False)
    rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False, base="1")
    assert r"\ud800" in (tmp_path / "out/ranking.md").read_text()


def test_files_that_never_end_are_no_texts(tmp_path):
    import os

    run = records.write(tmp_path / "runs/one", {**records.record(), "test": None})
    os.mkfifo(run / "scores.csv")
    (run / "split.json").symlink_to("/dev/zero")
    (tmp_path / "runs/two").mkdir()
    os.mkfifo(tmp_path / "runs/two/run.json")
    (tmp_path / "runs/three").mkdir()
    (tmp_path / "runs/three/run.json").write_text("[" * 100_000)
    ranking = rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False)
    assert len(ranking.configurations) == 1
    assert {json.loads(json.dumps(run["status"])) for run, _ in ranking.unranked} == {"damaged"}
