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
def as_files(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield both paths; STDIN becomes a file with its content, STDOUT a WAV file that is copied to it on exit.

    Such files lie in a folder that only this user can open, deleted on exit; errors omit its path. Raises
    AudioError if either is a terminal, or if not all of the result could be written.
    """
    if source is STDIN and (sys.stdin is None or sys.stdin.isatty()):
        raise AudioError("input=-: standard input holds no sound; pipe a file into it")
    if target is STDOUT and os.isatty(1):
        raise AudioError("output=-: standard output is a terminal; pipe it, or give output=clean.wav")
    if source is not STDIN and target is not STDOUT:
        yield source, target
        return
    with TemporaryDirectory(prefix="denoiser-") as folder:
        noisy = Path(folder, STDIN) if source is STDIN else source
        enhanced = Path(folder, f"{STDOUT}.wav") if target is STDOUT else target
        if source is STDIN:
            with open(noisy, "wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield noisy, enhanced
        except DenoiserError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from error
        if target is STDOUT:
            try:
                with open(enhanced, "rb") as file, open(1, "wb", closefd=False) as out:
                    shutil.copyfileobj(file, out)
            except OSError as error:
                raise AudioError(f"{STDOUT}: not all of the result could be written ({error.strerror})") from error
