"""Under which conditions runs were scored: only those that agree in all of them are ranked together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denoiser import filesystem
from denoiser.ranking.configuration import SHARED, Configuration, Record, amount, flatten, heading, mean_of_test


def conditions(run: Record) -> dict[str, str]:
    """What has to be the same for two runs' scores to be compared, each in a few words."""
    split = run.get("split") or {}
    names = split_names(Path(run["folder"]))
    validation, test = run.get("validation") or {}, run.get("test") or {}
    # The mean scores of what went in tell the sound of the files and the metrics' code apart; names do not.
    noisy = ", ".join(
        f"{heading(m)} {amount(m, mean_of_test(m, 'noisy')(run))}" for m in SHARED if mean_of_test(m, "noisy")(run)
    )
    found = {
        "the monitor": f"{run.get('monitor')}, {run.get('mode')}imum",
        "the sample rate": f"{flatten(run['config']).get('spectral.sample_rate')} Hz",
        "the validation files": f"{validation.get('n')} of {split.get('val')}{_digest(names.get('val'))}",
        "the metrics' packages": ", ".join(
            f"{package} {(run.get('versions') or {}).get(package)}" for package in ("denoiser", "pesq", "pystoi")
        ),
    }
    if test:
        found["the test files"] = f"{test.get('n')}{_digest(names.get('test'))}, noisy: {noisy}"
    return found


def split_names(folder: Path) -> dict[str, Any]:
    """A run's ``split.json``: names of ``train``, ``val`` and ``test``; empty where there is none."""
    try:
        names = json.loads(filesystem.read_text(folder / "split.json"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(names, dict):
        return {}
    return {
        part: found
        for part, found in names.items()
        if isinstance(found, list) and all(isinstance(name, str) for name in found)
    }


def _digest(names: Any) -> str:
    return f" (list {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:6]})" if names else ""


def divide(configurations: Sequence[Configuration]) -> list[str]:
    """Give those that were scored alike one letter, the most runs ``A``; returns a line for each other letter.

    A run without a test goes with those of the same validation.
    """
    keys = [[conditions(run) for run in c.runs] for c in configurations]
    found = [facts for group in keys for facts in group]
    for facts in found:
        rest = {k: v for k, v in facts.items() if k != "the test files"}
        same = [f["the test files"] for f in found if "the test files" in f and {**f, **rest} == f]
        if "the test files" not in facts and same:
            facts["the test files"] = Counter(same).most_common(1)[0][0]
    # The seeds of a configuration that were scored differently are told apart by their own letters: A/B.
    counts = Counter(json.dumps(facts, sort_keys=True) for facts in found)
    letters = {key: _letter(i) for i, (key, _) in enumerate(counts.most_common())}
    for configuration, group in zip(configurations, keys, strict=True):
        configuration.alike = "/".join(sorted({letters[json.dumps(facts, sort_keys=True)] for facts in group}))
    first = json.loads(next(iter(letters))) if letters else {}
    lines = []
    for key, letter in list(letters.items())[1:]:
        other = json.loads(key)
        changes = [f"{k} ({other.get(k)}; A: {first.get(k)})" for k in first | other if other.get(k) != first.get(k)]
        runs = f"{counts[key]} run{'s' if counts[key] > 1 else ''}"
        was = f"{runs} marked {letter} {'were' if counts[key] > 1 else 'was'}"
        lines.append(f"{was} not scored as those marked A, so ranked apart; other: {', '.join(changes)}")
    return lines


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"Z{index - 25}"
