"""Progress bar over the seconds of audio of several files."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from denoiser import audio
from denoiser.errors import DenoiserError
from denoiser.inference.jobs import Job
from denoiser.inference.pipes import STDIN

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}, {remaining} left]"


class Progress:
    """Progress bar over ``seconds``, the length that the header of each source promises."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.seconds = {job: seconds_of(job.source) for job in jobs}
        total = sum(self.seconds.values())
        # None hides the bar unless stderr is a terminal.
        hidden = None if total else True
        self.bar = tqdm(total=total, desc="enhancing", bar_format=BAR, smoothing=0.05, leave=False, disable=hidden)
        self._stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let files in progress end at their next callback, with KeyboardInterrupt."""
        self._stopped = True

    @contextmanager
    def of(self, job: Job) -> Iterator[Callable[[float], None]]:
        """Yield the progress callback of a file: called with the seconds of audio finished since the last call."""
        left = self.seconds[job]

        def advance(seconds: float) -> None:
            nonlocal left
            if self._stopped:
                raise KeyboardInterrupt
            seconds = min(seconds, left)
            left -= seconds
            with self._lock:
                self.bar.update(seconds)

        try:
            yield advance
        finally:
            # A file that failed, or was shorter than its header says, is over as well.
            with self._lock:
                self.bar.update(left)


def seconds_of(path: Path) -> float:
    """Return the seconds of audio that a file's header promises; 0 where it cannot be read."""
    try:
        return 0.0 if path is STDIN else audio.probe(path).seconds
    except DenoiserError:  # reported when its turn comes
        return 0.0
