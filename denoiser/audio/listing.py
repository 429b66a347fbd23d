"""Sound files in a folder or behind a glob pattern."""

import glob
from pathlib import Path

from denoiser.audio.formats import EXTENSIONS
from denoiser.errors import AudioError


def _is_junk(path: Path) -> bool:
    """Return True for hidden files and for what unpackers leave behind: ``__MACOSX``, ``._name``."""
    return "__MACOSX" in path.parts or path.name.startswith(".")


def list_files(source: str | Path) -> list[Path]:
    """Return the sound files that a path, a folder (searched recursively) or a glob pattern names, sorted.

    In a folder these are the regular files with an extension of EXTENSIONS. Raises AudioError if there is none.
    """
    path = Path(source)
    if path.is_dir():
        candidates = [p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS]
        found = [p for p in candidates if not _is_junk(p.relative_to(path)) and p.is_file()]
        if not found:
            raise AudioError(f"{path}: no sound files in this folder")
        return sorted(found)
    if path.exists():
        return [path]
    matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
    found = [p for p in matches if p.is_file() and not _is_junk(p)]
    if not found:
        raise AudioError(f"{source}: no such file or folder, and no file matches it as a pattern")
    return sorted(found)
