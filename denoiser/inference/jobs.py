"""Jobs of a command: pairs of a sound file and the name of its enhanced version."""

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


class Job(NamedTuple):
    """A file to enhance, and the name of the result."""

    source: Path
    target: Path

    @property
    def picture(self) -> Path:
        """PNG beside the target: talk.png for talk.wav, but talk.flac.png for talk.flac, so that both have one."""
        suffix = self.target.suffix
        return self.target.with_suffix(".png" if suffix.lower() == ".wav" else f"{suffix}.png")


def plan(sources: Sequence[str], output: str | None = None) -> list[Job]:
    """Return the jobs of a command.

    A file, or each file of a glob, becomes ``<name>_enhanced.<ext>`` in the current folder. A folder becomes
    ``<folder>_enhanced/`` with the same tree and names inside. ``output`` names the file or folder instead; it is a
    folder if it exists as one, ends in a slash, or has no extension. ``-`` is standard input, which goes to standard
    output unless ``output`` is given, or standard output.

    The results of an earlier run of the same command are no inputs: files in the output folder of a folder, and files
    that are the target of another job. Raises AudioError where there is no input, or two jobs share a target.
    """
    to_file = output is not None and (output == "-" or not _is_folder(output))
    target = STDOUT if output in (None, "-") else Path(output)
    if list(sources) == ["-"]:
        if output is not None and not to_file:
            raise AudioError(f"output={output}: standard input has no name to get there; name a file, as in clean.wav")
        return [Job(STDIN, target)]
    if "-" in sources:
        raise AudioError("input=-: standard input is enhanced by itself; run the other inputs apart")
    if "" in sources:
        raise AudioError("input=: an empty name; give a file, a folder or a glob")
    found = {source: audio.list_files(source) for source in sources}
    if to_file:
        count = sum(len(files) for files in found.values())
        if count > 1 or any(os.path.isdir(source) for source in sources):
            raise AudioError(f"output={output}: one file cannot hold the {count} of {', '.join(found)}; give a folder")
        return [Job(found[sources[0]][0], target)]

    jobs: list[Job] = []
    for source, files in found.items():
        folder, path = Path(output or ""), Path(source)
        if not path.is_dir():
            jobs += [Job(file, folder / f"{file.stem}_enhanced{audio.output_suffix(file)}") for file in files]
            continue
        if len(found) > 1 or not output:
            folder /= f"{path.resolve().name}_enhanced"
        for file in _without_outputs(path, files, folder):
            name = file.relative_to(path).with_suffix(audio.output_suffix(file))
            jobs.append(Job(file, folder / name))
    jobs = _with_distinct_targets(list(dict.fromkeys(jobs)))

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


def is_done(job: Job) -> bool:
    """Return True where the target exists and is no older than its source: targets get their names when complete."""
    try:
        return job.target.is_file() and job.target.stat().st_mtime >= job.source.stat().st_mtime
    except OSError:
        return False


def mark_done(job: Job) -> None:
    """Date a target no earlier than its source, though the clock may have been set back since the source was made."""
    # The source may have been deleted, or be standard input.
    with suppress(OSError):
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
            if (folder, name) not in known:
                continue
            process = owner.partition("-")[0]
            try:
                os.kill(int(process), 0)
            except (ProcessLookupError, ValueError):
                path.unlink(missing_ok=True)
            except OSError:
                # A process of another user is at work on it.
                continue


def _is_folder(output: str) -> bool:
    # os.path, because Path.is_dir() raises for a name that is too long.
    return output.endswith(os.sep) or os.path.isdir(output) or not Path(output).suffix


def _without_outputs(source: Path, files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the files of the folder ``source`` that are not in ``folder``, which is for its outputs."""
    inside, outputs = source.resolve(), folder.resolve()
    if outputs == inside:
        raise AudioError(f"output={folder}: is the input folder itself; give another")
    if not outputs.is_relative_to(inside):
        return list(files)
    within = source / outputs.relative_to(inside)
    inputs = [file for file in files if within not in file.parents]
    if not inputs:
        raise AudioError(f"{source}: no sound files in this folder but those in {folder}, the output folder")
    return inputs


def _with_distinct_targets(jobs: Sequence[Job]) -> list[Job]:
    """Rename targets that two jobs share: beside talk.wav, the talk.wav made of talk.m4a becomes talk.m4a.wav."""
    times = Counter(job.target for job in jobs)
    distinct = []
    for source, target in jobs:
        if times[target] > 1 and source.suffix != target.suffix:
            target = target.with_name(target.name.replace(source.stem, source.name, 1))
        distinct.append(Job(source, target))
    return distinct
