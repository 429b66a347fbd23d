import gc
import platform
import subprocess
import sys

import pytest

from denoiser import startup

FAULTS = """
import resource, torch
from denoiser import startup
{}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(1 << 24)
before = faults()
for index in range(1, 5):  # a little smaller each: glibc before 2.38 cannot use the place of one of that very size
    torch.ones((1 << 24) - 4096 * index)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_of_large_tensors_is_used_again():
    counts = []
    for line in ("", "startup.keep_freed_memory()"):
        command = [sys.executable, "-c", FAULTS.format(line)]
        counts.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert counts[1] < counts[0] / 10


def test_the_garbage_collector_is_off_during_imports_alone():
    with startup.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.unfreeze()


@pytest.mark.parametrize("program", ["train", "infer"])
@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_the_settings_are_shown_without_loading_torch(program, arguments):
    command = [sys.executable, "-X", "importtime", "-m", "denoiser", program, *arguments]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout
    modules = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert "hydra" in modules
    assert "torch" not in modules
