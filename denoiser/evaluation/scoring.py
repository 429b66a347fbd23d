"""Worker processes that compute metrics while the network goes on with the next utterance."""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, current_process, get_context, parent_process
from threading import Thread

import numpy as np
import torch
from torch import Tensor

from denoiser.errors import DenoiserError
from denoiser.evaluation import metrics

Scores = dict[str, float]

# PESQ and STOI of 5 s take 0.2 s: no network is faster than eight workers.
MAX_WORKERS = 8
GRACE = 10  # seconds from SIGTERM to the end of a worker


class Scoring:
    """Metrics of utterances, computed at once or in worker processes.

    Args:
        workers: 0 computes in this process, at once. None: 0 if the network runs on the CPU, which has no time to
            spare, else up to 8. Workers end with :meth:`close`.
        device: of the network.
        shares: the number of such callers that share the processors of this machine.
    """

    def __init__(self, workers: int | None = None, device: str = "cpu", shares: int = 1) -> None:
        if workers is None:
            workers = 0 if device == "cpu" else min(MAX_WORKERS, (os.cpu_count() or 1) // shares - 1)
        # A daemon may have no children.
        if current_process().daemon:
            workers = 0
        self._pool: ProcessPoolExecutor | None = None
        if workers > 0:
            self._pool = start_processes(workers)
            with one_thread():
                for _ in range(workers):
                    self._pool.submit(_do_nothing)

    def score(self, clean: Tensor, estimate: Tensor, rate: int, names: Sequence[str]) -> Future[Scores]:
        """Begin :func:`metrics.score` on ``[N]`` each; :func:`result` waits for it.

        Raises DenoiserError if a worker died before.
        """
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
        raise DenoiserError(
            "scoring: a worker process died, most likely for lack of memory; metric_workers=0 scores without workers"
        ) from None


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch here, and the numeric libraries of processes started here, to one thread: workers are many."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before, threads = {name: os.environ[name] for name in names if name in os.environ}, torch.get_num_threads()
    os.environ.update(dict.fromkeys(names, "1"))
    # In this process too, as the last bit of a sum may depend on the number of threads.
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name in names:
            del os.environ[name]
        os.environ.update(before)


def start_processes(workers: int) -> ProcessPoolExecutor:
    """Return a pool of spawned workers that leave signals to their parent and end with it."""
    return ProcessPoolExecutor(workers, get_context("spawn"), _initialise)


def _do_nothing() -> None:
    """Take no time: a worker that does so has started."""


def _score(clean: np.ndarray, estimate: np.ndarray, rate: int, names: Sequence[str]) -> Scores:
    return metrics.score(torch.from_numpy(clean), torch.from_numpy(estimate), rate, names)


def _initialise() -> None:
    """Ignore the signals of a process group, as the parent may still be waiting for scores, and end with the parent."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        # Not ignored: a pool ends the other workers by SIGTERM when one has died, and waits for them.
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
