"""Standard input and output as files: the input is read twice, and the output gets its name when it is complete."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from denoiser.audio.raw import Raw
from denoiser.errors import AudioError, DenoiserError

# Compared by identity: a file may have either name.
STDIN, STDOUT = Path("standard input"), Path("standard output")
_NAMES = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def plain(name: str) -> str:
    """Return ``-`` for the names that a system gives to standard input and output, else the name."""
    return "-" if name in _NAMES else name


def is_pipe(path: str | Path) -> bool:
    """Return True for ``-``, a named pipe, and what a shell puts in the place of ``<(...)``."""
    return str(path) == "-" or path in (STDIN, STDOUT) or Path(path).is_fifo()


def refuse_terminals(source: Path, target: Path) -> None:
    """Raise AudioError if standard input or output is to be read or written and is a terminal, or not there."""
    if source is STDIN and (sys.stdin is None or sys.stdin.isatty()):
        raise AudioError("input=-: standard input holds no sound; pipe a file into it")
    if target is STDOUT and os.isatty(1):
        raise AudioError("output=-: standard output is a terminal; pipe it, or give output=clean.wav")


@contextmanager
def as_files(source: Path, target: Path, raw: Raw | None = None, read: bytes = b"") -> Iterator[tuple[Path, Path]]:
    """Yield both paths; a pipe becomes a file with its content, one to write to a WAV file copied to it on exit.

    So does headerless PCM, which gets the header of ``raw``. Such files lie in a folder that only this user can open,
    deleted on exit; errors omit its path. ``read`` has been taken from the pipe already. Raises AudioError if either
    is a terminal, or if not all of the result could be written.
    """
    refuse_terminals(source, target)
    reads, writes = (path is pipe or path.is_fifo() for path, pipe in ((source, STDIN), (target, STDOUT)))
    if not (reads or writes or raw):
        yield source, target
        return
    with TemporaryDirectory(prefix="denoiser-") as folder:
        noisy = Path(folder, source.name) if reads else source
        enhanced = Path(folder, f"{target.name}.wav") if writes else target
        if reads:
            given = nullcontext(sys.stdin.buffer) if source is STDIN else source.open("rb")
            with given as pipe, open(noisy, "wb") as file:
                file.write(read)
                shutil.copyfileobj(pipe, file)
        try:
            if raw:
                named = Path(folder, f"{source.name}.wav")
                raw.add_header(noisy, named)
                noisy = named
            yield noisy, enhanced
        except DenoiserError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from error
        if writes:
            try:
                place = 1 if target is STDOUT else os.open(target, os.O_WRONLY)
                with open(enhanced, "rb") as file, open(place, "wb", closefd=target is not STDOUT) as out:
                    shutil.copyfileobj(file, out)
            except OSError as error:
                raise AudioError(f"{target}: not all of the result could be written ({error.strerror})") from error
