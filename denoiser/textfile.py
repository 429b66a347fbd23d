"""Text files that anybody may have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 1 << 26  # scores.csv of 11 572 files has 2 MB


def read(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """All of a regular file; OSError where it is none or has over 64 MB, UnicodeDecodeError as of ``errors``.

    A pipe would keep us waiting for ever, and a device gives bytes for ever.
    """
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(f"over {MAX_BYTES >> 20} MB of text")
    return content.decode(encoding, errors)
