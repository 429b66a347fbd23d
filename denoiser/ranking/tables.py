"""Tables of a ranking: for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import table
from denoiser.filesystem import atomic_write
from denoiser.ranking.configuration import (
    MAIN_METRICS,
    Configuration,
    Record,
    SeedStatistics,
    mean_test_value,
    validation_value,
)
from denoiser.ranking.format import amount, duration, heading, one_line, over_seeds, reason
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.summary import summary

EXPLANATION = (
    "The validation files chose the checkpoints and the order; the test files only report. ± is the standard deviation "
    "over seeds (n)."
)
BOOTSTRAP = (
    "Mean [95 % interval] over test files, by the paired bootstrap (Efron and Tibshirani 1993, Bisani and Ney 2004); "
    "~: it includes 0, the two cannot be told apart. Seeds are averaged per file; another seed adds to the interval."
)


@dataclass(frozen=True)
class Column:
    """A value of each run: its key in the CSV, its heading and its format elsewhere."""

    key: str
    heading: str
    value: Callable[[Record], Any]
    format: Callable[[SeedStatistics], str]

    def text(self, configuration: Configuration) -> str:
        """Return the cell of a configuration, with the number of seeds if the value is not defined for all."""
        statistics = configuration.over_seeds(self.value)
        partly = 0 < statistics.n < configuration.n
        return f"{self.format(statistics)}{f' (n {statistics.n})' if partly else ''}"


def _cost(key: str, heading: str, show: Callable[[float], str]) -> Column:
    def text(statistics: SeedStatistics) -> str:
        return show(statistics.mean) if statistics.n else "n/a"

    return Column(key, heading, lambda run: run.get(key), text)


PARAMETERS = _cost("parameters", "parameters", lambda v: f"{v / 1e6:.2f} M" if v >= 1e5 else f"{v / 1e3:.1f} k")
GMACS = _cost("macs_per_second", "GMAC/s", lambda v: f"{v / 1e9:.3g}")
TRAINING = _cost("fit_seconds", "training", duration)
SPEED = _cost("audio_seconds_per_second", "audio-s/s", lambda v: f"{v:.3g}")
REAL_TIME_FACTOR = _cost("real_time_factor", "RTF", lambda v: f"{v:.2g}")
COSTS = [PARAMETERS, GMACS, TRAINING, SPEED, REAL_TIME_FACTOR]


def score_column(name: str) -> Column:
    """Return the column of ``val/...`` or ``test/...``."""
    part, _, metric = name.partition("/")
    value = validation_value(name) if part == "val" else mean_test_value(metric)
    return Column(name.replace("/", "_"), heading(name), value, lambda statistics: over_seeds(name, statistics))


def all_columns(ranking: Ranking) -> list[Column]:
    """Return what is monitored, the costs, and every metric of validation and test."""
    parts = ["val"]
    if any(run.get("test") for c in ranking.configurations for run in c.runs):
        parts.append("test")
    names = [f"{part}/{metric}" for part in parts for metric in ranking.metrics]
    names = [name for name in names if name != ranking.monitor]
    return [score_column(ranking.monitor), *COSTS, *map(score_column, names)]


def rows(ranking: Ranking, columns: Sequence[Column], names: Sequence[str]) -> list[list[str]]:
    """Return the headings and a row for each configuration: place, its values of ``names``, n, columns, note.

    Without ``names`` a row begins with place and label in one cell.
    """
    noted = any(c.note for c in ranking.configurations)
    found = [[*(["#", *names] if names else ["#  configuration"]), "n", *(column.heading for column in columns)]]
    for c in ranking.configurations:
        beginning = [str(c.place), *(c.values[name] for name in names)] if names else [f"{c.place}  {c.label}"]
        found.append([*beginning, str(c.n), *(column.text(c) for column in columns)])
    if noted:
        for row, note in zip(found, ["note", *(c.note for c in ranking.configurations)], strict=True):
            row.append(note)
    return found


def noisy_row(ranking: Ranking, columns: Sequence[Column], names: Sequence[str]) -> list[str]:
    """Return the row of the noisy test files, or an empty list where there was no test."""
    cells = []
    for column in columns:
        part, _, metric = column.key.partition("_")
        statistics = ranking.configurations[0].over_seeds(mean_test_value(metric, "noisy"))
        cells.append(amount(metric, statistics.mean) if part == "test" and statistics.n else "")
    if not any(cells):
        return []
    beginning = ["", "noisy", *[""] * (len(names) - 1)] if names else ["   noisy"]
    note = [""] if any(c.note for c in ranking.configurations) else []
    return [*beginning, "", *cells, *note]


def difference_rows(ranking: Ranking) -> list[list[str]]:
    """Return headings and a row for each configuration that the reference is compared with; empty without scores."""
    shown = [m for m in MAIN_METRICS if any(intervals[m].n for intervals in ranking.intervals.values())]
    if ranking.reference is None or not shown:
        return []
    found = [[f"{ranking.reference.label} minus", "files", *(METRICS[m].heading for m in shown)]]
    for label, intervals in ranking.intervals.items():
        files = max(intervals[m].n for m in shown)
        found.append([label, str(files), *(intervals[m].text(m) for m in shown)])
    return found


def terminal(ranking: Ranking) -> str:
    """Return the summary and the most important columns, for a terminal."""
    # The three metrics together: of the test, or of validation where there is no test.
    names = dict.fromkeys([ranking.monitor, *(f"test/{metric}" for metric in MAIN_METRICS)])
    if not any(run.get("test") for c in ranking.configurations for run in c.runs):
        names = dict.fromkeys([ranking.monitor, *(f"val/{metric}" for metric in MAIN_METRICS)])
    columns = [GMACS, *map(score_column, names)]
    return _report(ranking, columns, [], lambda lines: table(lines[0], lines[1:]), lambda text: text)


def write_markdown(ranking: Ranking, path: Path) -> Path:
    """Write the summary and all columns as Markdown."""
    text = _report(ranking, all_columns(ranking), ranking.columns, markdown_table, escaped)
    with atomic_write(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def _report(
    ranking: Ranking,
    columns: Sequence[Column],
    names: Sequence[str],
    show: Callable[[list[list[str]]], str],
    escape: Callable[[str], str],
) -> str:
    sentences = [*summary(ranking), *(f"Note: {note}." for note in ranking.notes)]
    paragraphs = ["\n".join(f"- {escape(sentence)}" for sentence in sentences)]
    if ranking.configurations:
        noisy = noisy_row(ranking, columns, names)
        cells = rows(ranking, columns, names) + ([noisy] if noisy else [])
        paragraphs += [show(cells), EXPLANATION]
    if differences := difference_rows(ranking):
        paragraphs += [show(differences), escape(BOOTSTRAP)]
    if ranking.unranked:
        failures = [f"- {escape(f'{name}: {reason(run)}')} ({run['folder']})" for run, name in ranking.unranked]
        paragraphs.append("\n".join(["Not ranked:", "", *failures]))
    return "\n\n".join(paragraphs)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first line its heading; columns of numbers are aligned to the right."""
    numeric = [cell[:1].isdigit() or cell[:1] in ("+", "-") or cell == "n/a" for cell in lines[min(1, len(lines) - 1)]]
    rule = "|".join("---:" if right else "---" for right in numeric)
    body = [f"| {' | '.join(map(escaped, line))} |" for line in lines]
    return "\n".join([body[0], f"|{rule}|", *body[1:]])


