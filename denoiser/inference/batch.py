"""Many files through a Denoiser: several at once, with progress; finished ones are skipped, and failures reported."""

import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import cast

import torch
from tqdm import tqdm

from denoiser import audio, figures
from denoiser.audio import piped
from denoiser.audio.libsndfile import STDERR
from denoiser.audio.loudness import Meter
from denoiser.audio.raw import Raw
from denoiser.errors import AudioError, DenoiserError, StopError, brief, shown
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.jobs import Job, is_done
from denoiser.inference.live_pipe import enhance_pipe
from denoiser.inference.options import Options
from denoiser.inference.pipes import STDIN, STDOUT, as_files, is_pipe, refuse_terminals
from denoiser.inference.recording import SHARED_BLOCK, Enhanced

MAX_FILES_AT_ONCE = 16  # each takes about 300 MB
MAX_BLOCKS_AT_ONCE = 4  # of one file
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}, {remaining} left]"


@dataclass
class Outcome:
    """Results of the jobs of a command. ``skipped`` jobs were already done."""

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
    track: int | None = None,
    plot: bool = False,
    at_once: int | None = None,
    raw: Raw | None = None,
) -> Outcome:
    """Enhance files, with progress in seconds of audio; prints a line per file, on stderr for a failure.

    Args:
        loudness: of each result, LUFS; None leaves it as it is.
        overwrite: False skips the jobs that are done.
        track: of several sound tracks the one to enhance, from 1; None takes the one that a file calls its default.
        plot: write a PNG beside each target, of waveforms and spectrograms before and after.
        at_once: files in progress at the same time, which share the CPU's threads; by default one for each thread.
        raw: the format of the inputs, if they are headerless PCM.

    Raises the error of a job that is alone, and DenoiserError for settings that no file can be done with. An
    interruption of several raises StopError, which tells how to go on.
    """
    denoiser.check(options or Options())
    if loudness is not None:
        Meter(denoiser.sample_rate, channels=1)
    if plot:
        figures.require()
    outcome = Outcome(skipped=[] if overwrite else [job for job in jobs if is_done(job)])
    skipped = set(outcome.skipped)
    if skipped:
        advice = "their outputs are there and newer; overwrite=true redoes them"
        print(f"{len(skipped)} of {len(jobs)} files skipped: {advice}")
    todo = [job for job in jobs if job not in skipped]
    threads = torch.get_num_threads() if denoiser.device.type == "cpu" else 1
    at_once = at_once or max(1, min(len(todo), threads, MAX_FILES_AT_ONCE))
    blocks = threads if at_once == 1 else 1
    work = _Work(denoiser, todo, options, loudness, track, plot, blocks, outcome, is_alone=len(jobs) == 1, raw=raw)
    begin = time.perf_counter()
    try:
        work.run(at_once)
    except KeyboardInterrupt as error:
        if len(jobs) == 1:
            raise
        finished = len(outcome.done) + len(skipped)
        command = "the same command without overwrite=true" if overwrite else "the same command"
        advice = f"interrupted: {finished} of {len(jobs)} files are done; {command} does the rest"
        raise StopError(advice, error.code if isinstance(error, StopError) else 130) from None
    elapsed = time.perf_counter() - begin
    seconds = sum(enhanced.seconds for enhanced in outcome.done.values())
    if seconds:
        print(f"{seconds:.1f} s of audio in {elapsed:.1f} s: real-time factor {elapsed / seconds:.3f}")
    if outcome.failed:
        reasons = [shown(failure) for failure in outcome.failed.values()]
        print(f"{len(reasons)} of {len(jobs)} files failed:", *reasons, sep="\n  ", file=sys.stderr)
    return outcome


