"""Sentences that say what a ranking shows."""

import math

from denoiser.evaluation.metrics import METRICS
from denoiser.ranking.configuration import MAIN_METRICS, Configuration
from denoiser.ranking.format import amount, cell, count, named
from denoiser.ranking.ranking import Ranking


def summary(ranking: Ranking) -> list[str]:
    """Return sentences about the best configuration and the effect of another seed."""
    if not ranking.configurations:
        return ["No run has finished, so there is nothing to rank."]
    return [_best(ranking, ranking.configurations[0]), seeds_sentence(ranking)]


def _best(ranking: Ranking, best: Configuration) -> str:
    value = named(ranking.monitor, cell(best, ranking.monitor))
    line = f"Best by validation: {best.label}, {value} ({count(best.n, 'seed')})."
    enhanced = {m: best.over_seeds(f"test/{m}").mean for m in MAIN_METRICS}
    noisy = {m: best.over_seeds(f"noisy/{m}").mean for m in MAIN_METRICS}
    if all(map(math.isnan, enhanced.values())):
        return line
    after, before = (", ".join(named(m, amount(m, side[m])) for m in side) for side in (enhanced, noisy))
    line += f" On the test files: {after}; the noisy files have {before}."
    worse = [METRICS[m].heading.removesuffix(" dB") for m in MAIN_METRICS if enhanced[m] < noisy[m]]
    return f"{line} It makes them worse in {' and '.join(worse)}." if worse else line


def seeds_sentence(ranking: Ranking) -> str:
    """Say how much another seed alone changes the monitored value: the pooled standard deviation over seeds."""
    several = [s for c in ranking.comparable if (s := c.over_seeds(ranking.monitor)).n > 1]
    if not several:
        return "Every configuration ran with one seed: the effect of another seed on this order is not known."
    variance = sum((s.n - 1) * s.std**2 for s in several) / sum(s.n - 1 for s in several)
    change = named(ranking.monitor, f"by about ±{amount(ranking.monitor, math.sqrt(variance))}")
    where = count(len(several), "configuration")
    return (
        f"Another seed alone changes {change} (standard deviation over the seeds of {where}): "
        "smaller differences decide nothing."
    )
