"""Workers that score: the same numbers, signals, and ends."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from conftest import ROOT, make_voice
from denoiser.errors import DenoiserError
from denoiser.evaluation import scoring
from denoiser.evaluation.scoring import Scoring

NAMES = ("pesq", "si_sdr")
VOICE = make_voice(1.0, 16_000)[0]


@pytest.fixture
def one_worker():
    """A started scoring of one worker, and that worker's process."""
    before = multiprocessing.active_children()
    scorer = Scoring(1)
    scoring.result(scorer.score(VOICE, VOICE, 16_000, NAMES))
    (worker,) = [child for child in multiprocessing.active_children() if child not in before]
    yield scorer, worker
    scorer.close()


def test_a_worker_that_died_is_one_line(one_worker):
    scorer, worker = one_worker
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    with pytest.raises(DenoiserError, match="metric_workers=0"):
        scoring.result(scorer.score(VOICE, VOICE, 16_000, NAMES))


def test_workers_leave_the_signals_of_the_process_group_to_their_parent(one_worker):
    scorer, worker = one_worker
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(worker.pid, number)
    assert scoring.result(scorer.score(VOICE, VOICE, 16_000, NAMES))["si_sdr"] > 60


def test_workers_end_with_their_parent():
    code = (
        "import os, signal, torch\n"
        "from denoiser.evaluation.scoring import Scoring, result\n"
        "if __name__ == '__main__':\n"
        "    scorer = Scoring(1); x = torch.rand(1600)\n"
        "    result(scorer.score(x, x, 16_000, ['si_sdr']))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Returns once nobody holds its output any more: a worker that lives on hangs here.
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == -signal.SIGKILL


def test_a_network_on_the_cpu_gets_no_workers():
    before = multiprocessing.active_children()
    Scoring(None, "cpu").close()
    assert multiprocessing.active_children() == before
