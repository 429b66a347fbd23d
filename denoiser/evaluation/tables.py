"""Tables of scores: as text, as ``scores.csv`` and as ``scores.json``."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from denoiser.evaluation import metrics
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import atomic_write

KINDS = ("noisy", "enhanced")
# Facts that a row may have about its file, with their headings.
FACTS = {"noise_type": "noise type", "snr_db": "SNR dB", "speaker": "speaker"}
MAX_GROUPS = 20  # a breakdown into more shows nothing
SHOWN = 6  # metrics in a breakdown: more are wider than a terminal
PACKAGES = ("denoiser", "torch", "torchaudio", "pytorch-lightning", "numpy", "scipy", "pesq", "pystoi")
Row = dict[str, Any]  # {"name": ..., "noisy": {metric: value}, "enhanced": {metric: value}, and any of FACTS}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return columns of plain text: the first aligned left, the others right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    lines = []
    for first, *others in (header, rule, *rows):
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; columns whose first row is a number are aligned to the right."""
    rule = ["---:" if re.match(r"[-+\d]|n/a", cell) else "---" for cell in (rows or [header])[0]]
    first, *others = (f"| {' | '.join(map(escaped, row))} |" for row in (header, *rows))
    return "\n".join([first, f"|{'|'.join(rule)}|", *others])


def escaped(text: str) -> str:
    """Escape the characters that end a cell of a Markdown table, begin a tag or strike text through."""
    return re.sub(r"([|~])", r"\\\1", text.replace("<", "&lt;"))


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Return ``{"n": files, "noisy": {metric: mean}, "enhanced": {...}, "undefined": {metric: files left out}}``.

    A metric that is undefined on one side of a file counts on neither, so both means are over the same files.
    """
    names = list(rows[0]["enhanced"]) if rows else []
    means: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    undefined = {}
    for name in names:
        defined = [row for row in rows if all(math.isfinite(row[kind][name]) for kind in KINDS)]
        for kind in KINDS:
            means[kind][name] = metrics.mean([{name: row[kind][name]} for row in defined]).get(name, math.nan)
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
    """Return the means of noisy, enhanced and their difference as text, then a breakdown by each group."""
    names = list(summary["noisy"])
    headings = [METRICS[name].heading for name in names]
    noisy, enhanced = summary["noisy"], summary["enhanced"]
    lines = [
        ["noisy", *(number(name, noisy[name]) for name in names)],
        ["enhanced", *(number(name, enhanced[name]) for name in names)],
        ["difference", *(number(name, enhanced[name] - noisy[name], sign=True) for name in names)],
    ]
    text = table([f"mean of {summary['n']} files", *headings], lines)
    for name, count in summary["undefined"].items():
        why = "silent, too short or no speech found"
        if metrics.missing_package(name):
            why = 'install it by: pip install "denoiser[metrics]"'
        text += f"\n{METRICS[name].heading}: not defined for {count} of {summary['n']} files ({why})"
    for fact, members in summary.get("groups", {}).items():
        lines = []
        for value, group in members.items():
            cells = [f"{number(m, group['noisy'][m])} -> {number(m, group['enhanced'][m])}" for m in names[:SHOWN]]
            lines.append([value, str(group["n"]), *cells])
        text += "\n\n" + table([f"by {FACTS[fact]}", "n", *headings[:SHOWN]], lines)
    return text


def write_scores(rows: Sequence[Row], folder: Path, **facts: Any) -> dict[str, Any]:
    """Write ``scores.csv`` and ``scores.json``; return the summary with the ``groups``.

    The CSV begins with lines of ``#``: the definition of each metric and the versions of the packages. Then comes a
    row per file: its name, its facts, metrics of noisy and enhanced (``pandas.read_csv(..., comment="#")``). The JSON
    holds the means, the groups, definitions, versions and ``facts``; an undefined value is null.
    """
    summary = {**summarise(rows), "groups": groups(rows)}
    names = list(summary["noisy"])
    definitions = {name: METRICS[name].definition for name in names}
    _write_csv(folder / "scores.csv", rows, definitions)
    content = {**summary, "definitions": definitions, "versions": versions(), **facts}
    # Python writes NaN, which JSON does not have.
    content = json.loads(json.dumps(content), parse_constant=lambda _: None)
    with atomic_write(folder / "scores.json") as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")
    return summary


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
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def number(metric: str, value: float, sign: bool = False) -> str:
    """Return a value with the digits of its metric, or ``n/a``."""
    if not math.isfinite(value):
        return "n/a"
    digits = METRICS[metric].digits
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Format seconds as ``4 min 53 s`` or ``2 h 10 min``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
