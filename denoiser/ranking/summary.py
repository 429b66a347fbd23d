"""What a ranking says in plain words, and how its values are written."""

from __future__ import annotations

import math

from denoiser.evaluation.metrics import METRICS
from denoiser.ranking.configuration import (
    SHARED,
    Configuration,
    Record,
    Spread,
    amount,
    heading,
    last_line,
    mean_of_test,
)
from denoiser.ranking.rank import Ranking, order


def summary(ranking: Ranking) -> list[str]:
    """What the table says, in plain words."""
    if not (best := ranking.best):
        return ["No run has finished, so there is nothing to rank."]
    value, seeds = spread_text(ranking.monitor, ranking.quality(best)), f"{best.n} seed{'s' if best.n > 1 else ''}"
    lines = [f"Best by validation: {best.label}, {phrase(ranking.monitor, value)} ({seeds})."]
    if any(best.spread(mean_of_test(m)).n for m in SHARED):
        after, before = (
            ", ".join(phrase(m, amount(m, best.spread(mean_of_test(m, kind)).mean)) for m in SHARED)
            for kind in ("enhanced", "noisy")
        )
        lines[0] += f" On the test files: {after}; the noisy files have {before}."
        means = {m: [best.spread(mean_of_test(m, kind)).mean for kind in ("enhanced", "noisy")] for m in SHARED}
        if worse := [METRICS[m].heading.removesuffix(" dB") for m, (one, other) in means.items() if one < other]:
            lines[0] += f" It makes them worse in {' and '.join(worse)}."
    lines.append(_cheaper(ranking, best))
    chance, count = ranking.chance()
    if count:
        lines.append(
            f"Another seed alone changes {phrase(ranking.monitor, 'by about ±' + amount(ranking.monitor, chance))} "
            f"(standard deviation over the seeds of {count} configuration{'s' if count > 1 else ''}): smaller "
            "differences decide nothing."
        )
    else:
        lines.append(
            "Every configuration ran with one seed: nothing here says how much another seed would change the order."
        )
    return [line for line in lines if line]


def _cheaper(ranking: Ranking, best: Configuration) -> str:
    """The best of those that cost half or less; else the best of those that cost a fifth less, at least."""
    known = [c for c in ranking.comparable() if c is not best and ranking.cost(c) <= 0.8 * ranking.cost(best)]
    known = [c for c in known if math.isfinite(ranking.quality(c).mean)]
    if not known:
        others = len(ranking.comparable()) > 1 and math.isfinite(ranking.cost(best))
        return "None of the others needs much less computation (MACs/s)." if others else ""
    half = [c for c in known if ranking.cost(c) <= ranking.cost(best) / 2]
    other = min(half or known, key=lambda c: order(ranking, ranking.quality(c)))
    loss, chance = ranking.gain(best, other), ranking.chance()[0]
    share = f"{100 * ranking.cost(other) / ranking.cost(best):.0f} %"
    way = "lower" if ranking.mode == "max" else "higher"
    line = (
        f"At {share} of its computation (MACs/s): {other.label}, "
        f"{phrase(ranking.monitor, f'{way} by {amount(ranking.monitor, loss)}')}"
    )
    if not math.isfinite(chance):
        return f"{line}."
    if loss <= chance:
        return f"{line}: no more than seeds differ by."
    return f"{line}, {loss / chance:.1f} times what seeds differ by."


def phrase(name: str, text: str) -> str:
    """``val/si_sdr``, ``13.03`` → ``val SI-SDR 13.03 dB``."""
    title = heading(name)
    return f"{title[:-3]} {text} dB" if title.endswith(" dB") else f"{title} {text}"


def spread_text(name: str, spread: Spread) -> str:
    """``12.99 ± 0.12``; without ± for one seed."""
    text = amount(name, spread.mean)
    return f"{text} ± {amount(name, spread.std)}" if spread.n > 1 else text


def reason(run: Record) -> str:
    """``diverged: the loss became NaN at step 40``."""
    status, why = run.get("status"), run.get("reason")
    if status == "running" and not why:
        why = f"since {run.get('started')}; killed, if nothing runs there"
    why = last_line(why or "no reason was recorded")
    return str(status) if why == status else f"{status}: {why}"


def duration(seconds: float) -> str:
    """``4 min 53 s``, without what is too small to count."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
