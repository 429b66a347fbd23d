"""A ranking in words: for a terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import table
from denoiser.filesystem import atomic_write
from denoiser.ranking.configuration import (
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
from denoiser.ranking.rank import Ranking
from denoiser.ranking.summary import duration, reason, spread_text, summary

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


# What a narrow terminal goes without, the first first; never without what it costs to run.
DROPPED = ("audio_seconds_per_second", "real_time_factor", "fit_seconds", "parameters")


def scores(ranking: Ranking, part: str, names: Sequence[str] | None = None) -> list[Column]:
    """Columns of the ``val`` or ``test`` metrics; of the former, what is monitored first."""
    if part == "test" and not any(run.get("test") for c in ranking.configurations for run in c.runs):
        return []
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
        rows, missing = _fitting(ranking)
        parts += [table(rows[0], rows[1:]), "", _wrap(f"{HOW} SI-SDR and SSNR are in dB.")]
        if missing:
            parts.append(_wrap(f"Not shown for want of width: {', '.join(missing)}; the files have all columns."))
    parts += compared(ranking)
    if ranking.unranked:
        parts += ["", f"Not ranked ({len(ranking.unranked)}):"]
        parts += [f"  {name}: {reason(run)} ({run['folder']})" for run, name in ranking.unranked]
    return "\n".join(parts)


def _fitting(ranking: Ranking) -> tuple[list[list[str]], list[str]]:
    """As many columns as a terminal has room for, and the headings of the others."""
    test = scores(ranking, "test", SHARED)
    # PESQ with the other two: those of the test, or of the validation where that is all there is, or by PESQ.
    wanted = SHARED if not test or ranking.monitor == "val/pesq" else [ranking.monitor[4:]]
    validation = [c for c in scores(ranking, "val", SHARED) if c.key[4:] in (*wanted, ranking.monitor[4:])]
    costs, names = list(COSTS), list(ranking.columns)
    missing: list[str] = []
    while True:
        rows = _rows(ranking, [*costs, *validation, *test], names)
        if max(map(len, table(rows[0], rows[1:]).splitlines())) <= WIDTH or len(names) + len(costs) <= 2:
            return rows, missing
        if len(costs) > 1:  # all but what it costs to run
            drop = next(c for key in DROPPED for c in costs if c.key == key)
            costs.remove(drop)
            missing.append(drop.short)
        else:
            missing.append(names.pop())


def _wrap(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def cut(text: str, length: int = LONGEST) -> str:
    """At most ``length`` characters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def place_of(ranking: Ranking, configuration: Configuration) -> str:
    """``2``, or ``B2`` where not all were scored alike."""
    return f"{configuration.alike}{configuration.place}" if ranking.letters else str(configuration.place)


def _rows(ranking: Ranking, columns: Sequence[Column], names: Sequence[str], long: bool = False) -> list[list[str]]:
    """Heading, a row a configuration with what it has in the columns ``names``, and one of the noisy files."""
    rows = [
        ["#", *(names or ["configuration"]), "n", *(c.long if long else c.short.removesuffix(" dB") for c in columns)]
    ]
    for configuration in ranking.configurations:
        place = place_of(ranking, configuration)
        values = [configuration.values[name] for name in names] or [configuration.label]
        values = values if long else [cut(value) for value in values]
        cells = [c.of(configuration) for c in columns]
        rows.append([place, *values, str(configuration.n), *(cells if long else [c.replace(" ", "") for c in cells])])
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
        return ["", _wrap(first), *(f"  {intervals[m].words(m)}" for m in shown), *caution()]
    rows = [
        [cut(label, 40), str(max(i[m].n for m in shown)), *(i[m].text(m) for m in shown)]
        for label, i in ranking.intervals.items()
    ]
    lines = table([f"{cut(reference.label, 30)} minus ...", "files", *(METRICS[m].heading for m in shown)], rows)
    first = f"{reference.label} ({what}) minus each other one, test files: mean difference [95 % interval] ({SOURCE}):"
    return ["", _wrap(first), lines, "~ the interval holds 0: not distinguishable.", *caution()]


def caution() -> list[str]:
    """What an interval over files leaves out."""
    return ["The interval is over files, seeds averaged per file; another seed adds to it. Nothing is chosen by it."]


def write(ranking: Ranking, stem: Path) -> list[Path]:
    """``ranking.csv`` and ``ranking.md``; returns their paths."""
    paths = [stem.with_suffix(".csv"), stem.with_suffix(".md")]
    with (
        atomic_write(paths[0]) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        csv.writer(file).writerows(_csv(ranking))
    with atomic_write(paths[1]) as partial:
        partial.write_text(markdown(ranking), encoding="utf-8", errors="backslashreplace")
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
    lines = [*(f"- {line}" for line in summary(ranking)), *(f"- Note: {escape(note)}." for note in ranking.notes), ""]
    if ranking.configurations:
        lines += [
            *markdown_table(
                _rows(ranking, [*COSTS, *scores(ranking, "val"), *scores(ranking, "test")], ranking.columns, True)
            ),
            "",
        ]
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
            lines += [*markdown_table([head, *rows]), "", *caution(), ""]
    if ranking.unranked:
        lines += ["Not ranked:", ""]
        lines += [f"- {escape(name)}: {escape(reason(run))} (`{run['folder']}`)" for run, name in ranking.unranked]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first its heading."""
    # Text to the left, numbers to the right: the first cell decides, of a row that has them all.
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    right = [cell[:1].isdigit() or cell[:1] in "+-" or cell == "n/a" for cell in rows[min(1, len(rows) - 1)]]
    return [lines[0], "|" + "|".join("---:" if r else "---" for r in right) + "|", *lines[1:]]


def escape(text: str) -> str:
    """As Markdown shows it literally."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("~", "\\~")
