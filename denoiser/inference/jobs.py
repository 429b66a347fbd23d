"""What becomes what, and what of it is done already."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from denoiser import audio
from denoiser.errors import AudioError
from denoiser.inference.pipes import STDIN, STDOUT

LONGEST = 255  # bytes of a file's name
Job = tuple[Path, Path]  # a file and what its enhanced version is to be called


def plan(sources: Sequence[str], output: str | None = None) -> list[Job]:
    """Which file becomes which.

    A file, or each file a glob names, becomes ``<name>_enhanced.<ext>`` in the current folder, a folder
    ``<folder>_enhanced/`` with the tree and names inside it kept. ``output`` names the file or folder instead; it is
    taken for a folder where it is one, ends in a slash, or has no extension. ``-`` is standard input, which goes to
    standard output unless ``output`` is named, or standard output.

    What such a command has made is not taken for its input: what lies in the output folder of a folder, or is what
    another of the files becomes. Raises AudioError where there is no input, or two would share one output.
    """
    jobs = _plan(sources, output)
    for _, target in jobs:
        if target is not STDOUT and (size := len(os.fsencode(target.name))) > LONGEST:
            raise AudioError(
                f"{target}: a name of {size} bytes, and a file's has at most {LONGEST}; give output= a shorter one"
            )
    return jobs


def _plan(sources: Sequence[str], output: str | None) -> list[Job]:
    if list(sources) == ["-"]:
        return [(STDIN, _file_of_stdin(output))]
    if "-" in sources:
        raise AudioError("input=-: standard input is enhanced by itself; run the other inputs apart")
    found = {source: _find(source) for source in sources}
    if output and (output == "-" or not _is_folder(output)):
        if (count := sum(map(len, found.values()))) > 1 or any(map(os.path.isdir, sources)):
            raise AudioError(f"output={output}: one file cannot hold the {count} of {', '.join(found)}; give a folder")
        return [(found[sources[0]][0], STDOUT if output == "-" else Path(output))]
    jobs: list[Job] = []
    for source, files in found.items():
        folder, path = Path(output or ""), Path(source)
        if path.is_dir():
            if len(found) > 1 or not output:
                folder /= f"{path.resolve().name}_enhanced"
            jobs += [(file, folder / file.relative_to(path)) for file in _outside(folder, files, path)]
        else:
            jobs += [(file, folder / f"{file.stem}_enhanced{file.suffix}") for file in files]
    jobs = _told_apart([_written(job) for job in dict.fromkeys(jobs)])
    sources_of: dict[str, Path] = {}
    for file, target in jobs:
        if (other := sources_of.setdefault(os.path.abspath(target), file)) != file:
            raise AudioError(f"{other} and {file} would both become {target}; run them apart")
    return [(file, target) for file, target in jobs if sources_of.get(os.path.abspath(file), file) == file]


def share(jobs: Sequence[Job], shard: int, shards: int) -> list[Job]:
    """The part of ``jobs`` that is ``shard``'s, 0 to ``shards`` - 1: each job is in one part, in the order given.

    Parts are of about the same number of bytes: the largest file goes first, each to the part that has the least.
    As long as the files are the same, so are the parts, in every process.
    """
    sizes = {job: job[0].stat().st_size if job[0].is_file() else 0 for job in jobs}
    loads, mine = [(0, index) for index in range(shards)], set()
    for job in sorted(jobs, key=lambda job: (-sizes[job], str(job[0]))):
        load, index = heapq.heappop(loads)
        heapq.heappush(loads, (load + sizes[job], index))
        if index == shard:
            mine.add(job)
    return [job for job in jobs if job in mine]


def is_single(sources: Sequence[str]) -> bool:
    """True where one file is named, or standard input, and not a folder, a pattern or several."""
    return len(sources) == 1 and (sources[0] == "-" or os.path.isfile(sources[0]))


def is_done(job: Job) -> bool:
    """True where the output is there and no older than its input: outputs get their names when they are whole."""
    source, target = job
    try:
        return target.is_file() and target.stat().st_mtime >= source.stat().st_mtime
    except OSError:
        return False


def dated(job: Job) -> None:
    """Let an output that was just made be no older than its input, though the clock has gone back since that was."""
    source, target = job
    if source is STDIN or target is STDOUT:
        return
    with suppress(OSError):  # the input may be gone by now
        when = source.stat()
        if target.stat().st_mtime_ns < when.st_mtime_ns:
            os.utime(target, ns=(when.st_atime_ns, when.st_mtime_ns))


def clear(targets: Iterable[Path]) -> None:
    """Delete what a killed process left of these, beside them; what one at work on this machine has there stays."""
    # As replacing() calls them, whose names are cut.
    known = {(t.parent, t.name.encode(errors="surrogateescape")[:200].decode(errors="ignore")) for t in targets}
    for folder in {folder for folder, _ in known}:
        for path in folder.glob(".*.partial-*"):
            name, _, owner = path.name[1:].rpartition(".partial-")
            if (folder, name) in known and not _is_at_work(owner.partition("-")[0]):
                path.unlink(missing_ok=True)


def _is_at_work(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:  # another user's
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
    return output.endswith(os.sep) or os.path.isdir(output) or not Path(output).suffix  # Path's raises for a long name


def _file_of_stdin(output: str | None) -> Path:
    if output is None or output == "-":
        return STDOUT
    if _is_folder(output):
        raise AudioError(
            f"output={output}: standard input has no name to get there; name a file, as in output=clean.wav"
        )
    return Path(output)


def _outside(folder: Path, files: Sequence[Path], source: Path) -> list[Path]:
    """Those of the ``files`` of the folder ``source`` that do not lie in ``folder``, where they are to go."""
    inside, out = source.resolve(), folder.resolve()
    if out == inside:
        raise AudioError(f"output={folder}: is the input folder itself; give another")
    if folder.exists() and not folder.is_dir():
        raise AudioError(f"output={folder}: is a file; the folder {source} becomes a folder")
    if not out.is_relative_to(inside):
        return list(files)
    own = source / out.relative_to(inside)
    if not (kept := [file for file in files if own not in file.parents]):
        raise AudioError(f"{source}: no sound files in this folder but those in {folder}, the output folder")
    return kept


def _written(job: Job) -> Job:
    """The job with an extension that can be written: that of its input, or .wav for what only ffmpeg reads."""
    file, target = job
    suffix = audio.output_suffix(file)
    return job if suffix == file.suffix else (file, target.with_suffix(suffix))


def _told_apart(jobs: Sequence[Job]) -> list[Job]:
    """talk.m4a beside talk.wav, both to become talk.wav: the one that changes its format becomes talk.m4a.wav."""
    times = Counter(target for _, target in jobs)
    return [
        (file, target.with_name(target.name.replace(file.stem, file.name, 1)))
        if times[target] > 1 and file.suffix != target.suffix
        else (file, target)
        for file, target in jobs
    ]
