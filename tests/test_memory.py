from __future__ import annotations

import gc
import platform
import subprocess
import sys

import pytest

from denoiser import startup

FAULTS = """
import resource, torch
from denoiser import memory
{}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
before = faults()
for index in range(1, 5):  # a little smaller each: glibc before 2.38 finds no room where one of that very size was
    torch.ones((1 << 24) - 4096 * index)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_large_tensors_freed_is_used_again():
    counts = []
    for line in ("", "memory.keep_freed()"):
        command = [sys.executable, "-c", FAULTS.format(line)]
        counts.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert counts[1] < counts[0] / 10


def test_imports_are_no_garbage_and_what_comes_later_may_be():
    with startup.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.disable()
    try:
        with startup.importing():
            pass
        assert not gc.isenabled()  # it was the caller's wish
    finally:
        gc.enable()
