"""Memory of this process; Linux only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def watched(found: dict[str, float]) -> Iterator[None]:
    """Add this process's peak of resident memory and, looked at every 20 ms, of its private part: what is not read
    from files, as libraries are, which programs share. In MB; ``ru_maxrss`` has in it what the parent held."""
    status, done = Path("/proc/self/status"), threading.Event()

    def read(key: str) -> float:
        (line,) = [line for line in status.read_text().splitlines() if line.startswith(f"{key}:")]
        return int(line.split()[1]) / 1024

    def look() -> None:
        while not done.wait(0.02):
            found["private_mb"] = max(found.get("private_mb", 0.0), read("RssAnon"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        found["peak_mb"] = read("VmHWM")
        found["private_mb"] = max(found.get("private_mb", 0.0), read("RssAnon"))
