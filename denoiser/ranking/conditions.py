"""Conditions under which runs were scored: on which files, by which versions of the metrics."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from denoiser import filesystem
from denoiser.ranking.configuration import Record, flatten, value
from denoiser.ranking.format import amount
from denoiser.training.folder import SPLIT

PACKAGES = ("denoiser", "pesq", "pystoi")


def differences(runs: Sequence[Record]) -> dict[str, str]:
    """Return a note for each run that was scored under other conditions than most, by folder.

    A run without a test is not compared by its test files.
    """
    found = {run["folder"]: _conditions(run) for run in runs}
    counts: dict[str, Counter[str]] = {}
    for conditions in found.values():
        for key, text in conditions.items():
            counts.setdefault(key, Counter())[text] += 1
    usual = {key: counter.most_common(1)[0][0] for key, counter in counts.items()}
    notes = {}
    for folder, conditions in found.items():
        changed = [f"other {key} ({text})" for key, text in conditions.items() if text != usual[key]]
        if changed:
            notes[folder] = ", ".join(changed)
    return notes


def _conditions(run: Record) -> dict[str, str]:
    """Return all that has to be equal for two runs' scores to be comparable, in words."""
    versions = run.get("versions") or {}
    conditions = {
        "monitor": f"{run.get('monitor')}, {run.get('mode')}",
        "sample rate": f"{flatten(run['config']).get('spectral.sample_rate')} Hz",
        "validation files": f"{value(run, 'val/n')}{_list(run, 'val')}",
        "versions": ", ".join(f"{package} {versions.get(package)}" for package in PACKAGES),
    }
    if run.get("test"):
        # The mean score of the noisy files tells their sound apart, which names do not.
        noisy = value(run, "noisy/si_sdr")
        sound = f", noisy SI-SDR {amount('si_sdr', noisy)} dB" if isinstance(noisy, float) else ""
        conditions["test files"] = f"{run['test'].get('n')}{_list(run, 'test')}{sound}"
    return conditions


def _list(run: Record, part: str) -> str:
    """Return a digest of the file names of ``val`` or ``test``; empty if they are not known."""
    try:
        names = json.loads(filesystem.read_text(Path(run["folder"], SPLIT)))[part]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f", list {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:6]}"
