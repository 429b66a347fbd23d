"""Many files through a Denoiser: progress, several at once; what is done is skipped, a bad one costs only itself."""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from denoiser import audio, figures
from denoiser.errors import DenoiserError, StopError, shown
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.jobs import Job, clear, dated, is_done
from denoiser.inference.options import Options
from denoiser.inference.pipes import STDIN, readable, writable
from denoiser.inference.recording import SHARED_BLOCK, Enhanced

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}, {remaining} left{postfix}]"
SERIAL = 0.15  # of the work on a file that more threads do not shorten: 0.18 at 3 s, 0.13 at 20 s (unet10, two cores)
MOST_AT_ONCE = 16  # files; each takes some 300 MB
MOST_BLOCKS = 4  # of one file
_drawing = threading.Lock()  # matplotlib is not made for several threads


@dataclass
class Outcome:
    """What became of the jobs of a command; ``skipped`` had been done before."""

    done: dict[Job, Enhanced] = field(default_factory=dict)
    skipped: list[Job] = field(default_factory=list)
    failed: dict[Job, DenoiserError] = field(default_factory=dict)

    @property
    def gains(self) -> dict[Job, float]:
        """Of each job whose output is there, the gain of that; 1 where it was there before."""
        return {**dict.fromkeys(self.skipped, 1.0), **{job: enhanced.gain for job, enhanced in self.done.items()}}


def enhance_files(
    denoiser: Denoiser,
    jobs: Sequence[Job],
    options: Options | None = None,
    *,
    loudness: float | None = None,
    overwrite: bool = True,
    plot: bool = False,
    at_once: int | None = None,
    among: Sequence[Job] | None = None,
) -> Outcome:
    """Enhance each file, showing progress in seconds of audio; one line a file on stdout, what fails on stderr.

    ``options`` and ``loudness`` are those of :meth:`Denoiser.enhance_file`. Without ``overwrite``, jobs that
    :func:`~denoiser.inference.jobs.is_done` knows are skipped. ``plot`` puts a PNG beside each output: waveforms and
    spectrograms, before and after. ``at_once`` files are under way together, by default as many as help, and
    share the CPU's threads. ``among`` are all the jobs of which these are a part: no two get one name for their PNG.
    Raises the error itself where the only file fails, and a KeyboardInterrupt that says how
    far it came.
    """
    outcome = Outcome(skipped=[] if overwrite else [job for job in jobs if is_done(job)])
    if outcome.skipped:
        print(
            f"{len(outcome.skipped)} of {len(jobs)} files skipped: their outputs are there and newer; "
            "overwrite=true makes them anew, after a change of checkpoint or settings, say"
        )
    done_before = set(outcome.skipped)
    todo = [job for job in jobs if job not in done_before]
    pictures = _pictures(among or jobs) if plot else {}
    clear([*(target for _, target in todo), *pictures.values()])
    on_cpu, threads = denoiser.spectral.window.device.type == "cpu", torch.get_num_threads()
    if at_once is None:
        at_once = files_at_once(len(todo), threads) if on_cpu else 1
    begin = time.perf_counter()
    again = "the same command without overwrite=true" if overwrite else "the same command"

    def enhance(job: Job) -> Enhanced | DenoiserError:
        try:
            with progress.of(job) as advance, writable(job[1]) as target, readable(job[0]) as source:
                blocks = blocks_at_once(denoiser, _seconds(job[0]), threads) if on_cpu and at_once == 1 else 1
                with _shared(blocks):
                    enhanced = denoiser.enhance_file(
                        source, target, options, loudness=loudness, progress=advance, blocks_at_once=blocks
                    )
                if plot:
                    _draw(source, target, pictures[job])
            dated(job)
            return enhanced
        except DenoiserError as error:
            return error
        except Exception as error:
            if len(jobs) == 1 or isinstance(error, _StoppedError):
                raise
            return DenoiserError(f"{job[0]}: {type(error).__name__}: {error}")

    try:
        with _Progress(todo) as progress, closing(_each(todo, enhance, at_once, progress.stop)) as results:
            for job, result in results:
                if isinstance(result, DenoiserError):
                    if len(jobs) == 1:
                        raise result
                    if _is_full(job):
                        finished = len(outcome.done) + len(outcome.skipped)
                        raise DenoiserError(
                            f"{result}: the disk is full; {finished} of {len(jobs)} files are done, and once there is "
                            f"room, {again} does the rest"
                        ) from result
                    outcome.failed[job] = result
                    progress.say(f"failed: {result}", sys.stderr)
                    continue
                outcome.done[job] = result
                progress.say(f"{job[0]} -> {job[1]}{_gain(result.gain, loudness)}", sys.stdout)
    except KeyboardInterrupt as error:
        if len(jobs) == 1:
            raise
        finished = len(outcome.done) + len(outcome.skipped)
        raise StopError(
            f"interrupted: {finished} of {len(jobs)} files are done; {again} does the rest", getattr(error, "code", 130)
        ) from None
    if seconds := sum(enhanced.seconds for enhanced in outcome.done.values()):
        elapsed = time.perf_counter() - begin
        print(f"{seconds:.1f} s of audio in {elapsed:.1f} s: real-time factor {elapsed / seconds:.3f}")
    if outcome.failed:
        reasons = [shown(outcome.failed[job]) for job in todo if job in outcome.failed]
        print(f"{len(reasons)} of {len(jobs)} files failed:", *reasons, sep="\n  ", file=sys.stderr)
    return outcome


