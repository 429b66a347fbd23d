from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from denoiser import allocator
{}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
before = faults()
for _ in range(4):
    torch.ones(1 << 24)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_what_large_tensors_freed_is_used_again():
    counts = [
        int(subprocess.run([sys.executable, "-c", FAULTS.format(line)], capture_output=True, text=True, check=True).stdout)
        for line in ("", "allocator.keep_freed()")
    ]  # fmt: skip
    assert counts[1] < counts[0] / 10
