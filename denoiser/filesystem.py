"""Files and folders that are either complete or absent, and locks that end with their process."""

import os
import secrets
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

MAX_TEXT_BYTES = 1 << 26  # scores.csv of 11,572 files has 2 MB


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path`` to write to; at the end the file is synced and renamed to ``path``.

    If the block raises, ``path`` stays as it was. Partial files that killed processes left of it are deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name has at most 255 bytes, and the suffix takes some of them.
    stem = path.name.encode(errors="surrogateescape")[:200].decode(errors="ignore")
    begin = f".{stem}.partial-"
    for leftover in _partial_files(path.parent.absolute()):
        if leftover.name.startswith(begin) and not _is_running(leftover.name.removeprefix(begin).partition("-")[0]):
            leftover.unlink(missing_ok=True)
    partial = path.with_name(f"{begin}{os.getpid()}-{threading.get_native_id()}")
    try:
        yield partial
        # Windows flushes only files that are open for writing.
        with open(partial, "r+b") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def walk(folder: Path, refused: Callable[[OSError], object] | None = None) -> Iterator[Path]:
    """Yield the files under a folder, those behind links to folders too; no folder is entered twice.

    A link to a folder that holds it, or that holds ``folder``, is a loop and is not followed.
    ``refused`` is called with the error of each folder that cannot be listed.
    """
    waiting, root, seen = [folder], folder.resolve(), set[tuple[int, int]]()
    while waiting:
        links: list[Path] = []
        for name, folders, files in (step for start in waiting for step in os.walk(start, onerror=refused)):
            place, identity = Path(name), os.stat(name)
            if (identity.st_dev, identity.st_ino) in seen:
                folders.clear()
                continue
            seen.add((identity.st_dev, identity.st_ino))
            yield from (place / file for file in files)
            for link in (place / inner for inner in folders if os.path.islink(place / inner)):
                if not any(inside.is_relative_to(link.resolve()) for inside in (place.resolve(), root)):
                    links.append(link)
        # Links come after all else, so that a folder that lies here itself keeps its own name.
        waiting = sorted(links)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 by :func:`atomic_write`; lone surrogates, as of a strange file name, are escaped."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


@cache
def _partial_files(folder: Path) -> list[Path]:
    """Return the partial files in a folder, listed once: before each file of a large one it would take too long."""
    return list(folder.glob(".*.partial-*"))


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except OSError:
        pass  # of another user
    return True


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder``, for the caller to fill and rename; at the end it is deleted if still there.

    Folders that killed processes left there are deleted; those of a process at work are locked.
    """
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Otherwise another process could delete the new folder before it is locked.
        with locked(parent, folder=True, wait=True):
            for leftover in parent.glob("*.partial-*"):
                with locked(leftover, folder=True) as abandoned:
                    if abandoned:
                        shutil.rmtree(leftover, ignore_errors=True)
            partial = parent / f"{folder.name}.partial-{secrets.token_hex(4)}"
            partial.mkdir()
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            stack.enter_context(locked(partial, folder=True))
        yield partial


@contextmanager
def locked(path: Path, *, folder: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of ``path`` if no other process has it; yields True if it is held. Arguments as in :func:`lock`."""
    descriptor = lock(path, folder=folder, wait=wait)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock(path: Path, *, folder: bool = False, shared: bool = False, wait: bool = False) -> int | None:
    """Lock a file, created if needed, or an existing ``folder``; return the descriptor, or None if it cannot be had.

    The lock ends when the descriptor is closed or the process ends. Several processes may have a ``shared`` one;
    ``wait`` for another process to give it back. Where there are no locks, on Windows and some network file systems,
    a file counts as locked and a folder never does.
    """
    if not folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o666)  # writable for NFS
    except OSError:
        if folder:
            return None
        raise
    try:
        import fcntl

        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        if folder or isinstance(error, BlockingIOError):
            os.close(descriptor)
            return None
    return descriptor


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """Return the text of a regular file.

    Raises OSError for anything else (a pipe would block, a device may never end) and for more than 64 MB, and
    UnicodeDecodeError according to ``errors``.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise OSError(f"over {MAX_TEXT_BYTES >> 20} MB of text")
    return content.decode(encoding, errors)
