"""Progress bar over the seconds of audio of several files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from denoiser import audio
from denoiser.errors import DenoiserError, shown
from denoiser.inference.jobs import Job
from denoiser.inference.pipes import STDIN

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}, {remaining} left{postfix}]"


class StoppedError(Exception):
    """Ends the work on a file, raised from its progress callback."""


class Progress:
    """Progress bar over the seconds of audio that headers promise; what headers do not know is added as it comes."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.expected = {job: seconds_of(job.source) for job in jobs}
        self.done = 0.0  # seconds of audio
        self._bar = tqdm(
            total=sum(self.expected.values()),
            desc="enhancing",
            bar_format=BAR,
            smoothing=0.05,
            leave=False,
            disable=None,  # unless stderr is a terminal
        )
        self._begin = time.perf_counter()
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    @property
    def total(self) -> float:
        """Seconds of audio that are expected by now."""
        return float(self._bar.total)

    def stop(self) -> None:
        """Let files in progress end at their next callback, with StoppedError."""
        self._stopped = True

    def say(self, line: str, file: TextIO) -> None:
        """Print a line above the bar."""
        self._bar.write(shown(line), file=file)

    @contextmanager
    def of(self, job: Job) -> Iterator[Callable[[float], None]]:
        """Yield the progress callback of a file: called with the seconds of audio finished since the last call."""
        left = self.expected[job]

        def advance(seconds: float) -> None:
            nonlocal left
            if self._stopped:
                raise StoppedError
            with self._lock:
                self._bar.total += max(0.0, seconds - left)
                left = max(0.0, left - seconds)
                self.done += seconds
                if self.done:
                    factor = (time.perf_counter() - self._begin) / self.done
                    self._bar.set_postfix_str(f"real-time factor {factor:.3f}", refresh=False)
                self._bar.update(seconds)

        try:
            yield advance
        finally:
            with self._lock:
                # A file that failed, or was shorter than its header says, will not contribute these any more.
                self._bar.total -= left


def seconds_of(path: Path) -> float:
    """Return the seconds of audio that a file's header promises; 0 where it cannot be read."""
    if path is STDIN:
        return 0.0
    try:
        return audio.probe(path).seconds
    except DenoiserError:  # reported when its turn comes
        return 0.0
