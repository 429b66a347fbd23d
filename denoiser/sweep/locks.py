"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def take(path: Path, shared: bool = False) -> int | None:
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
def held(path: Path) -> Iterator[bool]:
    """Whether this process, and no other, now holds the lock of the file ``path``."""
    descriptor = take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)
