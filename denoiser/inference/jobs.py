"""Jobs of a command: pairs of a sound file and the name of its enhanced version."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from denoiser import audio
from denoiser.errors import AudioError, shown
from denoiser.inference.pipes import STDIN, STDOUT, is_pipe, plain

MOST_KINDS = 8  # of files left aside, that are listed


class Job(NamedTuple):
    """A file to enhance, and the name of the result."""

    source: Path
    target: Path


def plan(sources: Sequence[str], output: str | None = None) -> list[Job]:
    """Return the jobs of a command.

    A file, or each file of a glob, becomes ``<name>_enhanced.<ext>`` in the current folder. A folder becomes
    ``<folder>_enhanced/`` with the same tree and names inside. Where a command skips what is done, so for all but one
    named file, a format that cannot be written keeps its extension: talk.m4a becomes ``talk.m4a.wav``.

    ``output`` names the file or folder instead; it is a folder if it exists as one, ends in a slash, or has no
    extension. ``-`` is standard input or output; the input ``-``, and any other pipe, goes to the output ``-`` by
    default.

    Results of an earlier run of the command are not inputs: files in the output folder of a folder, and files
    that are the target of another job. Raises AudioError where there is no input, or two jobs share a target.
    """
    sources, output = [plain(source) for source in sources], output and plain(output)
    # os.path, because Path.is_dir() raises for a name that is too long.
    names_file = output and Path(output).suffix and not output.endswith(os.sep) and not os.path.isdir(output)
    to_file = bool(names_file) or (output is not None and is_pipe(output))
    target = STDOUT if output in (None, "-") else Path(output)
    if pipes := [given for given in sources if is_pipe(given)]:
        kind = "standard input" if pipes[0] == "-" else "a pipe"
        if len(sources) > 1:
            raise AudioError(f"input={pipes[0]}: {kind} must be the only input; use another command for the others")
        if output is not None and not to_file:
            raise AudioError(f"output={output}: {kind} has no name to keep; name a file, as in clean.wav")
        return [Job(STDIN if pipes[0] == "-" else Path(pipes[0]), target)]
    if "" in sources:
        raise AudioError("input=: an empty name; give a file, a folder or a glob")
    found = {source: audio.list_files(source) for source in sources}
    if to_file:
        count = sum(len(files) for files in found.values())
        if count > 1 or any(os.path.isdir(source) for source in sources):
            raise AudioError(f"output={output}: one file for {count} results of {', '.join(found)}; give a folder")
        return [Job(found[sources[0]][0], target)]

    is_alone = len(sources) == 1 and os.path.isfile(sources[0])
    jobs: list[Job] = []
    for source, files in found.items():
        folder, path = Path(output or ""), Path(source)
        if not path.is_dir():
            suffix = audio.output_suffix if is_alone else _full_suffix
            jobs += [Job(file, folder / f"{file.stem}_enhanced{suffix(file)}") for file in files]
            continue
        if len(found) > 1 or not output:
            folder /= f"{path.resolve().name}_enhanced"
        for file in _without_outputs(path, files, folder):
            name = f"{file.stem}{_full_suffix(file)}"
            jobs.append(Job(file, folder / file.relative_to(path).with_name(name)))
    jobs = list(dict.fromkeys(jobs))

    sources_of: dict[str, Path] = {}
    for job in jobs:
        other = sources_of.setdefault(os.path.abspath(job.target), job.source)
        if other != job.source:
            raise AudioError(f"{other} and {job.source} would both become {job.target}; use two commands")
    # A job whose source is the target of another job is left out.
    return [job for job in jobs if sources_of.get(os.path.abspath(job.source), job.source) == job.source]


def left_aside(sources: Sequence[str], jobs: Sequence[Job]) -> str:
    """Return lines on the files in folders that are no sound by their extension, and on folders that are closed."""
    outputs = {job.target.resolve().parent for job in jobs}
    folders = [Path(source) for source in sources if os.path.isdir(source)]
    closed: list[OSError] = []
    found = [file for folder in folders for file in audio.list_others(folder, closed.append)]
    lines = [shown(f"{error.filename}: {error.strerror}; what lies in this folder is left aside") for error in closed]
    others = {file for file in found if file.resolve().parent not in outputs}
    if not others:
        return "\n".join(lines)
    kinds = Counter(file.suffix.lower() or "no extension" for file in others).most_common()
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds[:MOST_KINDS])
    rest = ", ..." if len(kinds) > MOST_KINDS else ""
    lines.append(f"{len(others)} files left aside, as they have no extension of a sound format: {listed}{rest}")
    return "\n".join(lines)


def is_done(job: Job) -> bool:
    """Return True if the target exists (hence is complete) and is no older than its source."""
    try:
        return job.target.is_file() and job.target.stat().st_mtime >= job.source.stat().st_mtime
    except OSError:
        return False


def _without_outputs(source: Path, files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the files of the folder ``source`` that are not in ``folder``, which is for its outputs."""
    outputs = folder.resolve()
    if outputs == source.resolve():
        raise AudioError(f"output={folder}: is the input folder itself; give another")
    inputs = [file for file in files if outputs not in (file.parent.resolve() / file.name).parents]
    if not inputs:
        raise AudioError(f"{source}: no sound files in this folder but those in {folder}, the output folder")
    return inputs


def _full_suffix(file: Path) -> str:
    """Return the extension for the enhanced version: ``.m4a.wav`` for talk.m4a."""
    suffix = audio.output_suffix(file)
    # Without regard to other files: a talk.wav that comes later must not find its result there, made of talk.m4a.
    return suffix if suffix == file.suffix else f"{file.suffix}{suffix}"
