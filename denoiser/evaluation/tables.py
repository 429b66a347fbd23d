"""What a run shows: tables, score files, figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoiser.evaluation import metrics
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import atomic_write

if TYPE_CHECKING:
    pass

FACTS = {"noise_type": "noise type", "snr_db": "SNR dB", "speaker": "speaker"}  # what a row may know of its file
MAX_GROUPS = 20  # a breakdown into more shows nothing
SHOWN = 6  # metrics in a breakdown, the first: more are wider than a terminal
Row = dict[str, Any]  # {"name": ..., "noisy": {metric: value}, "enhanced": {metric: value}, and any of FACTS}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text columns: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (header, ["-" * w for w in widths], *rows)
    ]
    return "\n".join(lines)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """``{"n": files, "noisy": {metric: mean}, "enhanced": {...}, "undefined": {metric: files left out}}``."""
    names = list(rows[0]["enhanced"]) if rows else []
    undefined = {m: sum(not math.isfinite(r["noisy"][m] + r["enhanced"][m]) for r in rows) for m in names}
    # A file where a metric is undefined on one side counts on neither: both means are over the same files.
    kept = [
        {
            kind: {m: r[kind][m] if math.isfinite(r["noisy"][m] + r["enhanced"][m]) else math.nan for m in names}
            for kind in ("noisy", "enhanced")
        }
        for r in rows
    ]
    means = {kind: metrics.mean([r[kind] for r in kept]) for kind in ("noisy", "enhanced")}
    return {"n": len(rows), **means, "undefined": {m: n for m, n in undefined.items() if n}}


def groups(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The summary of each noise type, SNR and speaker: ``{fact: {value: summary}}``.

    For each fact that has 2 to 20 values; files of which it is not known are the last group, ``unknown``.
    """
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        values = sorted({row[fact] for row in rows if row.get(fact) is not None})
        if 2 <= len(values) <= MAX_GROUPS:
            members = {_text(value): [row for row in rows if row.get(fact) == value] for value in values}
            members["unknown"] = [row for row in rows if row.get(fact) is None]
            found[fact] = {name: summarise(group) for name, group in members.items() if group}
    return found


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def scores_table(summary: Mapping[str, Any]) -> str:
    """Noisy, enhanced and their difference, means over files; then, of the first six metrics, both by each group."""
    names = list(summary["noisy"])
    headings = [METRICS[m].heading for m in names]
    noisy, enhanced = summary["noisy"], summary["enhanced"]
    lines = [
        ["noisy", *(number(m, noisy[m]) for m in names)],
        ["enhanced", *(number(m, enhanced[m]) for m in names)],
        ["difference", *(number(m, enhanced[m] - noisy[m], sign=True) for m in names)],
    ]
    text = table([f"mean of {summary['n']} files", *headings], lines)
    for metric, count in summary["undefined"].items():
        missing = metrics.missing_package(metric)
        why = "silent, too short or no speech found"
        if missing:
            why = f'install it by: pip install "denoiser[metrics]" ({missing})'
        text += f"\n{METRICS[metric].heading}: not defined for {count} of {summary['n']} files ({why})"
    for fact, members in summary.get("groups", {}).items():
        lines = []
        for name, s in members.items():
            cells = [f"{number(m, s['noisy'][m])} -> {number(m, s['enhanced'][m])}" for m in names[:SHOWN]]
            lines.append([name, str(s["n"]), *cells])
        text += "\n\n" + table([f"by {FACTS[fact]}", "n", *headings[:SHOWN]], lines)
    return text


def write_scores(rows: Sequence[Row], folder: Path, **facts: Any) -> dict[str, Any]:
    """Write ``scores.csv`` and ``scores.json``; returns the summary, with the ``groups``.

    The CSV begins with lines of ``#``: the definition of each metric and the versions of the packages. Then a row
    per file: its name, what is known of it, metrics of noisy and enhanced (``pandas.read_csv(..., comment="#")``).
    The JSON holds the means, the groups, definitions, versions and ``facts``; what is not defined is null.
    """
    summary = {**summarise(rows), "groups": groups(rows)}
    names = list(summary["noisy"])
    known = [fact for fact in FACTS if any(row.get(fact) is not None for row in rows)]
    definitions = {name: METRICS[name].definition for name in names}
    with atomic_write(folder / "scores.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        for name, definition in definitions.items():
            file.write(f"# {name}: {definition}\n")
        file.write(f"# {', '.join(f'{package} {release}' for package, release in versions().items())}\n")
        plain, quoted = (csv.writer(file, quoting=q) for q in (csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC))
        plain.writerow(["name", *known, *(f"{kind}_{m}" for kind in ("noisy", "enhanced") for m in names)])
        for row in rows:
            cells = [row["name"], *(_text(row[f]) if row.get(f) is not None else "" for f in known)]
            scores = [f"{row[kind][m]:.6g}" for kind in ("noisy", "enhanced") for m in names]
            # A '#' is part of a name only where that is quoted.
            (quoted if any("#" in cell for cell in cells) else plain).writerow([*cells, *scores])
    content = {**summary, "definitions": definitions, "versions": versions(), **facts}
    with atomic_write(folder / "scores.json") as partial:
        text = json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None), indent=2)
        partial.write_text(text + "\n")
    return summary


def versions() -> dict[str, str]:
    """Of the packages that decide a number."""
    found = {}
    for package in ("denoiser", "torch", "torchaudio", "pytorch-lightning", "numpy", "scipy", "pesq", "pystoi"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def number(metric: str, value: float, sign: bool = False) -> str:
    if not math.isfinite(value):
        return "n/a"
    digits = METRICS[metric].digits
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
