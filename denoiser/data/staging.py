"""A folder that is filled beside its final name: whole, or not there, whatever ends the process."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder``, for the caller to fill and rename; what is still there at the end is deleted.

    So is what a killed process left there: its lock, unlike that of one still at work, is gone with it.
    """
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with _locked(parent, wait=True):  # between making a folder and locking it nobody else may look
            for leftover in parent.glob("*.partial-*"):
                with _locked(leftover) as abandoned:
                    if abandoned:
                        shutil.rmtree(leftover, ignore_errors=True)
            partial = parent / f"{folder.name}.partial-{secrets.token_hex(4)}"
            partial.mkdir()
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            stack.enter_context(_locked(partial))
        yield partial


@contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool]:
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
