"""Standard input and output as files: the input is read twice, and the output gets its name when it is complete."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from denoiser.errors import AudioError, DenoiserError

# Compared by identity: a file may have either name.
STDIN, STDOUT = Path("standard input"), Path("standard output")


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Yield ``path``, or for STDIN a private copy of all of standard input, deleted on exit.

    Raises AudioError where standard input is a terminal. Errors about the copy name standard input.
    """
    if path is not STDIN:
        yield path
        return
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError("input=-: standard input is no sound; pipe a file into it")
    with private_folder() as folder:
        copy = folder / STDIN
        with open(copy, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield copy


@contextmanager
def writable(path: Path) -> Iterator[Path]:
    """Yield ``path``, or for STDOUT a private WAV file that is copied to standard output on exit.

    Raises AudioError where standard output is a terminal, or is closed before the end.
    """
    if path is not STDOUT:
        yield path
        return
    if os.isatty(1):
        raise AudioError(
            "output=-: standard output is a terminal, which plays no sound; pipe it, or give output=clean.wav"
        )
    with private_folder() as folder:
        made = folder / f"{STDOUT}.wav"
        yield made
        try:
            with open(made, "rb") as file, open(1, "wb", closefd=False) as out:
                shutil.copyfileobj(file, out)
        except OSError as error:
            raise AudioError(f"{STDOUT}: closed before all of it was written ({error.strerror})") from error


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a new folder that only this user can open, deleted on exit; errors show names without its path."""
    with TemporaryDirectory(prefix="denoiser-") as name:
        try:
            yield Path(name)
        except DenoiserError as error:
            raise type(error)(str(error).replace(f"{name}/", "")) from error
