"""Progress bar over the seconds of audio of several files."""

import threading
from collections.abc import Sequence

from tqdm import tqdm

from denoiser import audio
from denoiser.errors import DenoiserError
from denoiser.inference.jobs import Job
from denoiser.inference.pipes import STDIN

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}, {remaining} left]"


class Progress:
    """Progress bar over ``seconds``, the length that the header of each source promises."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.seconds = {job: _seconds_of(job) for job in jobs}
        self._left = dict(self.seconds)
        total = sum(self.seconds.values())
        # None hides the bar unless stderr is a terminal.
        hidden = None if total else True
        self.bar = tqdm(total=total, desc="enhancing", bar_format=BAR, smoothing=0.05, leave=False, disable=hidden)
        self.is_stopped = False
        self._lock = threading.Lock()

    def advance(self, job: Job, seconds: float) -> None:
        """Count the seconds of a file that were finished since the last call; KeyboardInterrupt if it is stopped."""
        if self.is_stopped:
            raise KeyboardInterrupt
        self._count(job, min(seconds, self._left[job]))

    def end(self, job: Job) -> None:
        """Count the rest of a file: one that failed, or was shorter than its header says, is over as well."""
        self._count(job, self._left[job])

    def _count(self, job: Job, seconds: float) -> None:
        with self._lock:
            self._left[job] -= seconds
            self.bar.update(seconds)


def _seconds_of(job: Job) -> float:
    try:
        return 0.0 if job.source is STDIN else audio.probe(job.source).seconds
    except DenoiserError:  # reported when its turn comes
        return 0.0
