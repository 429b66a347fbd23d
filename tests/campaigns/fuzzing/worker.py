"""Process that inputs are tried in. It may crash, hang or swell, and is started anew then."""

import os
import random
import re
import resource
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEMORY = 1 << 30  # bytes that one input may add to what the process holds
ADDRESSES = 6 << 30  # bytes of address space beyond what imports have taken: a wild allocation fails at once
LONGEST = 2000  # characters of a message


def status(name: str) -> int:
    """Return one entry of /proc/self/status in bytes."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10


def rewind_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def tried(attempt: Callable[[random.Random, Path], None], name: str, folder: Path) -> dict[str, Any]:
    """Try one input: ``accepted``, ``refused`` with its line, or ``failed`` with the reason."""
    from denoiser.errors import DenoiserError

    folder.mkdir()
    before, begin = status("VmRSS"), time.process_time()
    rewind_peak()
    result, detail = "accepted", ""
    try:
        attempt(random.Random(name), folder)
    except DenoiserError as error:
        result, detail = "refused", str(error)
        if re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", detail) or not detail.strip() or len(detail) > LONGEST:
            result, detail = "failed", f"not one clear line: {detail[:300]!r}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        own = next((f for f in reversed(where) if "denoiser/" in f.filename or "fuzzing/" in f.filename), where[-1])
        result = "failed"
        detail = f"{type(error).__name__} at {Path(own.filename).name}:{own.lineno}: {str(error)[:300]}"
    grown = status("VmHWM") - before
    if grown > MEMORY:
        result, detail = "failed", f"{grown / 1e9:.1f} GB more memory; {detail}"
    shutil.rmtree(folder, ignore_errors=True)
    answer = {"result": result, "detail": detail, "seconds": round(time.process_time() - begin, 3), "grown": grown}
    return {**answer, "resident": status("VmRSS")}


def serve(pipe: Connection, folder: str) -> None:
    """Answer each ``(seed, kind, number)`` by the result of that input, until the other end is closed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    import torch

    from tests.campaigns.fuzzing.kinds import KINDS

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    attempts: dict[str, Callable[[random.Random, Path], None]] = {}
    home = Path(tempfile.mkdtemp(dir=folder))
    os.environ["TMPDIR"] = tempfile.tempdir = str(home)
    while True:
        try:
            seed, kind, number = pipe.recv()
        except EOFError:
            return
        if kind not in attempts:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            (home / kind).mkdir()
            attempts[kind] = KINDS[kind].make(home / kind)
            resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + ADDRESSES, resource.RLIM_INFINITY))
        pipe.send(tried(attempts[kind], f"{seed} {kind} {number}", home / "input"))
