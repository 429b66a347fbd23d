"""A ZIP archive, checked and unpacked without trusting it."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path

from tqdm import tqdm

from denoiser.errors import DownloadError

BLOCK = 1 << 20  # bytes in memory at once
LONGEST = 255  # bytes of a file's name


def md5(path: Path) -> str:
    """MD5 of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    total = path.stat().st_size
    with (
        open(path, "rb") as file,
        tqdm(total=total, desc=f"checking {path.name}", unit="B", unit_scale=True, leave=False, disable=None) as bar,
    ):
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def unpack(path: Path, folder: Path, suffix: str, limit: int, files: int | None = None) -> list[str]:
    """Write the files of a ZIP whose names end in ``suffix`` to ``folder``, side by side, without folders inside it.

    Args:
        path: the archive.
        folder: not there yet; its parent is.
        suffix: ``.wav``, say; other files are left out, and so is what macOS adds.
        limit: bytes that all files may have together.
        files: how many there must be; None for any number.

    Returns the names left out, those of macOS apart.

    Raises:
        DownloadError: the archive is damaged or not what was expected, reaches beyond ``folder``, holds links, two
            files of one name or more than ``limit``, or the disk has no room.
        OSError: the disk cannot be written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wanted, others = _plan(path, archive.infolist(), suffix)
            total = sum(info.file_size for info in wanted.values())
            if total > limit:
                raise DownloadError(f"{path}: would unpack to {total} bytes, expected at most {limit}; refused")
            if files not in (None, len(wanted)) or not wanted:
                raise DownloadError(f"{path}: holds {len(wanted)} {suffix} files, expected {files or 'some'}")
            if total > (free := shutil.disk_usage(folder.parent).free):
                need = f"{total / 1e9:.2f} GB are to be unpacked and {free / 1e9:.2f} GB are free"
                raise DownloadError(f"{folder.parent}: {need}; free some")
            folder.mkdir()
            title = f"unpacking {path.name}"
            with tqdm(total=total, desc=title, unit="B", unit_scale=True, leave=False, disable=None) as bar:
                for name, info in wanted.items():
                    size = 0
                    with archive.open(info) as source, open(folder / name, "xb") as target:
                        while block := source.read(BLOCK):  # never more than the header says: zipfile ends there
                            size += target.write(block)
                            bar.update(len(block))
                    if size != info.file_size:
                        raise DownloadError(
                            f"{path}: {name} has {size} bytes, its header says {info.file_size}; refused"
                        )
            return others
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is a seek to before the beginning
            raise
        raise DownloadError(f"{path}: is damaged ({str(error) or 'it ends too early'})") from error


def _plan(path: Path, entries: list[zipfile.ZipInfo], suffix: str) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """What is to be written under which name, and the names of what is left out; DownloadError for what is unsafe."""
    from denoiser.audio import is_junk  # not before it is needed: torch takes seconds to load

    wanted: dict[str, zipfile.ZipInfo] = {}
    others, seen = [], set()
    for info in entries:
        inner = info.filename.replace("\\", "/")
        *_, name = parts = inner.split("/")
        if inner.startswith("/") or ".." in parts or ":" in inner:
            raise DownloadError(f"{path}: {info.filename!r} in it points out of the folder; refused")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DownloadError(f"{path}: {info.filename!r} in it is a link or a device; refused")
        if not name or is_junk(Path(inner)):  # a folder, or nothing
            continue
        if not name.lower().endswith(suffix):
            others.append(info.filename)
            continue
        if not re.fullmatch(r"[\w-][\w.()+ -]*", name) or len(name.encode()) > LONGEST:
            raise DownloadError(f"{path}: {info.filename!r} in it is no name for a file everywhere; refused")
        if info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):  # zipfile bounds only these as they grow
            raise DownloadError(f"{path}: {info.filename!r} in it is packed by method {info.compress_type}; refused")
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            raise DownloadError(f"{path}: holds two files that would be {name!r}; refused")
        seen.add(key)
        wanted[name] = info
    return wanted, others
