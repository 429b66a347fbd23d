"""Tables of a ranking: for a terminal, as Markdown and as CSV."""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import escaped, markdown_table, table
from denoiser.filesystem import atomic_write
from denoiser.ranking.configuration import MAIN_METRICS
from denoiser.ranking.format import COSTS, amount, cell, heading, reason
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
Lines = list[list[str]]


def all_names(ranking: Ranking) -> list[str]:
    """Return the names of what is monitored, the costs, and every metric of validation and test."""
    parts = ["val", "test"] if ranking.tested else ["val"]
    scores = [f"{part}/{metric}" for part in parts for metric in ranking.metrics]
    return list(dict.fromkeys([ranking.monitor, *COSTS, *scores]))


def rows(ranking: Ranking, names: Sequence[str], settings: bool = True) -> Lines:
    """Return the headings, a row for each configuration and, after a test, one for the noisy files.

    A row has place, settings, n, the values of ``names`` and, if there are any, the notes. The label stands for the
    settings where they are not wanted, or all configurations have the same.
    """
    columns = ranking.columns if settings else []
    heads = ["#", *(columns or ["configuration"])]
    lines = [[*heads, "n", *map(heading, names), "note"]]
    for c in ranking.configurations:
        words = c.values.values() if columns else [c.label]
        lines.append([str(c.place), *words, str(c.n), *(cell(c, name) for name in names), c.note])
    if ranking.tested:
        best = ranking.configurations[0]
        noisy = {name: best.over_seeds(name.replace("test/", "noisy/")).mean for name in names}
        cells = [amount(name, noisy[name]) if name.startswith("test/") else "" for name in names]
        lines.append(["", "noisy", *[""] * (len(heads) - 1), *cells, ""])
    return lines if any(c.note for c in ranking.configurations) else [line[:-1] for line in lines]


def difference_rows(ranking: Ranking) -> Lines:
    """Return headings and a row for each configuration that the reference is compared with; empty without scores."""
    shown = [m for m in MAIN_METRICS if any(intervals[m].n for intervals in ranking.intervals.values())]
    if ranking.reference is None or not shown:
        return []
    lines = [[f"{ranking.reference.label} minus", "files", *(METRICS[m].heading for m in shown)]]
    for label, intervals in ranking.intervals.items():
        files = max(intervals[m].n for m in shown)
        lines.append([label, str(files), *(intervals[m].text(m) for m in shown)])
    return lines


def terminal(ranking: Ranking) -> str:
    """Return the summary and the most important columns, for a terminal."""
    # The three metrics together: of the test, or of validation where there is no test.
    part = "test" if ranking.tested else "val"
    names = dict.fromkeys(["macs_per_second", ranking.monitor, *(f"{part}/{metric}" for metric in MAIN_METRICS)])
    return _report(ranking, rows(ranking, list(names), settings=False), table, str)


def write_markdown(ranking: Ranking, path: Path) -> Path:
    """Write the summary and all columns as Markdown."""
    text = _report(ranking, rows(ranking, all_names(ranking)), markdown_table, escaped)
    with atomic_write(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def _report(
    ranking: Ranking, lines: Lines, show: Callable[[list[str], Lines], str], escape: Callable[[str], str]
) -> str:
    sentences = [*summary(ranking), *(f"Note: {note}." for note in ranking.notes)]
    paragraphs = ["\n".join(f"- {escape(sentence)}" for sentence in sentences)]
    if ranking.configurations:
        paragraphs += [show(lines[0], lines[1:]), EXPLANATION]
    if differences := difference_rows(ranking):
        paragraphs += [show(differences[0], differences[1:]), escape(BOOTSTRAP)]
    if ranking.unranked:
        failures = [f"- {escape(f'{name}: {reason(run)}')} ({run['folder']})" for run, name in ranking.unranked]
        paragraphs.append("\n".join(["Not ranked:", "", *failures]))
    return "\n\n".join(paragraphs)


def write_csv(ranking: Ranking, path: Path) -> Path:
    """Write a row for each configuration, with mean and standard deviation of each value, and for each other run."""
    names = all_names(ranking)
    keys = [f"{name.replace('/', '_')}_{kind}" for name in names for kind in ("mean", "std")]
    head = ["place", "configuration", *ranking.columns, "status", "reason", "note", "n", "seeds", "best_run", "runs"]
    with (
        atomic_write(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, [*head, *keys])
        writer.writeheader()
        for c in ranking.configurations:
            row = {
                "place": c.place, "configuration": c.label, **c.values, "status": "finished", "note": c.note, "n": c.n,
                "seeds": " ".join(str(run.get("seed")) for run in c.runs),
                "best_run": c.runs[0]["folder"], "runs": " ".join(run["folder"] for run in c.runs),
            }  # fmt: skip
            found = [c.over_seeds(name) for name in names]
            numbers = [number for statistics in found for number in (statistics.mean, statistics.std)]
            texts = ["" if math.isnan(number) else f"{number:.8g}" for number in numbers]
            writer.writerow({**row, **dict(zip(keys, texts, strict=True))})
        for run, name in ranking.unranked:
            why = " ".join(str(run.get("reason") or "").split())
            writer.writerow(
                {"configuration": name, "status": run["status"], "reason": why, "n": 0, "runs": run["folder"]}
            )
    return path
