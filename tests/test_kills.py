"""A few of the kills of ``benchmarks/kills.py``: in training, twice, and in a folder of files."""

from __future__ import annotations

import os
import subprocess
import sys

from conftest import ROOT


def test_what_is_killed_goes_on_and_is_what_it_would_have_been(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/kills.py"), "kills=3", "seed=0", f"folder={tmp_path}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].split()[:3] == ["all", "3", "3"]
