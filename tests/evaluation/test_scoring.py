from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, TINY, make_noise, make_voice, train_here

from denoiser.errors import DenoiserError
from denoiser.evaluation import metrics, scoring
from denoiser.evaluation.scoring import Scoring

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


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signals here")
def test_what_reaches_the_whole_group_is_the_trainings_to_handle():
    beside = Scoring(1)
    voice = make_voice(1.0, 16_000)[0]
    scoring.result(beside.score(voice, voice, 16_000, ("si_sdr",)))
    (process,) = beside._pool._processes.values()
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        os.kill(process.pid, number)
    assert scoring.result(beside.score(voice, voice, 16_000, ("si_sdr",)))["si_sdr"] > 60
    beside.close()


def test_processes_end_with_the_one_that_they_score_for():
    code = (
        "import os, signal, torch; from denoiser.evaluation.scoring import Scoring, result\n"
        "if __name__ == '__main__':\n"
        "    one = Scoring(1); x = torch.rand(1600)\n"
        "    result(one.score(x, x, 16_000, ['si_sdr']))\n"
        "    print(*one._pool._processes, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    pid = int(run.stdout)
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it lives on, ten seconds after")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # an orphan that nobody reaps is gone as well
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_none_but_for_a_gpu():
    assert Scoring(None, "cpu")._pool is None


def test_training_says_the_same(vctk, tmp_path):
    for scorers in (0, 2):
        train_here(
            tmp_path / str(scorers), f"data.root={vctk}", *TINY, f"metric_workers={scorers}", "trainer.max_epochs=1"
        )
    records = [json.loads((tmp_path / str(scorers) / "run.json").read_text()) for scorers in (0, 2)]
    assert records[0]["validation"] == records[1]["validation"]
    assert records[0]["test"] == records[1]["test"]
    assert records[0]["test"]["enhanced"]["pesq"] > 1
