"""Many files through a Denoiser: several at once, with progress; finished ones are skipped, and failures reported."""

import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from denoiser import figures
from denoiser.errors import DenoiserError, StopError, shown
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.jobs import Job, is_done, mark_done, remove_partial_files
from denoiser.inference.options import Options
from denoiser.inference.pipes import readable, writable
from denoiser.inference.progress import Progress
from denoiser.inference.recording import SHARED_BLOCK, Enhanced

# Share of the work on a file that more threads do not shorten: 0.18 of 3 s, 0.13 of 20 s (unet10, two cores).
SERIAL_SHARE = 0.15
MAX_FILES_AT_ONCE = 16  # each takes about 300 MB
MAX_BLOCKS_AT_ONCE = 4  # of one file
MIN_FREE_BYTES = 1 << 16
_drawing = threading.Lock()  # matplotlib is not thread-safe


@dataclass
class Outcome:
    """Results of the jobs of a command. ``skipped`` are those that had been done before."""

    done: dict[Job, Enhanced] = field(default_factory=dict)
    skipped: list[Job] = field(default_factory=list)
    failed: dict[Job, DenoiserError] = field(default_factory=dict)

    @property
    def gains(self) -> dict[tuple[Path, Path], float]:
        """Gain of each job whose target exists; 1 where it was skipped."""
        gains: dict[tuple[Path, Path], float] = dict.fromkeys(self.skipped, 1.0)
        return gains | {job: enhanced.gain for job, enhanced in self.done.items()}


def enhance_files(
    denoiser: Denoiser,
    jobs: Sequence[Job],
    options: Options | None = None,
    *,
    loudness: float | None = None,
    overwrite: bool = True,
    plot: bool = False,
    at_once: int | None = None,
) -> Outcome:
    """Enhance files, with progress in seconds of audio; prints one line per file, on stderr for one that failed.

    Args:
        denoiser: network and representation.
        jobs: sources and targets.
        options: choices of the listener.
        loudness: of each result, LUFS; None leaves it as it is.
        overwrite: False skips the jobs that are done.
        plot: write a PNG beside each target, of waveforms and spectrograms before and after.
        at_once: files in progress at the same time, which share the CPU's threads; by default as many as are fastest.

    Raises the error itself where the only job fails, DenoiserError when the disk is full, and StopError when
    interrupted: the last two say how many files are done.
    """
    outcome = Outcome(skipped=[] if overwrite else [job for job in jobs if is_done(job)])
    if outcome.skipped:
        print(
            f"{len(outcome.skipped)} of {len(jobs)} files skipped: their outputs are there and newer; "
            "overwrite=true makes them anew, after a change of checkpoint or settings, say"
        )
    skipped = set(outcome.skipped)
    todo = [job for job in jobs if job not in skipped]
    remove_partial_files([*(job.target for job in todo), *(job.picture for job in todo)])
    threads = torch.get_num_threads() if denoiser.device.type == "cpu" else 1
    at_once = at_once or files_at_once(len(todo), threads)
    progress = Progress(todo)

    def enhance(job: Job) -> Enhanced:
        blocks = blocks_at_once(denoiser, progress.seconds[job], threads) if at_once == 1 else 1
        with progress.of(job) as advance, writable(job.target) as target, readable(job.source) as source:
            with _sharing_threads(blocks):
                enhanced = denoiser.enhance_file(
                    source, target, options, loudness=loudness, progress=advance, blocks_at_once=blocks
                )
            if plot:
                with _drawing:
                    figures.save_figure(job.picture, figures.before_and_after(source, target, source.name))
        mark_done(job)
        return enhanced

    def advice() -> str:
        finished = len(outcome.done) + len(outcome.skipped)
        command = "the same command without overwrite=true" if overwrite else "the same command"
        return f"{finished} of {len(jobs)} files are done; {command} does the rest"

    def attempt(job: Job) -> None:
        try:
            enhanced = enhance(job)
        except Exception as error:
            if len(jobs) == 1:
                raise
            unforeseen = f"{job.source}: {type(error).__name__}: {error}"
            failure = error if isinstance(error, DenoiserError) else DenoiserError(unforeseen)
            if _disk_is_full(job):
                raise DenoiserError(f"{failure}: the disk is full; {advice()}") from error
            outcome.failed[job] = failure
            tqdm.write(shown(f"failed: {failure}"), file=sys.stderr)
        else:
            outcome.done[job] = enhanced
            tqdm.write(shown(f"{job.source} -> {job.target}{_gain(enhanced.gain, loudness)}"), file=sys.stdout)

    begin = time.perf_counter()
    try:
        with progress.bar:
            _each(todo, attempt, at_once, progress.stop)
    except KeyboardInterrupt as error:
        if len(jobs) == 1:
            raise
        raise StopError(f"interrupted: {advice()}", error.code if isinstance(error, StopError) else 130) from None
    _summarize(outcome, todo, len(jobs), time.perf_counter() - begin)
    return outcome