def _is_full(job: Job) -> bool:
    """Whether the disk has no room for this output: then it has none for the next one either."""
    source, target = job
    try:
        return shutil.disk_usage(target.parent).free < max(1 << 16, source.stat().st_size)
    except OSError:
        return False


def files_at_once(files: int, threads: int) -> int:
    """How many to have under way, each with its share of the CPU's ``threads``, for all to be done soonest."""

    def rounds(n: int) -> float:
        return math.ceil(files / n) * (SERIAL + (1 - SERIAL) / (threads // n))

    return min(range(1, max(1, min(files, threads, MOST_AT_ONCE)) + 1), key=rounds)


def blocks_at_once(denoiser: Denoiser, seconds: float, threads: int) -> int:
    """How many blocks of a file of so many ``seconds`` to have under way, each with its share of the ``threads``.

    One of a network whose tensors are large (unet10 in float32: as fast by torch's threads, at half the memory).
    """
    if denoiser.causal or denoiser.block_seconds < SHARED_BLOCK:
        return 1
    return max(1, min(threads, MOST_BLOCKS, int(seconds / SHARED_BLOCK)))


@contextmanager
def _shared(at_once: int) -> Iterator[None]:
    """The CPU's threads, shared out to what is done at once."""
    threads = torch.get_num_threads()
    if at_once > 1:
        torch.set_num_threads(max(1, threads // at_once))
    try:
        yield
    finally:
        if at_once > 1:
            torch.set_num_threads(threads)


def _each(
    jobs: Sequence[Job], work: Callable[[Job], Enhanced | DenoiserError], at_once: int, stop: Callable[[], None]
) -> Generator[tuple[Job, Enhanced | DenoiserError], None, None]:
    """Each job with its result, as they come."""
    if at_once == 1:
        yield from ((job, work(job)) for job in jobs)
        return
    with _shared(at_once), ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(work, job): job for job in jobs}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        except BaseException:
            stop()
            pool.shutdown(cancel_futures=True)
            raise


class _StoppedError(Exception):
    """Ends the work on a file, from within its progress."""


class _Progress:
    """A bar over the seconds of audio that headers promise; those that come without are added."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._expected = {job: _seconds(job[0]) for job in jobs}
        total = sum(self._expected.values())
        self._bar = tqdm(total=total, disable=None, desc="enhancing", bar_format=_BAR, smoothing=0.05, leave=False)
        self._begin, self._done = time.perf_counter(), 0.0
        self._stopped, self._lock = False, threading.Lock()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def stop(self) -> None:
        """Files under way end at their next step."""
        self._stopped = True

    def say(self, line: str, file: object) -> None:
        self._bar.write(shown(line), file=file)

    @contextmanager
    def of(self, job: Job) -> Iterator[Callable[[float], None]]:
        """What is to be called with the seconds of a file's audio that are done."""
        left = self._expected[job]

        def advance(seconds: float) -> None:
            nonlocal left
            if self._stopped:
                raise _StoppedError
            with self._lock:
                self._bar.total += max(0.0, seconds - left)
                left = max(0.0, left - seconds)
                self._done += seconds
                if self._done:
                    factor = (time.perf_counter() - self._begin) / self._done
                    self._bar.set_postfix_str(f"real-time factor {factor:.3f}", refresh=False)
                self._bar.update(seconds)

        try:
            yield advance
        finally:
            with self._lock:
                self._bar.total -= left  # a file that failed, or was shorter than its header says


def _seconds(path: Path) -> float:
    try:
        return 0.0 if path is STDIN else audio.probe(path).seconds
    except DenoiserError:  # said when its turn comes
        return 0.0


def _gain(gain: float, loudness: float | None) -> str:
    if loudness is not None:
        return f", {20 * math.log10(gain):+.1f} dB towards {loudness:g} LUFS"  # a peak, or silence, may stop it short
    return f", turned down to {gain:.3f} to stay within full scale" if gain < 1 else ""


def _pictures(jobs: Sequence[Job]) -> Mapping[Job, Path]:
    """A PNG for each: talk.png, but talk.wav.png and talk.flac.png where two would share it."""
    times = Counter(target.with_suffix(".png") for _, target in jobs)
    return {
        (source, target): path
        if times[path := target.with_suffix(".png")] == 1
        else target.with_name(f"{target.name}.png")
        for source, target in jobs
    }


def _draw(source: Path, target: Path, picture: Path) -> None:
    with _drawing:
        figures.save_figure(picture, figures.before_and_after(source, target, source.name))
