"""A corpus that is published as ZIP archives, brought to a folder: each archive fetched, verified, unpacked, once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from denoiser.data.vctk_demand.archive import md5, unpack
from denoiser.errors import AudioError, CorpusError, DownloadError

RECORD = "unpacked.json"  # in the root: what was unpacked, so that the next run has nothing to do
WORK, LOCK = ".download", ".download.lock"  # in the root, only while there is something to do
LISTED = 5  # problems shown of those found


@dataclass(frozen=True)
class Archive:
    """A published ZIP file, ``<name>.zip``, which becomes the folder ``<name>``.

    Args:
        name: of both.
        md5: of the ZIP file.
        size: bytes of the ZIP file, about; up to twice as many are believed.
        unpacked: bytes of its files, about; up to twice as many are believed.
        files: how many it holds; None where that is not known.
        suffix: what the names of its files end in.
        sample_rate: Hz, of WAV files, which are mono.
    """

    name: str
    md5: str
    size: int
    unpacked: int
    files: int | None
    suffix: str = ".wav"
    sample_rate: int = 48_000


def complete(root: Path, archives: Sequence[Archive], url: str, keep: bool = False) -> None:
    """Make ``root`` hold the folder of every archive: fetch what is missing, or find at once that nothing is.

    A folder has its final name only once it is whole and recorded, so this may be killed at any moment and called
    again. A second process meanwhile waits. A folder that is there without a record is taken as it is if it has the
    right number of files with the right headers. Nothing that others put into ``root`` is deleted.

    Args:
        root: made where it is not there.
        archives: fetched in this order.
        url: of the folder that holds them.
        keep: the archives too, in ``root``.

    Raises:
        CorpusError: a folder in ``root`` has other files than it should.
        DownloadError: an archive cannot be fetched, is not the published one, or the disk has no room.
    """
    try:
        if not all(_is_whole(root, a) for a in archives) or (root / WORK).exists() or (root / LOCK).exists():
            with _alone(root):
                _complete(root, archives, url, keep)
    except KeyboardInterrupt:
        print(f"{root}: what was downloaded is kept, the same command goes on from there", file=sys.stderr)
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"{root}: the disk is full; what was downloaded is kept, free some space and run the same command again"
            ) from error
        raise DownloadError(f"{root}: cannot be used ({error}); choose another folder") from error
    counts = ", ".join(f"{a.name} {_read_record(root)[a.name]['files']}" for a in archives)
    print(f"{root}: complete; files in {counts}")


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Alone in ``root``, with a folder to work in, which does not outlive the work unless it holds what is of use."""
    from filelock import FileLock, Timeout  # comes with torch

    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{root}: another process is at work there, waiting for it")
        lock.acquire()
    work = root / WORK
    try:
        work.mkdir(exist_ok=True)
        yield
    finally:
        with suppress(OSError):  # parts of downloads stay, and the lock with them
            for folder in [path for path in work.iterdir() if path.is_dir()]:
                shutil.rmtree(folder)
            work.rmdir()
            (root / LOCK).unlink()
        lock.release()


def _complete(root: Path, archives: Sequence[Archive], url: str, keep: bool) -> None:
    missing = []
    for archive in archives:
        folder = root / archive.name
        if not _is_whole(root, archive):
            if not folder.exists():
                missing.append(archive)
                continue
            _adopt(root, archive)
        for path in _leftovers(root, archive):
            path.unlink(missing_ok=True)
    if (needed := peak(root, missing, keep)) > (free := shutil.disk_usage(root).free):
        raise DownloadError(
            f"{root}: about {needed / 1e9:.2f} GB are needed on the way, {free / 1e9:.2f} GB are free; free some, or "
            "choose another folder"
        )
    for archive in missing:
        source = _obtain(root, archive, url, keep)
        _unpack(root, archive, source)
        for path in _leftovers(root, archive):
            path.unlink(missing_ok=True)


def _obtain(root: Path, archive: Archive, url: str, keep: bool) -> Path:
    """The archive on disk, its sum right: one that lies in ``root``, else a download."""
    own = root / f"{archive.name}.zip"
    path = root / WORK / own.name
    if own.is_file():
        if (found := md5(own)) == archive.md5:
            return own
        print(
            f"{own}: is not the published file (MD5 {found}, expected {archive.md5}); downloading it", file=sys.stderr
        )
    try:
        from denoiser.data.vctk_demand import download
    except ModuleNotFoundError as error:
        raise DownloadError(f'downloading needs the package {error.name}: pip install "denoiser[download]"') from error
    for again in (True, False):
        if not path.is_file():
            print(f"{own.name}: downloading, about {archive.size / 1e6:.0f} MB", flush=True)
            download.transfer(f"{url.rstrip('/')}/{own.name}", path, 2 * archive.size, magic=b"PK")
        if (found := md5(path)) == archive.md5:
            return path.replace(own) if keep else path
        path.unlink()
        wrong = f"{own.name}: MD5 {found}, expected {archive.md5}"
        if again:
            print(f"{wrong}; downloading it once more", file=sys.stderr)
    raise DownloadError(f"{wrong}, again; this is not the published file: try later, or name a mirror by url=")