@dataclass
class _Work:
    """Work on jobs, whose results go to ``outcome``; a job that ``is_alone`` raises its error.

    A bar shows the progress in seconds of audio, as stated by the sources' headers.
    """

    denoiser: Denoiser
    jobs: Sequence[Job]
    options: Options | None
    loudness: float | None
    track: int | None
    plot: bool
    threads: int  # of one file
    outcome: Outcome
    is_alone: bool
    raw: Raw | None

    def __post_init__(self) -> None:
        self.left = {job: _seconds_of(job) for job in self.jobs}
        total = sum(self.left.values())
        # To tqdm, None is: show the bar only on a terminal.
        hidden = None if total else True
        self.bar = tqdm(total=total, desc="enhancing", bar_format=BAR, smoothing=0.05, leave=False, disable=hidden)
        self.is_stopped = False
        self.lock = threading.Lock()

    def run(self, at_once: int) -> None:
        """Do each job, several at once; an interruption cancels the rest, and ends those in progress."""
        with self.bar:
            if at_once == 1:
                for job in self.jobs:
                    self._attempt(job)
                return
            with _sharing_threads(at_once), ThreadPoolExecutor(at_once) as pool:
                try:
                    for future in as_completed([pool.submit(self._attempt, job) for job in self.jobs]):
                        future.result()
                except BaseException:
                    self.is_stopped = True
                    pool.shutdown(cancel_futures=True)
                    raise

    def _attempt(self, job: Job) -> None:
        try:
            enhanced = self._enhance(job)
        except AudioError as error:
            self._fail(job, error)
        except DenoiserError as error:  # of the model, which knows no file
            self._fail(job, DenoiserError(f"{job.source}: {error}"))
        except (torch.OutOfMemoryError, MemoryError) as error:
            self._fail(job, DenoiserError(f"{job.source}: not enough memory ({brief(error)})"))
        except Exception as error:
            if self.is_alone:
                raise
            self._fail(job, DenoiserError(f"{job.source}: {type(error).__name__}: {error}"))
        else:
            self.outcome.done[job] = enhanced
            gain = f", turned down to {enhanced.gain:.3f} to stay within full scale" if enhanced.gain < 1 else ""
            if self.loudness is not None:
                # "Towards": full scale, or silence, may prevent reaching it.
                gain = f", {20 * math.log10(enhanced.gain):+.1f} dB towards {self.loudness:g} LUFS"
            tqdm.write(shown(f"{job.source} -> {job.target}{gain}"), file=sys.stdout)
            for note in enhanced.notes:
                _complain(f"{job.source}: {note}")
        # Also completes the bar for a failed file, or for one shorter than its header says.
        self._advance(job, math.inf)

    def _fail(self, job: Job, failure: DenoiserError) -> None:
        """Count a job as failed, and go on; raise the failure where it is the only job."""
        if self.is_alone:
            raise failure
        self.outcome.failed[job] = failure
        _complain(f"failed: {failure}")

    def _enhance(self, job: Job) -> Enhanced:
        read = b""
        # Loudness is measured over the whole, and a picture is made of files.
        are_pipes = job.source is STDIN and job.target is STDOUT
        if are_pipes and self.denoiser.causal and self.loudness is None and not self.plot:
            refuse_terminals(*job)
            pipe = cast(BufferedReader, sys.stdin.buffer)
            start = piped.Start(b"", self.raw) if self.raw else piped.read_start(pipe)
            if start.raw:
                return enhance_pipe(self.denoiser, self.options, pipe, start.raw, start.size)
            read = start.content
        blocks = 1
        # For large tensors (unet10 in float32), torch's own threads are as fast as several blocks.
        if not self.denoiser.causal and self.denoiser.block_seconds >= SHARED_BLOCK:
            blocks = max(1, min(self.threads, MAX_BLOCKS_AT_ONCE, int(self.left[job] / SHARED_BLOCK)))
        with as_files(job.source, job.target, self.raw, read) as (source, target):
            with _sharing_threads(blocks):
                enhanced = self.denoiser.enhance_file(
                    source,
                    target,
                    self.options,
                    loudness=self.loudness,
                    track=self.track,
                    progress=partial(self._advance, job),
                    blocks_at_once=blocks,
                )
            if self.plot:
                # talk.png for talk.wav, but talk.flac.png for talk.flac, so that both have one.
                picture = job.target.with_name(f"{job.target.name.removesuffix('.wav')}.png")
                with figures.drawing:
                    figures.save_figure(picture, figures.before_and_after(source, target, source.name))
        return enhanced

    def _advance(self, job: Job, seconds: float) -> None:
        """Count seconds of a file as finished, at most those left; KeyboardInterrupt if the work is stopped."""
        if self.is_stopped:
            raise KeyboardInterrupt
        with self.lock:
            counted = min(seconds, self.left[job])
            self.left[job] -= counted
            self.bar.update(counted)


def _seconds_of(job: Job) -> float:
    try:
        return 0.0 if is_pipe(job.source) else audio.probe(job.source).seconds
    except DenoiserError:  # reported when its turn comes
        return 0.0


def _complain(line: str) -> None:
    with STDERR:
        tqdm.write(shown(line), file=sys.stderr)


@contextmanager
def _sharing_threads(at_once: int) -> Iterator[None]:
    """Divide torch's threads among ``at_once`` computations."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // at_once))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
