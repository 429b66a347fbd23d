"""Paired bootstrap: is one system better than another on the same files?"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denoiser import filesystem
from denoiser.evaluation.tables import CSV, number
from denoiser.ranking.configuration import MAIN_METRICS, Configuration, SeedStatistics

RESAMPLES = 10_000
AT_ONCE = 1_000_000  # drawn values held in memory: 8 MB
Scores = dict[str, dict[str, float]]  # {file: {metric: value}}


@dataclass(frozen=True)
class Interval:
    """Mean difference over ``n`` files and its 95 % confidence interval; NaN for fewer than two files."""

    mean: float
    low: float
    high: float
    n: int

    def text(self, metric: str) -> str:
        """Format as ``+0.12 [+0.05, +0.20]``, followed by ``~`` if the interval includes 0."""
        if not math.isfinite(self.mean):
            return "n/a"
        mean, low, high = (number(metric, value, sign=True) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{' ~' if self.low <= 0 <= self.high else ''}"


def paired_bootstrap(one: Sequence[float], other: Sequence[float], seed: int = 0) -> Interval:
    """Return the mean of ``one - other``, score by score, and its 95 % percentile interval over resampled files.

    Files are drawn with replacement, both scores of a file together, so that a hard file counts against neither (Efron
    and Tibshirani 1993, ch. 13; Bisani and Ney 2004). Pairs with a score that is not finite are left out.
    """
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        return Interval(math.nan, math.nan, math.nan, n)
    rng = np.random.default_rng(seed)
    rows = max(1, AT_ONCE // n)
    means = []
    for first in range(0, RESAMPLES, rows):
        drawn = rng.integers(n, size=(min(rows, RESAMPLES - first), n))
        means.append(differences[drawn].mean(1))
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Interval(float(differences.mean()), float(low), float(high), n)


def compare(one: Scores, other: Scores) -> dict[str, Interval]:
    """Return the :func:`paired_bootstrap` of PESQ, STOI and SI-SDR over the files that both were scored on."""
    files = sorted(set(one) & set(other))
    intervals = {}
    for metric in MAIN_METRICS:
        mine, theirs = ([side[file].get(metric, math.nan) for file in files] for side in (one, other))
        intervals[metric] = paired_bootstrap(mine, theirs)
    return intervals


def read_scores(folder: Path) -> Scores:
    """Read the scores of the enhanced files from ``scores.csv`` of a run; empty if it is missing or damaged."""
    prefix = "enhanced_"
    scores = {}
    try:
        lines = filesystem.read_text(folder / CSV).splitlines()
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            values = {key.removeprefix(prefix): float(row[key]) for key in row if key.startswith(prefix)}
            scores[row["name"]] = values
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return {}
    return scores


def of_configuration(configuration: Configuration) -> Scores:
    """Return the :func:`average` of the test scores of a configuration's runs."""
    # A run that was resumed without a test still has the scores of its earlier end.
    return average([read_scores(Path(run["folder"])) for run in configuration.runs if run.get("test")])


def average(runs: Sequence[Scores]) -> Scores:
    """Average each metric of each file that all runs with scores have, over the runs where it is defined."""
    runs = [run for run in runs if run]
    means: Scores = {}
    for file in sorted(set.intersection(*map(set, runs))) if runs else ():
        means[file] = {m: SeedStatistics.of([run[file].get(m) for run in runs]).mean for m in runs[0][file]}
    return means
