"""The metrics of utterances, reckoned in processes of their own while the network goes on to the next."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, current_process, get_context, parent_process
from threading import Thread

import torch
from torch import Tensor

from denoiser.errors import DenoiserError
from denoiser.evaluation import metrics

Scores = dict[str, float]
MOST = 8  # at work at once: PESQ and STOI of 5 s take 0.2 s, and no network is faster than eight of these
GRACE = 10  # seconds between SIGTERM and the end


class Scoring:
    """Scores now, or with ``workers`` in that many processes while the caller goes on.

    Args:
        workers: 0 scores in this process, at once; None: 0 where a CPU computes the network, which has nothing to
            spare, else up to 8. They start when the first score is asked for, and end with :meth:`close`.
        device: what computes the network.
        shares: how many such callers share this machine's processors.
    """

    def __init__(self, workers: int | None = None, device: str = "cpu", shares: int = 1) -> None:
        if workers is None:
            workers = 0 if device == "cpu" else min(MOST, (os.cpu_count() or 1) // shares - 1)
        if current_process().daemon:  # may have no children
            workers = 0
        self._pool: ProcessPoolExecutor | None = None
        if workers > 0:
            self._pool = processes(workers)
            with one_thread():
                for _ in range(workers):
                    self._pool.submit(ready)

    def score(self, clean: Tensor, estimate: Tensor, rate: int, names: Sequence[str]) -> Future[Scores]:
        """As :func:`metrics.score` on ``[N]`` each, for :func:`result`; DenoiserError where a process died before."""
        if self._pool is None:
            done: Future[Scores] = Future()
            done.set_result(metrics.score(clean, estimate, rate, names))
            return done
        with _alive():
            return self._pool.submit(_score, clean.cpu().numpy(), estimate.cpu().numpy(), rate, list(names))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def result(future: Future[Scores]) -> Scores:
    """Its result, waited for; DenoiserError where its process died."""
    with _alive():
        return future.result()


@contextmanager
def _alive() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise DenoiserError(
            "scoring: a process died, for lack of memory as a rule; scorers=0 scores in the training's own"
        ) from None


def processes(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, get_context("spawn"), _enter)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch here, and for all that calculates in processes started here: they are many themselves."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before, threads = {name: os.environ.get(name) for name in names}, torch.get_num_threads()
    os.environ.update(dict.fromkeys(names, "1"))
    torch.set_num_threads(1)  # also because the last bit of a sum may follow their number
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _score(clean: object, estimate: object, rate: int, names: Sequence[str]) -> Scores:
    return metrics.score(torch.as_tensor(clean), torch.as_tensor(estimate), rate, names)


def _enter() -> None:
    """What is sent to the whole group is the parent's to handle, which still wants the scores; without it all ends."""
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # the pool, too, ends by SIGTERM those that outlive one that died, and waits for them
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def ready() -> None:
    """What a process that could be started can do."""
