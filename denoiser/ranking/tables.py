"""Report of a ranking: sentences and tables, as Markdown and as CSV."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import escaped, number, table
from denoiser.ranking.configuration import MAIN_METRICS, Configuration, Record
from denoiser.ranking.ranking import Ranking

EXPLANATION = (
    "The validation files chose the checkpoints and the order; the test files only report. ± is the standard deviation "
    "over seeds (n)."
)
BOOTSTRAP = (
    "Mean [95 % interval] over test files, by the paired bootstrap (Efron and Tibshirani 1993, Bisani and Ney 2004); "
    "~: it includes 0, the two cannot be told apart. Seeds are averaged per file; another seed adds to the interval."
)
# Headings, units and definitions of what a run cost.
COSTS = {
    "parameters": ("M parameters", 1e6, "weights of the network, millions"),
    "macs_per_second": ("GMAC/s", 1e9, "billions of multiply-accumulates for one second of audio"),
    "audio_hours": ("audio h", 1, "hours of audio that the training saw"),
    "fit_seconds": ("training min", 60, "minutes of training, mean over seeds"),
    "audio_seconds_per_second": ("audio-s/s", 1, "seconds of training audio per second"),
    "real_time_factor": ("RTF", 1, "seconds of computing per second of audio; below 1 is faster than real time"),
}
Lines = list[list[str]]


def heading(name: str) -> str:
    """Return a column heading: ``val/si_sdr`` → ``val SI-SDR dB``, ``val/loss`` → ``val loss``."""
    if name in COSTS:
        return COSTS[name][0]
    part, _, metric = name.rpartition("/")
    return f"{part} {METRICS[metric].heading if metric in METRICS else metric}".strip()


def amount(name: str, value: float) -> str:
    """Format a value with its usual number of digits."""
    metric = name.rpartition("/")[2]
    if metric in METRICS:
        return number(metric, value)
    unit = COSTS[name][1] if name in COSTS else 1
    return f"{value / unit:.4g}" if math.isfinite(value) else "n/a"


def cell(configuration: Configuration, name: str) -> str:
    """Format a mean over seeds, ± its standard deviation unless it is a cost; n if not defined for all seeds."""
    statistics = configuration.over_seeds(name)
    text = amount(name, statistics.mean)
    if statistics.n > 1 and name not in COSTS:
        text += f" ± {amount(name, statistics.std)}"
    return f"{text} (n {statistics.n})" if 0 < statistics.n < len(configuration.runs) else text


def reason(run: Record) -> str:
    """Say why a run is not ranked: ``diverged: the loss became NaN at step 40``."""
    why = run.get("reason") or f"no reason was recorded; started {run.get('started')}"
    return f"{run['status']}: {' '.join(str(why).split())}"


def main_names(ranking: Ranking) -> list[str]:
    """Return the names of the most important columns: PESQ, STOI and SI-SDR together, of the test if there is one."""
    part = "test" if ranking.tested else "val"
    return list(dict.fromkeys(["macs_per_second", ranking.monitor, *(f"{part}/{metric}" for metric in MAIN_METRICS)]))


def all_names(ranking: Ranking) -> list[str]:
    """Return the names of what is monitored, the costs, and every metric of validation and test."""
    parts = ["val", "test"] if ranking.tested else ["val"]
    scores = [f"{part}/{metric}" for part in parts for metric in ranking.metrics]
    return list(dict.fromkeys([ranking.monitor, *COSTS, *scores]))


def rows(ranking: Ranking, names: Sequence[str]) -> Lines:
    """Return headings, then place, label, n, values and note of each configuration, and a row of the noisy files."""
    lines = [["#", "configuration", "n", *map(heading, names), "note"]]
    for c in ranking.configurations:
        lines.append([str(c.place), c.label, str(len(c.runs)), *(cell(c, name) for name in names), c.note])
    if ranking.tested:
        best = ranking.configurations[0]
        noisy = {name: best.over_seeds(name.replace("test/", "noisy/")).mean for name in names}
        cells = [amount(name, noisy[name]) if name.startswith("test/") else "" for name in names]
        lines.append(["", "noisy", "", *cells, ""])
    return lines if any(c.note for c in ranking.configurations) else [line[:-1] for line in lines]


def difference_rows(ranking: Ranking) -> Lines:
    """Return headings and a row for each configuration compared with the reference; empty without scores."""
    if not any(interval.n for intervals in ranking.intervals.values() for interval in intervals.values()):
        return []
    lines = [[f"minus {ranking.reference}", "files", *(METRICS[m].heading for m in MAIN_METRICS)]]
    for label, intervals in ranking.intervals.items():
        files = max(interval.n for interval in intervals.values())
        lines.append([label, str(files), *(interval.text(m) for m, interval in intervals.items())])
    return lines


def summary(ranking: Ranking) -> list[str]:
    """Return sentences about the best configuration and the effect of another seed."""
    if not ranking.configurations:
        return ["No run has finished, so there is nothing to rank."]
    best = min(ranking.configurations, key=lambda c: c.place)
    score = f"{heading(ranking.monitor)} {cell(best, ranking.monitor)}"
    return [f"Best by validation: {best.label}, {score} (n {len(best.runs)}).", _effect_of_the_seed(ranking)]


def _effect_of_the_seed(ranking: Ranking) -> str:
    """Say how much another seed changes the monitored value: its standard deviation, pooled over configurations."""
    several = [s for c in ranking.comparable if (s := c.over_seeds(ranking.monitor)).n > 1]
    if not several:
        return "Every configuration ran with one seed: the effect of another seed on this order is not known."
    variance = sum((s.n - 1) * s.std**2 for s in several) / sum(s.n - 1 for s in several)
    change = f"{heading(ranking.monitor)} by about ±{amount(ranking.monitor, math.sqrt(variance))}"
    known = f"standard deviation over seeds, of {len(several)} of {len(ranking.configurations)} configurations"
    return f"Another seed alone changes {change} ({known}): smaller differences decide nothing."


def report(ranking: Ranking, names: Sequence[str]) -> str:
    """Return the summary, the table of these names, the differences and the failures as Markdown."""
    sentences = [*summary(ranking), *(f"Note: {note}." for note in ranking.notes)]
    paragraphs = ["\n".join(f"- {escaped(sentence)}" for sentence in sentences)]
    if ranking.configurations:
        head, *lines = rows(ranking, names)
        paragraphs += [table(head, lines), EXPLANATION]
    if differences := difference_rows(ranking):
        paragraphs += [table(differences[0], differences[1:]), BOOTSTRAP]
    if ranking.unranked:
        failures = [f"- {escaped(f'{name}: {reason(run)}')} ({run['folder']})" for run, name in ranking.unranked]
        paragraphs += ["Not ranked:", "\n".join(failures)]
    return "\n\n".join(paragraphs)


def csv_text(ranking: Ranking) -> str:
    """Return a row for each configuration, with mean and standard deviation of each value, and for each other run."""
    rows: list[dict[str, Any]] = []
    for c in ranking.configurations:
        row = {"place": c.place, "configuration": c.label, **c.values, "status": "finished", "reason": ""}
        row |= {"note": c.note, "n": len(c.runs), "seeds": " ".join(str(run.get("seed")) for run in c.runs)}
        row |= {"best_run": c.runs[0]["folder"], "runs": " ".join(run["folder"] for run in c.runs)}
        for name in all_names(ranking):
            statistics = c.over_seeds(name)
            for kind, value in (("mean", statistics.mean), ("std", statistics.std)):
                row[f"{name.replace('/', '_')}_{kind}"] = "" if math.isnan(value) else f"{value:.8g}"
        rows.append(row)
    for run, name in ranking.unranked:
        why = " ".join(str(run.get("reason") or "").split())
        rows.append({"configuration": name, "status": run["status"], "reason": why, "n": 0, "runs": run["folder"]})
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
