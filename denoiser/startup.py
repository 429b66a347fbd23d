"""Preparation of a program before torch loads: its packages, its memory, its imports."""

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

# Parameters of mallopt(3).
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


def prepare(*packages: str) -> None:
    """Prepare a program that will load torch; ends it with one line where one of ``packages`` is not installed."""
    # OpenMP reads this once. Threads that spin while they wait run far slower beside another load.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        advice = "run: make install, then: source .venv/bin/activate"
        print(f"error: no {', '.join(missing)} in {sys.executable}; {advice}", file=sys.stderr)
        sys.exit(2)


def keep_freed_memory() -> None:
    """Let the process use its freed memory again, on Linux with glibc; elsewhere nothing changes.

    Otherwise each tensor of over 32 MB is mapped anew and its pages zeroed, which costs unet10 a quarter of the time
    over a long recording and a tenth in training. The peak is about the same.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def importing() -> Iterator[None]:
    """Switch the garbage collector off during imports: it finds nothing and takes an eighth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # Imported modules are never garbage, so later collections skip them.
        gc.enable()