def escaped(text: str) -> str:
    """Escape the characters that Markdown would take as markup in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("~", "\\~")


def write_csv(ranking: Ranking, path: Path) -> Path:
    """Write a row for each configuration, with mean and standard deviation of each value, and for each other run."""
    columns = all_columns(ranking) if ranking.configurations else []
    head = ["place", "configuration", *ranking.columns, "status", "reason", "note", "n", "seeds", "best_run", "runs"]
    statistics = [f"{column.key}_{kind}" for column in columns for kind in ("mean", "std")]
    with (
        atomic_write(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, [*head, *statistics])
        writer.writeheader()
        for c in ranking.configurations:
            row = {
                "place": c.place, "configuration": c.label, **c.values, "status": "finished", "note": c.note, "n": c.n,
                "seeds": " ".join(str(run.get("seed")) for run in c.runs),
                "best_run": c.runs[0]["folder"], "runs": " ".join(run["folder"] for run in c.runs),
            }  # fmt: skip
            for column in columns:
                found = c.over_seeds(column.value)
                row[f"{column.key}_mean"] = "" if math.isnan(found.mean) else f"{found.mean:.8g}"
                row[f"{column.key}_std"] = "" if math.isnan(found.std) else f"{found.std:.8g}"
            writer.writerow(row)
        for run, name in ranking.unranked:
            why = one_line(run.get("reason") or "")
            writer.writerow(
                {"configuration": name, "status": run["status"], "reason": why, "n": 0, "runs": run["folder"]}
            )
    return path
