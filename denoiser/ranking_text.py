"""A ranking in words: for a terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoiser.audio import replacing
from denoiser.configuration import (
    SHARED,
    Configuration,
    Record,
    Spread,
    amount,
    heading,
    last_line,
    mean_of_test,
    validated,
)
from denoiser.metrics import METRICS
from denoiser.ranking import Ranking, order
from denoiser.report import table

WIDTH = 120  # columns of a terminal
LONGEST = 24  # characters of a value in it
SOURCE = "paired bootstrap over files, Efron and Tibshirani 1993, Bisani and Ney 2004"
HOW = (
    "The validation files chose the checkpoints and the order; the test files only report. ± is the standard deviation "
    "over seeds; a row of one seed (n 1) has none."
)


@dataclass(frozen=True)
class Column:
    """A number of each run; ``key`` in the CSV, ``short`` in the terminal, ``long`` where there is room."""

    key: str
    short: str
    long: str
    value: Callable[[Record], Any]
    text: Callable[[Spread], str]

    def of(self, configuration: Configuration) -> str:
        spread = configuration.spread(self.value)
        return f"{self.text(spread)}{f' (n {spread.n})' if 0 < spread.n < configuration.n else ''}"


def duration(seconds: float) -> str:
    """``4 min 53 s``, without what is too small to count."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cost(key: str, short: str, long: str, show: Callable[[float], str]) -> Column:
    def text(spread: Spread) -> str:
        return show(spread.mean) if spread.n else "n/a"

    return Column(key, short, long, lambda run: run.get(key), text)


COSTS = [
    _cost("parameters", "params", "parameters", lambda v: f"{v / 1e6:.2f} M" if v >= 1e5 else f"{v / 1e3:.1f} k"),
    _cost("macs_per_second", "GMAC/s", "GMAC per second of audio", lambda v: f"{v / 1e9:.3g}"),
    _cost("fit_seconds", "training", "training time", duration),
    _cost("audio_seconds_per_second", "audio-s/s", "training speed, audio-s/s", lambda v: f"{v:.3g}"),
    _cost("real_time_factor", "RTF", "real-time factor", lambda v: f"{v:.2g}"),
]


def scores(ranking: Ranking, part: str, names: Sequence[str] | None = None) -> list[Column]:
    """Columns of the ``val`` or ``test`` metrics; of the former, what is monitored first."""
    names = [f"{part}/{name}" for name in names or ranking.metrics]
    if part == "val" and ranking.monitor not in names:
        names.insert(0, ranking.monitor)
    return [
        Column(
            name.replace("/", "_"), heading(name), heading(name).replace("val ", "validation "),
            validated(name) if part == "val" else mean_of_test(name[5:]),
            lambda spread, name=name: spread_text(name, spread),  # type: ignore[misc]
        )
        for name in names
    ]  # fmt: skip


def terminal(ranking: Ranking) -> str:
    """The table for 120 columns, and what has to be known with it."""
    parts = [*map(_wrap, [*summary(ranking), *(f"Note: {note}." for note in ranking.notes)]), ""]
    if ranking.configurations:
        pesq = ranking.monitor == "val/pesq" or not any(
            c.spread(mean_of_test("si_sdr")).n for c in ranking.configurations
        )
        monitored = [c for c in scores(ranking, "val", SHARED) if pesq or c.key == ranking.monitor.replace("/", "_")]
        costs, rows = list(COSTS), []
        for dropped in (None, "audio_seconds_per_second", "real_time_factor", "fit_seconds", "parameters"):
            costs = [c for c in costs if c.key != dropped]
            rows = _rows(ranking, [*costs, *monitored, *scores(ranking, "test", SHARED)])
            if max(map(len, table(rows[0], rows[1:]).splitlines())) <= WIDTH:
                break
        parts += [table(rows[0], rows[1:]), "", _wrap(HOW)]
        if missing := [c.short for c in COSTS if c not in costs]:
            parts.append(f"Not shown for want of width: {', '.join(missing)}; the files have all columns.")
    parts += compared(ranking)
    if ranking.unranked:
        parts += ["", f"Not ranked ({len(ranking.unranked)}):"]
        parts += [f"  {name}: {reason(run)} ({run['folder']})" for run, name in ranking.unranked]
    return "\n".join(parts)


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def place_of(ranking: Ranking, configuration: Configuration) -> str:
    """``2``, or ``B2`` where not all were scored alike."""
    return f"{configuration.alike}{configuration.place}" if ranking.letters else str(configuration.place)


def _rows(ranking: Ranking, columns: Sequence[Column], long: bool = False) -> list[list[str]]:
    """Heading, a row a configuration, and one of the noisy files."""
    names = ranking.columns
    rows = [["#", *(names or ["configuration"]), "n", *(c.long if long else c.short for c in columns)]]
    for configuration in ranking.configurations:
        place = place_of(ranking, configuration)
        values = list(configuration.values.values()) or [configuration.label]
        if not long:
            values = [v if len(v) <= LONGEST else f"{v[: LONGEST - 1]}…" for v in values]
        rows.append([place, *values, str(configuration.n), *(c.of(configuration) for c in columns)])
    best = ranking.configurations[0]
    if best.spread(mean_of_test("si_sdr", "noisy")).n:
        noisy = [
            amount(c.key[5:], best.spread(mean_of_test(c.key[5:], "noisy")).mean) if c.key.startswith("test_") else ""
            for c in columns
        ]
        rows.append(["", "noisy", *[""] * (len(rows[0]) - 2 - len(columns)), *noisy])
    return rows


