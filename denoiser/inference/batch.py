"""Many files through a Denoiser: several at once, with progress; finished ones are skipped, and failures reported."""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from denoiser import figures
from denoiser.errors import DenoiserError, StopError, shown
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.jobs import Job, is_done, mark_done, remove_partial_files
from denoiser.inference.options import Options
from denoiser.inference.pipes import readable, writable
from denoiser.inference.progress import Progress, StoppedError, seconds_of
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

    @property
    def finished(self) -> int:
        """Number of jobs whose target exists."""
        return len(self.done) + len(self.skipped)


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
    outcome = Outcome()
    if not overwrite:
        outcome.skipped = [job for job in jobs if is_done(job)]
    if outcome.skipped:
        print(
            f"{len(outcome.skipped)} of {len(jobs)} files skipped: their outputs are there and newer; "
            "overwrite=true makes them anew, after a change of checkpoint or settings, say"
        )
    skipped = set(outcome.skipped)
    todo = [job for job in jobs if job not in skipped]
    remove_partial_files([job.target for job in todo])
    if plot:
        remove_partial_files([_picture(job) for job in todo])
    resume = "the same command without overwrite=true" if overwrite else "the same command"
    on_cpu, threads = denoiser.device.type == "cpu", torch.get_num_threads()
    if at_once is None:
        at_once = files_at_once(len(todo), threads) if on_cpu else 1
    begin = time.perf_counter()

    def enhance(job: Job) -> Enhanced | DenoiserError:
        blocks = 1
        if on_cpu and at_once == 1:
            blocks = blocks_at_once(denoiser, seconds_of(job.source), threads)
        try:
            with progress.of(job) as advance, writable(job.target) as target, readable(job.source) as source:
                with _sharing_threads(blocks):
                    enhanced = denoiser.enhance_file(
                        source, target, options, loudness=loudness, progress=advance, blocks_at_once=blocks
                    )
                if plot:
                    with _drawing:
                        figures.save_figure(_picture(job), figures.before_and_after(source, target, source.name))
            mark_done(job)
            return enhanced
        except DenoiserError as error:
            return error
        except StoppedError:
            raise
        except Exception as error:
            if len(jobs) == 1:
                raise
            return DenoiserError(f"{job.source}: {type(error).__name__}: {error}")

    try:
        with Progress(todo) as progress, closing(_results(todo, enhance, at_once, progress.stop)) as results:
            for job, result in results:
                if isinstance(result, Enhanced):
                    outcome.done[job] = result
                    progress.say(f"{job.source} -> {job.target}{_gain(result.gain, loudness)}", sys.stdout)
                    continue
                if len(jobs) == 1:
                    raise result
                if _disk_is_full(job):
                    raise DenoiserError(
                        f"{result}: the disk is full; {outcome.finished} of {len(jobs)} files are done, and once there "
                        f"is room, {resume} does the rest"
                    ) from result
                outcome.failed[job] = result
                progress.say(f"failed: {result}", sys.stderr)
    except KeyboardInterrupt as error:
        if len(jobs) == 1:
            raise
        raise StopError(
            f"interrupted: {outcome.finished} of {len(jobs)} files are done; {resume} does the rest",
            error.code if isinstance(error, StopError) else 130,
        ) from None
    _summarize(outcome, todo, len(jobs), time.perf_counter() - begin)
    return outcome


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


def _picture(job: Job) -> Path:
    """Return the PNG beside a target: talk.png for talk.wav, but talk.flac.png for talk.flac, so that both have one."""
    if job.target.suffix.lower() == ".wav":
        return job.target.with_suffix(".png")
    return job.target.with_name(f"{job.target.name}.png")


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
    if at_once > 1:
        torch.set_num_threads(max(1, threads // at_once))
    try:
        yield
    finally:
        if at_once > 1:
            torch.set_num_threads(threads)


def _results(
    jobs: Sequence[Job], work: Callable[[Job], Enhanced | DenoiserError], at_once: int, stop: Callable[[], None]
) -> Generator[tuple[Job, Enhanced | DenoiserError], None, None]:
    """Yield each job with its result, in the order in which they finish; ``stop`` ends those still in progress."""
    if at_once == 1:
        for job in jobs:
            yield job, work(job)
        return
    with _sharing_threads(at_once), ThreadPoolExecutor(at_once) as pool:
        futures = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            stop()
            pool.shutdown(cancel_futures=True)
            raise