def _each(jobs: Sequence[Job], work: Callable[[Job], None], at_once: int, stop: Callable[[], None]) -> None:
    """Work on each job, several at once; the first error cancels the rest, and ``stop`` ends those in progress."""
    if at_once == 1:
        for job in jobs:
            work(job)
        return
    with _sharing_threads(at_once), ThreadPoolExecutor(at_once) as pool:
        try:
            for future in as_completed([pool.submit(work, job) for job in jobs]):
                future.result()
        except BaseException:
            stop()
            pool.shutdown(cancel_futures=True)
            raise


def _summarize(outcome: Outcome, todo: Sequence[Job], total: int, elapsed: float) -> None:
    """Print the speed, and on stderr the files that failed."""
    seconds = sum(enhanced.seconds for enhanced in outcome.done.values())
    if seconds:
        print(f"{seconds:.1f} s of audio in {elapsed:.1f} s: real-time factor {elapsed / seconds:.3f}")
    if outcome.failed:
        reasons = [shown(outcome.failed[job]) for job in todo if job in outcome.failed]
        print(f"{len(reasons)} of {total} files failed:", *reasons, sep="\n  ", file=sys.stderr)


def _gain(gain: float, loudness: float | None) -> str:
    if loudness is not None:
        # "Towards": a peak at full scale, or silence, may stop it short.
        return f", {20 * math.log10(gain):+.1f} dB towards {loudness:g} LUFS"
    return f", turned down to {gain:.3f} to stay within full scale" if gain < 1 else ""


def _disk_is_full(job: Job) -> bool:
    """Return True where there is no room for this target, and so none for the next either."""
    try:
        free = shutil.disk_usage(job.target.parent).free
        return free < max(MIN_FREE_BYTES, job.source.stat().st_size)
    except OSError:
        return False


def files_at_once(files: int, threads: int) -> int:
    """Return the number of files to enhance at the same time, sharing the threads, that is done soonest."""

    def duration(at_once: int) -> float:
        rounds = math.ceil(files / at_once)
        return rounds * (SERIAL_SHARE + (1 - SERIAL_SHARE) / (threads // at_once))

    most = max(1, min(files, threads, MAX_FILES_AT_ONCE))
    return min(range(1, most + 1), key=duration)


def blocks_at_once(denoiser: Denoiser, seconds: float, threads: int) -> int:
    """Return the number of blocks of a file of ``seconds`` to enhance at the same time, each with its share of threads.

    It is 1 for a causal network, and for one with large tensors: unet10 in float32 is as fast by torch's own threads,
    at half the memory.
    """
    if denoiser.causal or denoiser.block_seconds < SHARED_BLOCK:
        return 1
    return max(1, min(threads, MAX_BLOCKS_AT_ONCE, int(seconds / SHARED_BLOCK)))


@contextmanager
def _sharing_threads(at_once: int) -> Iterator[None]:
    """Divide torch's threads among as many computations at the same time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // at_once))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
