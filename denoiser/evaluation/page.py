"""A page to look at and listen to: one HTML file that holds all it shows and opens from disk, with no network."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from torch import Tensor

from denoiser import figures
from denoiser.audio import Reader, mp3
from denoiser.evaluation import tables
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import atomic_write

EXCERPT = 30.0  # seconds of a file that its players and picture hold: half a megabyte of MP3
LISTENED = 50  # files, the worst, that have players and a picture; the table has all


@dataclass
class Entry:
    """A file before and after; ``scores`` are ``{"noisy": {metric: value}, "enhanced": {...}}``, or nothing."""

    source: Path
    target: Path
    seconds: float
    gain: float = 1.0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)


def write_page(path: Path, entries: Sequence[Entry], settings: str = "", failures: Sequence[str] = ()) -> None:
    """Write the page: a table that sorts, and for each file two players, waveforms, spectrograms; the worst first.

    The worst is the one of the lowest score after (of the first metric), or where nothing was scored, the one most was
    taken from. Players hold the first 30 s as MP3 and each file is linked. Raises DenoiserError where it cannot.
    """
    names = next((list(entry.scores["enhanced"]) for entry in entries if entry.scores), [])
    rows = [_row(entry, names, path.parent) for entry in entries]
    if names:
        rows.sort(key=lambda row: _last_if_undefined(_score(row["entry"], "enhanced", names[0])))
        order = f"Sorted by {METRICS[names[0]].heading} after, the worst first; a click on a heading sorts by it."
    else:
        rows.sort(key=lambda row: -row["removed"])
        order = "Sorted by how much was taken away, the most first; a click on a heading sorts by it."
    for row in rows[:LISTENED]:
        _listen(row)
    headings = ["file", "seconds", "removed dB", *(METRICS[name].heading for name in names)]
    render(
        path, "page.html",
        title=f"denoiser: {len(rows)} file{'' if len(rows) == 1 else 's'}, before and after",
        settings=settings, failures=failures, headings=headings, entries=rows, order=order,
        means=_means(entries, names),
    )  # fmt: skip


def render(path: Path, template: str, **values: Any) -> None:
    """Write what a template of this package, which extends ``base.html``, makes of ``values``; all are escaped."""
    from jinja2 import Environment, PackageLoader  # comes with torch

    environment = Environment(loader=PackageLoader("denoiser", ""), autoescape=True, trim_blocks=True)
    text = environment.get_template(template).render(**values)
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def base64_of(content: bytes) -> str:
    """For a ``data:`` address."""
    return base64.b64encode(content).decode()


def _row(entry: Entry, names: Sequence[str], folder: Path) -> dict[str, Any]:
    before, _, rate, energies = _excerpts(entry)
    removed = 10 * math.log10(max(energies[0], 1e-12) / max(energies[1], 1e-12))
    cells = [(entry.seconds, f"{entry.seconds:.1f}"), (removed, f"{removed:.1f}")]
    cells += [(_score(entry, "enhanced", name), _change(name, entry)) for name in names]
    facts = f"{entry.seconds:.1f} s at {rate} Hz, {len(before)} channel{'' if len(before) == 1 else 's'}"
    if entry.gain != 1:
        facts += f", turned {'down' if entry.gain < 1 else 'up'} by {abs(20 * math.log10(entry.gain)):.1f} dB"
    return {
        "entry": entry,
        "name": os.path.relpath(entry.target, folder),
        "cells": [{"value": value, "text": text} for value, text in cells],
        "facts": facts,
        "link": quote(os.path.relpath(entry.target, folder).replace(os.sep, "/")),
        "removed": removed,
    }


def _excerpts(entry: Entry) -> tuple[Tensor, Tensor, int, list[float]]:
    waveforms, energies = [], []
    for path in (entry.source, entry.target):
        with Reader(path) as reader:
            rate = reader.info.sample_rate
            waveforms.append(reader.read(round(EXCERPT * rate)))
            energies.append(float(waveforms[-1].square().mean()) if waveforms[-1].numel() else 0.0)
    return waveforms[0], waveforms[1], rate, energies


def _listen(row: dict[str, Any]) -> None:
    before, after, rate, _ = _excerpts(row["entry"])
    row["sounds"] = {kind: base64_of(mp3(sound, rate)) for kind, sound in (("before", before), ("after", after))}
    picture = io.BytesIO()
    figures.figure({"before": before, "after": after}, rate).savefig(picture, format="webp", dpi=80)
    row["picture"] = base64_of(picture.getvalue())


def _means(entries: Sequence[Entry], names: Sequence[str]) -> list[str]:
    if not names:
        return []
    scored = [entry for entry in entries if entry.scores]
    summary = tables.summarise([{"name": entry.source.name, **entry.scores} for entry in scored])
    mean = Entry(Path(), Path(), sum(e.seconds for e in scored) / len(scored), scores=summary)
    return [f"{mean.seconds:.1f}", "", *(_change(name, mean) for name in names)]


def _score(entry: Entry, kind: str, name: str) -> float:
    return entry.scores[kind][name] if entry.scores else math.nan


def _change(name: str, entry: Entry) -> str:
    before, after = (tables.number(name, _score(entry, kind, name)) for kind in ("noisy", "enhanced"))
    return f"{before} → {after}"


def _last_if_undefined(value: float) -> float:
    return value if math.isfinite(value) else math.inf
