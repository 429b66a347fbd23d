"""Paired bootstrap: is one system better than another on the same files?"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denoiser import filesystem
from denoiser.evaluation.tables import number
from denoiser.ranking.configuration import Configuration

RESAMPLES = 10_000
LEVEL = 0.95
AT_ONCE = 1_000_000  # drawn values held in memory: 8 MB
Scores = dict[str, dict[str, float]]  # {file: {metric: value}}


@dataclass(frozen=True)
class Interval:
    """Mean difference over ``n`` files and its confidence interval; NaN for fewer than two files."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def includes_zero(self) -> bool:
        """True if the two systems cannot be told apart, also because nothing is known."""
        return not (self.low > 0 or self.high < 0)

    def text(self, metric: str) -> str:
        """Format as ``+0.12 [+0.05, +0.20]``, followed by ``~`` if the interval includes 0."""
        if not math.isfinite(self.mean):
            return "n/a"
        mean, low, high = (number(metric, value, sign=True) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{' ~' if self.includes_zero else ''}"


def paired_bootstrap(
    one: Sequence[float], other: Sequence[float], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Return the mean of ``one - other``, score by score, and its percentile interval over resampled files.

    Files are drawn with replacement, both systems' scores of a file together, so that a hard file counts against
    neither (Efron and Tibshirani 1993, ch. 13; for the comparison of two speech systems Bisani and Ney 2004). Pairs
    with a score that is not finite are left out. The same ``seed`` gives the same interval.
    """
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        return Interval(math.nan, math.nan, math.nan, n)
    rng = np.random.default_rng(seed)
    rows = max(1, AT_ONCE // n)
    means = []
    for first in range(0, resamples, rows):
        drawn = rng.integers(n, size=(min(rows, resamples - first), n))
        means.append(differences[drawn].mean(1))
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(differences.mean()), float(low), float(high), n)


def compare(one: Scores, other: Scores, metrics: Sequence[str]) -> dict[str, Interval]:
    """Return the :func:`paired_bootstrap` of each metric over the files that both were scored on."""
    files = sorted(set(one) & set(other))
    intervals = {}
    for metric in metrics:
        mine, theirs = ([side[file].get(metric, math.nan) for file in files] for side in (one, other))
        intervals[metric] = paired_bootstrap(mine, theirs)
    return intervals


def read_scores(folder: Path, kind: str = "enhanced") -> Scores:
    """Read ``scores.csv`` of a run for its ``enhanced`` or ``noisy`` files; empty if it is missing or damaged."""
    prefix = f"{kind}_"
    try:
        lines = filesystem.read_text(folder / "scores.csv").splitlines()
        scores = {}
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            values = {key.removeprefix(prefix): float(row[key]) for key in row if key.startswith(prefix)}
            scores[row["name"]] = values
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return {}
    return scores


def of_configuration(scores: Mapping[str, Scores], configuration: Configuration) -> Scores:
    """Average the test scores of a configuration's runs, file by file."""
    return average([scores[run["folder"]] for run in configuration.runs if scores[run["folder"]]])


def average(runs: Sequence[Scores]) -> Scores:
    """Average each metric of each file that all of these runs have, over the runs where it is defined."""
    if not runs:
        return {}
    means: Scores = {}
    for file in sorted(set(runs[0]).intersection(*runs[1:])):
        means[file] = {}
        for metric in runs[0][file]:
            values = [run[file].get(metric, math.nan) for run in runs]
            defined = [value for value in values if math.isfinite(value)]
            means[file][metric] = math.fsum(defined) / len(defined) if defined else math.nan
    return means
