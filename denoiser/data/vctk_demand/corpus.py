"""The published archives of a corpus, and the folders they are unpacked to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoiser.errors import CorpusError


@dataclass(frozen=True)
class Archive:
    """A published ZIP file ``<name>.zip`` and the folder ``<name>`` it is unpacked to.

    Args:
        name: of both.
        md5: of the ZIP file, in hexadecimal.
        size: bytes of the ZIP file, about.
        unpacked: bytes of its files, about.
        files: number of files, None if it is not known.
        suffix: end of the names of its files.
    """

    name: str
    md5: str
    size: int
    unpacked: int
    files: int | None
    suffix: str = ".wav"


def is_complete(root: Path, archive: Archive) -> bool:
    """Return True if the folder of the archive holds all of its files, False if there is no such folder.

    An archive is unpacked beside its folder and renamed, so the number of files tells enough: it takes milliseconds.
    Raises CorpusError if the folder holds something else. It may be a person's, and is never replaced.
    """
    folder = root / archive.name
    if not os.path.lexists(folder):
        return False
    if not folder.is_dir():
        raise CorpusError(f"{folder}: is not a folder; move it away and run this again")
    with os.scandir(folder) as entries:
        sizes = [entry.stat().st_size for entry in entries if is_wanted(entry.name, archive.suffix)]
    count = len(sizes) - sizes.count(0)
    if count == 0 or archive.files not in (None, count):
        raise CorpusError(
            f"{folder}: holds {count} {archive.suffix} files that are not empty, expected {archive.files or 'some'}; "
            "move it away and run this again to download it, or train on it without data.download"
        )
    return True


def is_wanted(name: str, suffix: str) -> bool:
    """Return True for a file of the corpus, False for other types and for the hidden files that macOS adds."""
    return name.lower().endswith(suffix) and not name.startswith(".")


def required_bytes(archives: Sequence[Archive], keep_archives: bool = False) -> int:
    """Return the disk space, in bytes, to download and unpack the archives one after the other, about."""
    sizes = [archive.size for archive in archives]
    packed = sum(sizes) if keep_archives else max(sizes, default=0)
    return packed + sum(archive.unpacked for archive in archives)
