"""Clean references of enhanced files, found by path or name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoiser import audio
from denoiser.errors import AudioError, ConfigError


@dataclass(frozen=True)
class Triple:
    """A noisy file, its enhanced version and its clean reference; ``name`` is unique among those scored together."""

    name: str
    noisy: Path
    enhanced: Path
    reference: Path


def match_references(
    jobs: Sequence[tuple[Path, Path]], reference: Path, root: Path | None = None
) -> tuple[list[Triple], list[str]]:
    """Find the reference of each (noisy, enhanced) pair of paths; neither has to exist yet.

    ``reference`` is the file of the only job, or a folder. In a folder, a reference has the path of the noisy file
    relative to ``root``, or else its name; extensions may differ. Returns the triples and a line for each file without
    a reference. Raises AudioError if ``reference`` does not exist or holds no sound, ConfigError for one file to
    several jobs.
    """
    is_folder = reference.is_dir()
    if not is_folder and not reference.is_file():
        raise AudioError(f"reference={reference}: no such file or folder")
    if not is_folder and len(jobs) != 1:
        raise ConfigError(f"reference={reference}: one file for {len(jobs)} inputs; give a folder of references")
    by_path, by_stem = defaultdict(list), defaultdict(list)
    for file in audio.list_files(reference) if is_folder else ():
        by_path[file.relative_to(reference).with_suffix("")].append(file)
        by_stem[file.stem].append(file)
    names = _unique_names([noisy for noisy, _ in jobs], root)
    triples, problems = [], []
    for name, (noisy, enhanced) in zip(names, jobs, strict=True):
        found = [reference]
        if is_folder:
            found = by_path[_relative(noisy, root).with_suffix("")] or by_stem[noisy.stem]
        found = [file for file in found if file.suffix == noisy.suffix] or found
        if len(found) > 1:
            problems.append(f"{noisy}: {len(found)} references of this name, {found[0]} and {found[1]}")
        elif not found:
            problems.append(f"{noisy}: no reference of this name in {reference}")
        elif found[0].resolve() == noisy.resolve():
            problems.append(f"{noisy}: is its own reference; reference= names the clean recordings")
        else:
            triples.append(Triple(name, noisy, enhanced, found[0]))
    return triples, problems


def _relative(path: Path, root: Path | None) -> Path:
    return path.relative_to(root) if root and path.is_relative_to(root) else Path(path.name)


def _unique_names(files: Sequence[Path], root: Path | None) -> list[str]:
    """Return the shortest of three kinds of names under which all files differ."""
    relative = [_relative(file, root) for file in files]
    for kind in ([path.with_suffix("") for path in relative], relative):
        names = [path.as_posix() for path in kind]
        if max(Counter(names).values(), default=1) == 1:
            return names
    return [file.as_posix() for file in files]
