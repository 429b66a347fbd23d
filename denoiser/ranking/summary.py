"""Sentences that say what a ranking shows."""

from __future__ import annotations

import math

from denoiser.evaluation.metrics import METRICS
from denoiser.ranking.configuration import MAIN_METRICS, Configuration, mean_test_value
from denoiser.ranking.format import amount, count, named, over_seeds
from denoiser.ranking.ranking import Ranking


def summary(ranking: Ranking) -> list[str]:
    """Return sentences about the best configuration, a cheaper one, and the effect of another seed."""
    best = ranking.best
    if best is None:
        return ["No run has finished, so there is nothing to rank."]
    return [_best(ranking, best), *_cheaper(ranking, best), seeds_sentence(ranking)]


def _best(ranking: Ranking, best: Configuration) -> str:
    value = named(ranking.monitor, over_seeds(ranking.monitor, ranking.quality(best)))
    line = f"Best by validation: {best.label}, {value} ({count(best.n, 'seed')})."
    means = {}
    for metric in MAIN_METRICS:
        means[metric] = [best.over_seeds(mean_test_value(metric, kind)).mean for kind in ("enhanced", "noisy")]
    if all(math.isnan(enhanced) for enhanced, _ in means.values()):
        return line
    after = ", ".join(named(m, amount(m, enhanced)) for m, (enhanced, _) in means.items())
    before = ", ".join(named(m, amount(m, noisy)) for m, (_, noisy) in means.items())
    line += f" On the test files: {after}; the noisy files have {before}."
    worse = [METRICS[m].heading.removesuffix(" dB") for m, (enhanced, noisy) in means.items() if enhanced < noisy]
    if worse:
        line += f" It makes them worse in {' and '.join(worse)}."
    return line


def _cheaper(ranking: Ranking, best: Configuration) -> list[str]:
    """Describe the best configuration that needs at most half of the computation."""
    others = [c for c in ranking.comparable if ranking.cost(c) <= ranking.cost(best) / 2]
    others = [c for c in others if math.isfinite(ranking.quality(c).mean)]
    if not others:
        return []
    other = min(others, key=ranking.order)
    share = 100 * ranking.cost(other) / ranking.cost(best)
    loss = abs(ranking.quality(best).mean - ranking.quality(other).mean)
    direction = "lower" if ranking.mode == "max" else "higher"
    difference = named(ranking.monitor, f"{direction} by {amount(ranking.monitor, loss)}")
    line = f"At {share:.0f} % of its computation (MACs/s): {other.label}, {difference}"
    deviation = ranking.seed_deviation().std
    if deviation > 0:
        line += f", {loss / deviation:.1f} times the standard deviation over seeds"
    return [f"{line}."]


def seeds_sentence(ranking: Ranking) -> str:
    """Say how much another seed alone changes the monitored value."""
    deviation = ranking.seed_deviation()
    if deviation.n == 0:
        return "Every configuration ran with one seed: the effect of another seed on this order is not known."
    change = named(ranking.monitor, f"by about ±{amount(ranking.monitor, deviation.std)}")
    where = count(deviation.n, "configuration")
    return (
        f"Another seed alone changes {change} (standard deviation over the seeds of {where}): "
        "smaller differences decide nothing."
    )