def compared(ranking: Ranking) -> list[str]:
    """The reference against others over the test files, as lines."""
    reference = ranking.reference
    if reference is None or not ranking.intervals:
        return []
    shown = [m for m in SHARED if any(i[m].n for i in ranking.intervals.values())]
    if not shown:
        return ["", "No per-file test scores to compare (scores.csv of the runs)."]
    what = "best by validation" if reference is ranking.best else "as asked"
    if len(ranking.intervals) == 1:
        ((label, intervals),) = ranking.intervals.items()
        first = f"{reference.label} ({what}) against {label}, test files, 95 % interval ({SOURCE}):"
        return ["", _wrap(first), *(f"  {intervals[m].words(m)}" for m in shown), *_caution()]
    rows = [
        [label, str(max(i[m].n for m in shown)), *(i[m].text(m) for m in shown)]
        for label, i in ranking.intervals.items()
    ]
    lines = table([f"{reference.label} minus ...", "files", *(METRICS[m].heading for m in shown)], rows)
    first = f"{reference.label} ({what}) minus each other one, test files: mean difference [95 % interval] ({SOURCE}):"
    return ["", _wrap(first), lines, "~ the interval holds 0: not distinguishable.", *_caution()]


def _caution() -> list[str]:
    return ["The interval is over files, seeds averaged per file; another seed adds to it. Nothing is chosen by it."]


def write(ranking: Ranking, stem: Path) -> list[Path]:
    """``ranking.csv`` and ``ranking.md``; returns their paths."""
    paths = [stem.with_suffix(".csv"), stem.with_suffix(".md")]
    with replacing(paths[0]) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_csv(ranking))
    with replacing(paths[1]) as partial:
        partial.write_text(markdown(ranking), encoding="utf-8")
    return paths


def _csv(ranking: Ranking) -> list[list[Any]]:
    """A row a configuration, mean and standard deviation of each number; then a row for each run not ranked."""
    columns = [*COSTS, *scores(ranking, "val"), *scores(ranking, "test")] if ranking.configurations else []
    rows: list[list[Any]] = [
        ["place", "scored_alike", "configuration", *ranking.columns, "status", "reason", "n", "seeds"]
    ]
    rows[0] += [f"{c.key}_{kind}" for c in columns for kind in ("mean", "std")] + ["best_run", "runs"]
    for c in ranking.configurations:
        row = [c.place, c.alike, c.label, *c.values.values(), "finished", "", c.n]
        row.append(" ".join(str(run.get("seed")) for run in c.runs))
        for column in columns:
            spread = c.spread(column.value)
            row += ["" if math.isnan(value) else f"{value:.8g}" for value in (spread.mean, spread.std)]
        rows.append([*row, c.runs[0]["folder"], " ".join(run["folder"] for run in c.runs)])
    for run, name in ranking.unranked:
        row = ["", "", name, *[""] * len(ranking.columns), run.get("status"), last_line(run.get("reason") or ""), 0]
        rows.append([*row, run.get("seed", ""), *[""] * (2 * len(columns) + 1), run["folder"]])
    return rows


def markdown(ranking: Ranking) -> str:
    """Summary, table, comparison and what was not ranked, as GitHub shows it."""
    lines = [*(f"- {line}" for line in summary(ranking)), *(f"- Note: {_escape(note)}." for note in ranking.notes), ""]
    if ranking.configurations:
        lines += [*_table(_rows(ranking, [*COSTS, *scores(ranking, "val"), *scores(ranking, "test")], long=True)), ""]
        lines += [HOW, ""]
    reference = ranking.reference
    if reference is not None and ranking.intervals:
        shown = [m for m in SHARED if any(i[m].n for i in ranking.intervals.values())]
        rows = [
            [label, str(max(i[m].n for m in shown)), *(i[m].text(m) for m in shown)]
            for label, i in ranking.intervals.items()
            if shown
        ]
        if rows:
            head = [f"{reference.label} minus", "files", *(METRICS[m].heading for m in shown)]
            lines += [f"Differences on the test files, mean [95 % interval] ({SOURCE}); ~ holds 0:", ""]
            lines += [*_table([head, *rows]), "", *_caution(), ""]
    if ranking.unranked:
        lines += ["Not ranked:", ""]
        lines += [f"- {_escape(name)}: {_escape(reason(run))} (`{run['folder']}`)" for run, name in ranking.unranked]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    # Text to the left, numbers to the right: the first cell decides, of a row that has them all.
    lines = ["| " + " | ".join(map(_escape, row)) + " |" for row in rows]
    right = [cell[:1].isdigit() or cell[:1] in "+-" or cell == "n/a" for cell in rows[min(1, len(rows) - 1)]]
    return [lines[0], "|" + "|".join("---:" if r else "---" for r in right) + "|", *lines[1:]]


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("~", "\\~")


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
    """The best of those that cost half or less; else the best of those that cost less."""
    known = [c for c in ranking.comparable() if c is not best and ranking.cost(c) < ranking.cost(best)]
    known = [c for c in known if math.isfinite(ranking.quality(c).mean)]
    if not known:
        others = len(ranking.comparable()) > 1 and math.isfinite(ranking.cost(best))
        return "None of the others needs less computation (MACs/s)." if others else ""
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
    return f"{status}: {last_line(why or 'no reason was recorded')}"
