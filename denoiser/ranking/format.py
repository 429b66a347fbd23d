"""Text for the values of a ranking: metrics with their units, spreads over seeds, durations, reasons."""

from __future__ import annotations

import math
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import number
from denoiser.ranking.configuration import Record, SeedStatistics


def heading(name: str) -> str:
    """Return a column heading: ``val/si_sdr`` → ``val SI-SDR dB``, ``val/loss`` → ``val loss``."""
    part, _, metric = name.rpartition("/")
    return f"{part} {METRICS[metric].heading if metric in METRICS else metric}".strip()


def amount(name: str, value: float, sign: bool = False) -> str:
    """Format a value of a metric, or of the loss, with its usual number of digits."""
    metric = name.rpartition("/")[2]
    if metric in METRICS:
        return number(metric, value, sign)
    if not math.isfinite(value):
        return "n/a"
    return f"{value:+.4g}" if sign else f"{value:.4g}"


def named(name: str, text: str) -> str:
    """Put a metric's heading before a value and its unit after it: ``val SI-SDR 13.03 dB``."""
    title = heading(name)
    if title.endswith(" dB"):
        return f"{title.removesuffix(' dB')} {text} dB"
    return f"{title} {text}"


def over_seeds(name: str, statistics: SeedStatistics) -> str:
    """Format a mean over seeds and its standard deviation: ``12.99 ± 0.12``; without ± for a single seed."""
    text = amount(name, statistics.mean)
    return f"{text} ± {amount(name, statistics.std)}" if statistics.n > 1 else text


def count(number: int, noun: str) -> str:
    """Format a number of things: ``1 run``, ``2 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Format seconds as ``12.3 s``, ``4 min 53 s`` or ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def one_line(text: Any) -> str:
    """Collapse all white space, so that a text takes one line."""
    return " ".join(str(text).split())


def reason(run: Record) -> str:
    """Say why a run is not ranked: ``diverged: the loss became NaN at step 40``."""
    status, why = run.get("status"), run.get("reason")
    if status == "running" and not why:
        why = f"since {run.get('started')}; killed, if nothing runs there"
    return f"{status}: {one_line(why or 'no reason was recorded')}"
