"""Signals in worker processes, which belong to the process that started them."""

import os
import signal
from threading import Thread


def leave_signals_to_parent(index: int = 0) -> None:
    """Ignore the signals of a process group, in a worker: its parent may still need it, and ends it by SIGTERM.

    Where the system does not say who sent a signal (macOS, Windows), SIGTERM ends the worker as ever.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # A thread takes it, because a handler is not told the sender. Threads that begin later block it, too.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_at_parents_word, daemon=True).start()


def _end_at_parents_word() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        continue
    os._exit(0)
