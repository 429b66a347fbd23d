"""Conditions under which runs were scored: on which files, by which versions of the metrics."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denoiser import filesystem
from denoiser.ranking.configuration import Record, flatten, mean_test_value
from denoiser.ranking.format import amount
from denoiser.training.folder import SPLIT

PACKAGES = ("denoiser", "pesq", "pystoi")


def differences(runs: Sequence[Record]) -> dict[str, str]:
    """Return a note for each run that was scored under other conditions than most, by folder.

    A run without a test is not compared by its test files.
    """
    found = {run["folder"]: _conditions(run) for run in runs}
    keys = dict.fromkeys(key for conditions in found.values() for key in conditions)
    usual = {}
    for key in keys:
        counts = Counter(conditions[key] for conditions in found.values() if key in conditions)
        usual[key] = counts.most_common(1)[0][0]
    notes = {}
    for folder, conditions in found.items():
        changed = [f"other {key} ({value})" for key, value in conditions.items() if value != usual[key]]
        if changed:
            notes[folder] = ", ".join(changed)
    return notes


def _conditions(run: Record) -> dict[str, str]:
    """Return all that has to be equal for two runs' scores to be comparable, in words."""
    names = _split(Path(run["folder"]))
    validation, test = run.get("validation") or {}, run.get("test") or {}
    versions = run.get("versions") or {}
    conditions = {
        "monitor": f"{run.get('monitor')}, {run.get('mode')}",
        "sample rate": f"{flatten(run['config']).get('spectral.sample_rate')} Hz",
        "validation files": f"{validation.get('n')}{_digest(names.get('val'))}",
        "versions": ", ".join(f"{package} {versions.get(package)}" for package in PACKAGES),
    }
    if test:
        # The mean score of the noisy files tells their sound apart, which names do not.
        noisy = mean_test_value("si_sdr", "noisy")(run)
        sound = f", noisy SI-SDR {amount('si_sdr', noisy)} dB" if isinstance(noisy, float) else ""
        conditions["test files"] = f"{test.get('n')}{_digest(names.get('test'))}{sound}"
    return conditions


def _split(folder: Path) -> dict[str, Any]:
    """Read the names of training, validation and test files; empty if there is no such file, or a damaged one."""
    try:
        names = json.loads(filesystem.read_text(folder / SPLIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return names if isinstance(names, dict) else {}


def _digest(names: Any) -> str:
    return f", list {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:6]}" if names else ""
