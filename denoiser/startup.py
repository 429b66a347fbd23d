"""What this process asks of its memory: freed tensors are kept for the next ones, imports are no garbage."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # of mallopt(3)


def keep_freed() -> None:
    """Let this process use again what it frees, on Linux with glibc; elsewhere nothing happens.

    Otherwise each tensor of over 32 MB is mapped anew and its pages zeroed: unet10 takes a quarter longer by it over a
    long recording and a tenth in training. The peak is about the same; what was freed goes back when the process ends.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl
        return
    mallopt(MMAP_MAX, 0)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def importing() -> Iterator[None]:
    """For imports: nothing that they make is garbage. Looking for some again and again takes an eighth of torch's."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor is it looked through later
        if enabled:
            gc.enable()


def check_environment(*packages: str) -> None:
    """Leave with one line where these cannot be imported: most likely the environment is not active."""
    if missing := [package for package in packages if find_spec(package) is None]:
        print(
            f"error: no {', '.join(missing)} in {sys.executable}; run: make install, then: source .venv/bin/activate",
            file=sys.stderr,
        )
        sys.exit(2)