def _unpack(root: Path, archive: Archive, source: Path) -> None:
    """Unpack beside, check every header, then rename."""
    beside, folder = root / WORK / archive.name, root / archive.name
    shutil.rmtree(beside, ignore_errors=True)
    if others := unpack(source, beside, archive.suffix, 2 * archive.unpacked, archive.files):
        print(f"{source.name}: {len(others)} other files left out: {', '.join(others[:LISTED])}")
    if problems := _problems(beside, archive):
        raise DownloadError(f"{source.name}: {_first(problems)}")
    # The record first: without its folder it means nothing, while a folder without it would not be known as ours.
    _write_record(root, archive, archive.md5, beside)
    beside.replace(folder)
    print(f"{folder}: verified")


def _adopt(root: Path, archive: Archive) -> None:
    """Take a folder that was unpacked by other means, or raise CorpusError."""
    folder = root / archive.name
    if not folder.is_dir():
        raise CorpusError(f"{folder}: is not a folder; move it away")
    remedy = "move it away and run this again to have it anew, or train on it without data.download"
    if recorded := _read_record(root).get(archive.name):
        now = _listing(folder, archive.suffix)
        raise CorpusError(
            f"{folder}: holds {now['files']} files, {now['bytes']} bytes; when it was unpacked there were "
            f"{recorded['files']}, {recorded['bytes']} bytes; {remedy}"
        )
    if problems := _problems(folder, archive):
        raise CorpusError(f"{folder}: is not what {archive.name}.zip holds, {_first(problems)}; {remedy}")
    _write_record(root, archive, None, folder)
    print(f"{folder}: was there already, taken as it is")


def _problems(folder: Path, archive: Archive) -> list[str]:
    """A line for each file that is not what the archive holds, by its header, and for a wrong number of files."""
    from denoiser import audio  # torch takes seconds to load, and a corpus that is there needs none

    paths = sorted(path for path in folder.iterdir() if _counts(path.name, archive.suffix))
    if archive.files not in (None, len(paths)) or not paths:
        return [f"{len(paths)} {archive.suffix} files, expected {archive.files or 'some'}"]
    if archive.suffix != ".wav":
        return []

    def problem(path: Path) -> str | None:
        try:
            info = audio.probe(path)
        except AudioError as error:
            return str(error)
        if (info.sample_rate, info.channels) == (archive.sample_rate, 1) and info.frames > 0:
            return None
        found = f"{info.sample_rate} Hz, {info.channels} channels, {info.frames} samples"
        return f"{path.name}: {found}, expected {archive.sample_rate} Hz, 1 channel"

    with ThreadPoolExecutor(8) as pool:
        title = f"headers of {archive.name}"
        found = tqdm(pool.map(problem, paths), title, len(paths), leave=False, unit="file", disable=None)
        return [line for line in found if line]


def _first(problems: Sequence[str]) -> str:
    more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return "; ".join(problems[:LISTED]) + more


def peak(root: Path, missing: Sequence[Archive], keep: bool = False) -> int:
    """Bytes that ``root`` will need beyond what it holds, at the fullest moment on the way, about."""
    held = most = 0
    for archive in missing:
        size = 0 if (root / f"{archive.name}.zip").is_file() else archive.size
        have = sum(path.stat().st_size for path in _leftovers(root, archive) if path.is_file())
        coming = max(0, size - have)
        most = max(most, held + coming + archive.unpacked)
        held += archive.unpacked + (coming if keep else -have)
    return most


def _leftovers(root: Path, archive: Archive) -> list[Path]:
    """What a download of the archive may have left."""
    return [root / WORK / f"{archive.name}.zip{end}" for end in ("", ".part", ".part.json")]


def _counts(name: str, suffix: str) -> bool:
    return name.lower().endswith(suffix) and not name.startswith(".")


def _listing(folder: Path, suffix: str) -> dict[str, int]:
    """How many such files the folder holds, and their bytes: enough to notice what was lost, in milliseconds."""
    with os.scandir(folder) as entries:
        sizes = [entry.stat().st_size for entry in entries if _counts(entry.name, suffix)]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _read_record(root: Path) -> dict[str, dict[str, int | str | None]]:
    try:
        found = json.loads((root / RECORD).read_text())["archives"]
        return {name: dict(entry) for name, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_record(root: Path, archive: Archive, md5: str | None, folder: Path) -> None:
    entry = {"md5": md5, **_listing(folder, archive.suffix)}
    record = {"archives": {**_read_record(root), archive.name: entry}}
    beside = root / WORK / RECORD
    with open(beside, "w") as file:
        json.dump(record, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(root / RECORD)


def _is_whole(root: Path, archive: Archive) -> bool:
    """Whether the folder is there as it was recorded."""
    entry = _read_record(root).get(archive.name)
    if entry is None or entry.get("md5") not in (archive.md5, None) or not (root / archive.name).is_dir():
        return False
    return all(entry.get(key) == now for key, now in _listing(root / archive.name, archive.suffix).items())
