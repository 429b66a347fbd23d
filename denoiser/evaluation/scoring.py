"""Worker processes that compute metrics while the network goes on with the next utterance."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import connection, current_process, get_context, parent_process
from threading import Thread

import numpy as np
import torch
from torch import Tensor

from denoiser.distributed import leave_signals_to_parent
from denoiser.errors import DenoiserError
from denoiser.evaluation import metrics

Scores = dict[str, float]
MAX_WORKERS = 8  # PESQ and STOI of 5 s take 0.2 s: no network is faster than eight workers


class Scoring:
    """Metrics of utterances, computed at once or in worker processes, which end with :meth:`close`.

    ``workers`` of 0 computes in this process, at once; None is 0 if the network runs on the CPU, which has no time to
    spare, else up to 8. ``shares`` is the number of such callers on this machine.
    """

    def __init__(self, workers: int | None = None, device: str = "cpu", shares: int = 1) -> None:
        if workers is None:
            workers = 0 if device == "cpu" else min(MAX_WORKERS, (os.cpu_count() or 1) // shares - 1)
        self._pool: ProcessPoolExecutor | None = None
        # A daemon may have no children.
        if workers > 0 and not current_process().daemon:
            self._pool = start_processes(workers)

    def score(self, clean: Tensor, estimate: Tensor, rate: int, names: Sequence[str]) -> Future[Scores]:
        """Begin :func:`metrics.score` on ``[N]`` each; DenoiserError if a worker died before."""
        if self._pool is None:
            done: Future[Scores] = Future()
            done.set_result(metrics.score(clean, estimate, rate, names))
            return done
        with _explain_dead_workers():
            return self._pool.submit(_score, clean.cpu().numpy(), estimate.cpu().numpy(), rate, list(names))

    def close(self) -> None:
        """End the workers; scores that are not begun are dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def result(future: Future[Scores]) -> Scores:
    """Wait for scores and return them; DenoiserError if the worker died."""
    with _explain_dead_workers():
        return future.result()


@contextmanager
def _explain_dead_workers() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        advice = "metric_workers=0 scores without workers"
        raise DenoiserError(f"scoring: a worker process died, likely for lack of memory; {advice}") from None


def start_processes(workers: int) -> ProcessPoolExecutor:
    """Start spawned workers of one thread each, which leave signals to their parent and end with it."""
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _initialise)
    # The numeric libraries of a worker read these when it starts.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    # One that died at once is told when a score is asked for.
    with suppress(BrokenProcessPool):
        for _ in range(workers):
            # It takes no time, and starts a worker.
            pool.submit(int)
    for name in names:
        del os.environ[name]
    os.environ.update(before)
    return pool


def _score(clean: np.ndarray, estimate: np.ndarray, rate: int, names: Sequence[str]) -> Scores:
    return metrics.score(torch.from_numpy(clean), torch.from_numpy(estimate), rate, names)


def _initialise() -> None:
    """Leave signals to the parent, which may still be waiting for scores, and end with it."""
    leave_signals_to_parent()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
