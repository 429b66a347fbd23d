"""Tables of scores: as Markdown, as ``scores.csv`` and as ``scores.json``."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from denoiser.evaluation import metrics
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import atomic_write, write_text

CSV, JSON = "scores.csv", "scores.json"
KINDS = ("noisy", "enhanced")
FACTS = {"noise_type": "noise type", "snr_db": "SNR dB", "speaker": "speaker"}  # of a file, with their headings
MAX_GROUPS = 20  # a breakdown into more shows nothing
MAX_FILES = 20  # in a table for the terminal
SHOWN = 6  # metrics in a breakdown: more are wider than a terminal
PACKAGES = ("denoiser", "torch", "torchaudio", "pytorch-lightning", "numpy", "scipy", "pesq", "pystoi", "speechmos")
Row = dict[str, Any]  # {"name": ..., "noisy": {metric: value}, "enhanced": {metric: value}, and any of FACTS}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, aligned for a terminal; a column whose first row is a number stands to the right."""
    sides = [">" if re.match(r"[-+\d]|n/a", cell) else "<" for cell in (rows or [header])[0]]
    lines = [[escaped(cell) for cell in line] for line in (header, *rows)]
    widths = [max(2, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * width for width in widths]
    lines.insert(1, [f"{dashes[1:]}:" if side == ">" else dashes for dashes, side in zip(rule, sides, strict=True)])
    text = []
    for line in lines:
        cells = [f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def escaped(text: str) -> str:
    """Escape the characters that end a cell of a Markdown table or begin a tag."""
    return re.sub(r"([|<])", r"\\\1", text)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Return ``{"n": files, "noisy": {metric: mean}, "enhanced": {...}, "undefined": {metric: files left out}}``.

    A metric that is undefined on one side of a file counts on neither, so both means are over the same files.
    """
    means: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    undefined = {}
    for name in rows[0]["enhanced"] if rows else ():
        defined = [row for row in rows if all(math.isfinite(row[kind][name]) for kind in KINDS)]
        for kind in KINDS:
            means[kind][name] = metrics.average([row[kind][name] for row in defined])
        if len(defined) < len(rows):
            undefined[name] = len(rows) - len(defined)
    return {"n": len(rows), **means, "undefined": undefined}


def groups(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Return the summary of each noise type, SNR and speaker: ``{fact: {value: summary}}``.

    Facts with 2 to 20 values are listed; files without the fact are the last group, ``unknown``.
    """
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        values = sorted({row[fact] for row in rows if row.get(fact) is not None})
        if 2 <= len(values) <= MAX_GROUPS:
            names = {value: f"{value:g}" if isinstance(value, float) else value for value in values}
            members = {name: [row for row in rows if row.get(fact) == value] for value, name in names.items()}
            members["unknown"] = [row for row in rows if row.get(fact) is None]
            found[fact] = {name: summarise(group) for name, group in members.items() if group}
    return found


def scores_table(summary: Mapping[str, Any]) -> str:
    """Return tables of the means of noisy, enhanced and their difference, then of each group."""
    names = list(summary["noisy"])
    headings = [METRICS[name].heading for name in names]
    noisy, enhanced = summary["noisy"], summary["enhanced"]
    lines = [[kind, *(number(name, summary[kind][name]) for name in names)] for kind in KINDS]
    lines.append(["difference", *(number(name, enhanced[name] - noisy[name], sign=True) for name in names)])
    text = table([f"mean of {summary['n']} files", *headings], lines)
    for name, count in summary["undefined"].items():
        why = "its package is missing" if metrics.missing_package(name) else "silent, too short or no speech found"
        text += f"\n\n{METRICS[name].heading}: not defined for {count} of {summary['n']} files ({why})"
    for fact, members in summary.get("groups", {}).items():
        lines = []
        for value, group in members.items():
            cells = [f"{number(m, group['noisy'][m])} -> {number(m, group['enhanced'][m])}" for m in names[:SHOWN]]
            lines.append([value, str(group["n"]), *cells])
        text += "\n\n" + table([f"by {FACTS[fact]}", "n", *headings[:SHOWN]], lines)
    return text


def files_table(rows: Sequence[Row]) -> str:
    """Return a table of the metrics of each file, before -> after; of the first 20 if there are more."""
    names = list(rows[0]["noisy"])
    lines = []
    for row in rows[:MAX_FILES]:
        cells = [f"{number(name, row['noisy'][name])} -> {number(name, row['enhanced'][name])}" for name in names]
        lines.append([row["name"], *cells])
    text = table(["file", *(METRICS[name].heading for name in names)], lines)
    return text if len(rows) <= MAX_FILES else f"{text}\n\n{len(rows) - MAX_FILES} more files are in scores.csv"


def write_scores(rows: Sequence[Row], folder: Path, **facts: Any) -> dict[str, Any]:
    """Write ``scores.csv`` and ``scores.json``; return the summary with the ``groups``.

    The CSV has lines of ``#`` with definitions and versions, then a row per file: its name, its facts, its metrics
    (``pandas.read_csv(..., comment="#")``). The JSON holds the summary, definitions, versions and ``facts``; an
    undefined value is null.
    """
    summary = {**summarise(rows), "groups": groups(rows)}
    definitions = {name: METRICS[name].definition for name in summary["noisy"]}
    _write_csv(folder / CSV, rows, definitions)
    content = {**summary, "definitions": definitions, "versions": versions(), **facts}
    # Python writes NaN, which JSON does not have.
    content = json.loads(json.dumps(content), parse_constant=lambda _: None)
    write_text(folder / JSON, json.dumps(content, indent=2) + "\n")
    return summary


def delete_scores(folder: Path) -> None:
    """Delete what :func:`write_scores` wrote to a folder, if anything."""
    for name in (CSV, JSON):
        (folder / name).unlink(missing_ok=True)


def _write_csv(path: Path, rows: Sequence[Row], definitions: Mapping[str, str]) -> None:
    known = [fact for fact in FACTS if any(row.get(fact) is not None for row in rows)]
    columns = [(kind, name) for kind in KINDS for name in definitions]
    with atomic_write(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        for name, definition in definitions.items():
            file.write(f"# {name}: {definition}\n")
        file.write(f"# {', '.join(f'{package} {release}' for package, release in versions().items())}\n")
        # Texts are quoted: in a name without quotes, a '#' would begin a comment.
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(["name", *known, *(f"{kind}_{name}" for kind, name in columns)])
        for row in rows:
            scores = [float(f"{row[kind][name]:.6g}") for kind, name in columns]
            writer.writerow([row["name"], *(row.get(fact) for fact in known), *scores])


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide a number."""
    found = dict.fromkeys(PACKAGES, "not installed")
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def number(metric: str, value: float, sign: bool = False) -> str:
    """Return a value with the digits of its metric, or ``n/a``."""
    plus = "+" if sign else ""
    return f"{value:{plus}.{METRICS[metric].digits}f}" if math.isfinite(value) else "n/a"
