"""Keys of the terminal, as they are pressed."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# Waits so many seconds for a key, and returns it.
Wait = Callable[[float], str]


@contextmanager
def pressed() -> Iterator[Wait]:
    """Yield a function that waits some seconds for a key and returns it, or an empty text; it needs a terminal."""
    try:
        import termios
        import tty

        place = sys.stdin.fileno()
        # A job in the background that touches its terminal is stopped.
        has_keys = os.isatty(place) and os.tcgetpgrp(place) == os.getpgrp()
    except (ImportError, OSError, AttributeError, ValueError):  # Windows, or no standard input
        has_keys = False

    def wait(seconds: float) -> str:
        if not has_keys:
            time.sleep(seconds)
            return ""
        if not select.select([place], [], [], seconds)[0]:
            return ""
        key = os.read(place, 1).decode(errors="replace")
        if not key:  # the terminal is closed
            time.sleep(seconds)
        return key

    if not has_keys:
        yield wait
        return
    before = termios.tcgetattr(place)
    try:
        tty.setcbreak(place)
        yield wait
    finally:
        # A terminal that was closed has no settings any more.
        with suppress(termios.error):
            termios.tcsetattr(place, termios.TCSADRAIN, before)
