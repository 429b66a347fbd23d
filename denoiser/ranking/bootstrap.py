"""Whether one system is better than another on the same files: the paired bootstrap."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denoiser import filesystem
from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import FACTS, number

RESAMPLES = 10_000
LEVEL = 0.95
Scores = dict[str, dict[str, float]]  # {file: {metric: value}}


@dataclass(frozen=True)
class Interval:
    """A mean difference over ``n`` files and its interval; ``nan`` where fewer than two files tell it."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def holds_zero(self) -> bool:
        """Whether the two are not distinguishable, also because nothing is known."""
        return not (self.low > 0 or self.high < 0)

    def text(self, metric: str) -> str:
        """``+0.12 [+0.05, +0.20]``, and a ``~`` where it holds 0."""
        mean, low, high = (number(metric, value, sign=True) for value in (self.mean, self.low, self.high))
        return f"{mean} [{low}, {high}]{' ~' if self.holds_zero else ''}" if math.isfinite(self.mean) else "n/a"

    def words(self, metric: str) -> str:
        """``better by 0.12 [0.05, 0.20] PESQ over 24 files``."""
        heading = METRICS[metric].heading
        if not math.isfinite(self.mean):
            return f"{heading}: too few files that both were scored on"
        if self.holds_zero:
            return f"not distinguishable in {heading}: {self.text(metric)[:-2]} over {self.n} files"
        better = (self.mean > 0) == METRICS[metric].higher_is_better
        sign = 1 if self.mean > 0 else -1
        ends = sorted((sign * self.low, sign * self.high))
        mean, low, high = (number(metric, value) for value in (sign * self.mean, *ends))
        return f"{'better' if better else 'worse'} by {mean} [{low}, {high}] {heading} over {self.n} files"


def paired_bootstrap(
    one: Sequence[float], other: Sequence[float], resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """The mean of ``one - other``, score by score, and its percentile interval over resampled files.

    Files are drawn with replacement, both systems' scores of a file together, so that what is hard in a file counts for
    neither (Efron and Tibshirani 1993, ch. 13; for the comparison of two speech systems Bisani and Ney 2004). Pairs of
    which one is not finite are left out. The same ``seed`` gives the same interval.
    """
    differences = np.asarray(one, np.float64) - np.asarray(other, np.float64)
    differences = differences[np.isfinite(differences)]
    n = len(differences)
    if n < 2:
        return Interval(math.nan, math.nan, math.nan, n)
    rng = np.random.default_rng(seed)
    rows = max(1, 1_000_000 // n)  # at once: 8 MB
    means = np.concatenate(
        [
            differences[rng.integers(n, size=(min(rows, resamples - first), n))].mean(1)
            for first in range(0, resamples, rows)
        ]
    )
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail])
    return Interval(float(differences.mean()), float(low), float(high), n)


def compare(one: Scores, other: Scores, metrics: Sequence[str]) -> dict[str, Interval]:
    """The :func:`paired_bootstrap` of each metric over the files that both were scored on."""
    files = sorted(set(one) & set(other))

    def values(side: Scores, metric: str) -> list[float]:
        return [side[file].get(metric, math.nan) for file in files]

    return {metric: paired_bootstrap(values(one, metric), values(other, metric)) for metric in metrics}


def read_scores(folder: Path, kind: str = "enhanced") -> tuple[Scores, dict[str, dict[str, str]]]:
    """A run's ``scores.csv``: of the ``enhanced`` or ``noisy`` files ``{file: {metric: value}}``, and what is known.

    Both are empty where there is none, or it is damaged.
    """
    try:
        text = filesystem.read_text(folder / "scores.csv")
        rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
        scores = {
            row["name"]: {k.removeprefix(f"{kind}_"): float(v) for k, v in row.items() if k.startswith(f"{kind}_")}
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error):
        return {}, {}
    return scores, {row["name"]: {fact: row[fact] for fact in FACTS if row.get(fact)} for row in rows}


def average(runs: Sequence[Scores]) -> Scores:
    """Of each file that all of these runs have, the mean of each metric over the runs where it is defined."""
    if not runs:
        return {}
    files = set(runs[0]).intersection(*runs[1:])
    return {file: _means([run[file] for run in runs]) for file in sorted(files)}


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found = {}
    for metric in rows[0]:
        values = [row[metric] for row in rows if math.isfinite(row.get(metric, math.nan))]
        found[metric] = math.fsum(values) / len(values) if values else math.nan
    return found
