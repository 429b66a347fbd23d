from __future__ import annotations

import json
import os
import signal

import pytest
from conftest import TINY, make_noise, make_voice, train_here

from denoiser import metrics, scoring
from denoiser.errors import DenoiserError
from denoiser.scoring import Scoring

NAMES = ("pesq", "si_sdr")


def test_other_processes_score_as_this_one_does():
    voice = make_voice(1.0, 16_000)[0]
    noisy = [voice + gain * make_noise(1.0, 16_000)[0] for gain in (0.1, 0.5)]
    beside = Scoring(2)
    futures = [beside.score(voice, x, 16_000, NAMES) for x in noisy]
    expected = [metrics.score(voice, x, 16_000, NAMES) for x in noisy]
    assert [scoring.result(future) for future in futures] == expected
    beside.close()


def test_a_process_that_died_is_one_line():
    beside = Scoring(1)
    voice = make_voice(1.0, 16_000)[0]
    scoring.result(beside.score(voice, voice, 16_000, ("si_sdr",)))
    (process,) = beside._pool._processes.values()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(DenoiserError, match="scorers=0"):
        scoring.result(beside.score(voice, voice, 16_000, NAMES))
    beside.close()


def test_none_but_for_a_gpu():
    assert Scoring(None, "cpu")._pool is None


def test_training_says_the_same(vctk, tmp_path):
    for scorers in (0, 2):
        train_here(tmp_path / str(scorers), f"data.root={vctk}", *TINY, f"scorers={scorers}", "trainer.max_epochs=1")
    records = [json.loads((tmp_path / str(scorers) / "run.json").read_text()) for scorers in (0, 2)]
    assert records[0]["validation"] == records[1]["validation"]
    assert records[0]["test"] == records[1]["test"]
    assert records[0]["test"]["enhanced"]["pesq"] > 1
