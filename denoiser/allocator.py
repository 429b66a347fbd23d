"""Memory for large tensors, kept for the next ones."""

from __future__ import annotations

import ctypes
import sys

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
