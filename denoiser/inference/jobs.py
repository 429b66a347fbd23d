"""Jobs of a command: pairs of a sound file and the name of its enhanced version."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from denoiser import audio
from denoiser.errors import AudioError
from denoiser.inference.pipes import STDIN, STDOUT

MAX_NAME_BYTES = 255


class Job(NamedTuple):
    """A file to enhance, and the name of the result."""

    source: Path
    target: Path


def plan(sources: Sequence[str], output: str | None = None) -> list[Job]:
    """Return the jobs of a command.

    A file, or each file of a glob, becomes ``<name>_enhanced.<ext>`` in the current folder. A folder becomes
    ``<folder>_enhanced/`` with the same tree and names inside. ``output`` names the file or folder instead; it is a
    folder if it exists as one, ends in a slash, or has no extension. ``-`` is standard input, which goes to standard
    output unless ``output`` is given, or standard output.

    The results of an earlier run of the same command are no inputs: files in the output folder of a folder, and files
    that are the target of another job. Raises AudioError where there is no input, or two jobs share a target.
    """
    jobs = _plan(sources, output)
    for job in jobs:
        size = len(os.fsencode(job.target.name))
        if job.target is not STDOUT and size > MAX_NAME_BYTES:
            raise AudioError(
                f"{job.target}: a name of {size} bytes, and a file's has at most {MAX_NAME_BYTES}; "
                "give output= a shorter one"
            )
    return jobs


def _plan(sources: Sequence[str], output: str | None) -> list[Job]:
    if list(sources) == ["-"]:
        return [Job(STDIN, _target_of_stdin(output))]
    if "-" in sources:
        raise AudioError("input=-: standard input is enhanced by itself; run the other inputs apart")
    found = {source: _find(source) for source in sources}
    if output and (output == "-" or not _is_folder(output)):
        count = sum(len(files) for files in found.values())
        if count > 1 or any(os.path.isdir(source) for source in sources):
            raise AudioError(f"output={output}: one file cannot hold the {count} of {', '.join(found)}; give a folder")
        return [Job(found[sources[0]][0], STDOUT if output == "-" else Path(output))]

    jobs: list[Job] = []
    for source, files in found.items():
        folder, path = Path(output or ""), Path(source)
        if not path.is_dir():
            jobs += [Job(file, folder / f"{file.stem}_enhanced{file.suffix}") for file in files]
            continue
        if len(found) > 1 or not output:
            folder /= f"{path.resolve().name}_enhanced"
        inputs = _without_outputs(path, files, folder)
        jobs += [Job(file, folder / file.relative_to(path)) for file in inputs]
    jobs = [_with_writable_suffix(job) for job in dict.fromkeys(jobs)]
    jobs = _with_distinct_targets(jobs)

    sources_of: dict[str, Path] = {}
    for job in jobs:
        other = sources_of.setdefault(os.path.abspath(job.target), job.source)
        if other != job.source:
            raise AudioError(f"{other} and {job.source} would both become {job.target}; run them apart")
    return [job for job in jobs if sources_of.get(os.path.abspath(job.source), job.source) == job.source]


def select_shard(jobs: Sequence[Job], shard: int, shards: int) -> list[Job]:
    """Return the jobs of one of ``shards`` disjoint parts, 0 to ``shards`` - 1, in the order given.

    The parts have about the same number of bytes: the largest file goes first, each to the part that has least. As
    long as the files are the same, every process finds the same parts.
    """
    sizes = {job: job.source.stat().st_size if job.source.is_file() else 0 for job in jobs}
    loads = [(0, index) for index in range(shards)]
    selected = set()
    for job in sorted(jobs, key=lambda job: (-sizes[job], str(job.source))):
        load, index = heapq.heappop(loads)
        heapq.heappush(loads, (load + sizes[job], index))
        if index == shard:
            selected.add(job)
    return [job for job in jobs if job in selected]


def is_one_file(sources: Sequence[str]) -> bool:
    """Return True for one file or standard input, and False for a folder, a pattern or several."""
    return len(sources) == 1 and (sources[0] == "-" or os.path.isfile(sources[0]))


def is_done(job: Job) -> bool:
    """Return True where the target exists and is no older than its source: targets get their names when complete."""
    try:
        return job.target.is_file() and job.target.stat().st_mtime >= job.source.stat().st_mtime
    except OSError:
        return False


def mark_done(job: Job) -> None:
    """Date a target no earlier than its source, though the clock may have been set back since the source was made."""
    if job.source is STDIN or job.target is STDOUT:
        return
    with suppress(OSError):  # the source may have been deleted
        source = job.source.stat()
        if job.target.stat().st_mtime_ns < source.st_mtime_ns:
            os.utime(job.target, ns=(source.st_atime_ns, source.st_mtime_ns))


def remove_partial_files(targets: Iterable[Path]) -> None:
    """Delete the partial versions of these files that killed processes left; those of running processes stay."""
    # filesystem.atomic_write() shortens names in the same way.
    known = {(t.parent, t.name.encode(errors="surrogateescape")[:200].decode(errors="ignore")) for t in targets}
    for folder in {folder for folder, _ in known}:
        for path in folder.glob(".*.partial-*"):
            name, _, owner = path.name[1:].rpartition(".partial-")
            process = owner.partition("-")[0]
            if (folder, name) in known and not _is_running(process):
                path.unlink(missing_ok=True)


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:  # another user's process
        return True
    return True


def _find(source: str) -> list[Path]:
    if not source:
        raise AudioError("input=: an empty name; give a file, a folder or a glob")
    try:
        return audio.list_files(source)
    except OSError as error:  # a name longer than any file's
        raise AudioError(f"{source}: {error.strerror}") from error


def _is_folder(output: str) -> bool:
    # os.path, because Path.is_dir() raises for a name that is too long.
    return output.endswith(os.sep) or os.path.isdir(output) or not Path(output).suffix


def _target_of_stdin(output: str | None) -> Path:
    if output is None or output == "-":
        return STDOUT
    if _is_folder(output):
        raise AudioError(
            f"output={output}: standard input has no name to get there; name a file, as in output=clean.wav"
        )
    return Path(output)


def _without_outputs(source: Path, files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the files of the folder ``source`` that are not in ``folder``, which is for its outputs."""
    inside, outputs = source.resolve(), folder.resolve()
    if outputs == inside:
        raise AudioError(f"output={folder}: is the input folder itself; give another")
    if folder.exists() and not folder.is_dir():
        raise AudioError(f"output={folder}: is a file; the folder {source} becomes a folder")
    if not outputs.is_relative_to(inside):
        return list(files)
    within = source / outputs.relative_to(inside)
    inputs = [file for file in files if within not in file.parents]
    if not inputs:
        raise AudioError(f"{source}: no sound files in this folder but those in {folder}, the output folder")
    return inputs


def _with_writable_suffix(job: Job) -> Job:
    """Return the job with the extension of its source, or .wav where only ffmpeg reads that."""
    suffix = audio.output_suffix(job.source)
    return job if suffix == job.source.suffix else Job(job.source, job.target.with_suffix(suffix))


def _with_distinct_targets(jobs: Sequence[Job]) -> list[Job]:
    """Rename targets that two jobs share: beside talk.wav, the talk.wav made of talk.m4a becomes talk.m4a.wav."""
    times = Counter(job.target for job in jobs)
    distinct = []
    for source, target in jobs:
        if times[target] > 1 and source.suffix != target.suffix:
            target = target.with_name(target.name.replace(source.stem, source.name, 1))
        distinct.append(Job(source, target))
    return distinct
