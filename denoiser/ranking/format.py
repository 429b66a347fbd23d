"""Text for the values of a ranking: their headings, units and digits."""

import math

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import duration, number
from denoiser.ranking.configuration import Configuration, Record

# Names, headings and definitions of what a run cost.
COSTS = {
    "parameters": ("parameters", "weights of the network"),
    "macs_per_second": ("GMAC/s", "billions of multiply-accumulates for one second of audio"),
    "fit_seconds": ("training", "wall-clock time of training, mean over seeds"),
    "audio_seconds_per_second": ("audio-s/s", "seconds of training audio per second"),
    "real_time_factor": (
        "RTF", "real-time factor: seconds of computing per second of audio; below 1 is faster than real time",
    ),
}  # fmt: skip


def heading(name: str) -> str:
    """Return a column heading: ``val/si_sdr`` → ``val SI-SDR dB``, ``val/loss`` → ``val loss``."""
    if name in COSTS:
        return COSTS[name][0]
    part, _, metric = name.rpartition("/")
    return f"{part} {METRICS[metric].heading if metric in METRICS else metric}".strip()


def amount(name: str, value: float, sign: bool = False) -> str:
    """Format a value with its usual number of digits."""
    metric = name.rpartition("/")[2]
    if metric in METRICS:
        return number(metric, value, sign)
    if not math.isfinite(value):
        return "n/a"
    if name == "parameters":
        return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value / 1e3:.1f} k"
    if name == "macs_per_second":
        return f"{value / 1e9:.3g}"
    if name == "fit_seconds":
        return duration(value)
    return f"{value:+.4g}" if sign else f"{value:.4g}"


def cell(configuration: Configuration, name: str) -> str:
    """Format a mean over seeds and its standard deviation, ``12.99 ± 0.12``; a cost or a single seed without ±.

    The number of seeds follows if the value is not defined for all of them.
    """
    statistics = configuration.over_seeds(name)
    text = amount(name, statistics.mean)
    if statistics.n > 1 and name not in COSTS:
        text += f" ± {amount(name, statistics.std)}"
    return f"{text} (n {statistics.n})" if 0 < statistics.n < configuration.n else text


def named(name: str, text: str) -> str:
    """Put a metric's heading before a value and its unit after it: ``val SI-SDR 13.03 dB``."""
    title = heading(name)
    bare = title.removesuffix(" dB")
    return f"{bare} {text}" if bare == title else f"{bare} {text} dB"


def count(number: int, noun: str) -> str:
    """Format a number of things: ``1 run``, ``2 runs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def reason(run: Record) -> str:
    """Say why a run is not ranked: ``diverged: the loss became NaN at step 40``."""
    status, why = run.get("status"), run.get("reason")
    if status == "running" and not why:
        why = f"since {run.get('started')}; killed, if nothing runs there"
    return f"{status}: {' '.join(str(why or 'no reason was recorded').split())}"
