"""Files and folders that are whole or not there, and locks that end with their process."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it becomes ``path`` only once all of it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = path.name.encode(errors="surrogateescape")[:200].decode(errors="ignore")  # a name has at most 255 bytes
    partial = path.with_name(f".{stem}.partial-{os.getpid()}-{threading.get_native_id()}")
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, for the caller to fill and rename; what is still there at the end is deleted.

    So is what a killed process left there: its lock, unlike that of one still at work, is gone with it.
    """
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _folder_locked(parent, wait=True):  # between making a folder and locking it nobody else may look
            for leftover in parent.glob("*.partial-*"):
                with _folder_locked(leftover) as abandoned:
                    if abandoned:
                        shutil.rmtree(leftover, ignore_errors=True)
            partial = parent / f"{folder.name}.partial-{secrets.token_hex(4)}"
            partial.mkdir()
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            stack.enter_context(_folder_locked(partial))
        yield partial


@contextmanager
def _folder_locked(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Whether this process now holds the lock of the folder; never, where there are none: Windows, some networks."""
    try:
        import fcntl

        lock = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield False
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(lock)


def lock(path: Path, shared: bool = False) -> int | None:
    """Lock the file ``path``, made if need be: the descriptor that holds the lock, or None where another has it.

    A lock is a file's, not a folder's: NFS gives an exclusive one only to who can write. Where there are no
    locks, on Windows or some network file systems, everyone gets one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except (ImportError, OSError):
        pass
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether this process, and no other, now holds the lock of the file ``path``."""
    descriptor = lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


MAX_TEXT_BYTES = 1 << 26  # scores.csv of 11 572 files has 2 MB


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """All of a regular file; OSError where it is none or has over 64 MB, UnicodeDecodeError as of ``errors``.

    A pipe would keep us waiting for ever, and a device gives bytes for ever.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise OSError(f"over {MAX_TEXT_BYTES >> 20} MB of text")
    return content.decode(encoding, errors)
