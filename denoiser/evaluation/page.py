"""Report of a folder: one HTML file with players and pictures that opens from disk, without a network."""

import base64
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from torch import Tensor

from denoiser import figures
from denoiser.audio import Reader, mp3
from denoiser.evaluation import tables
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import atomic_write

EXCERPT = 30.0  # seconds of a file in its players and picture: half a megabyte of MP3
LISTENED = 50  # files, the worst, that have players and a picture; the table has all


@dataclass
class Entry:
    """A file before and after, and its scores if there are any."""

    source: Path
    target: Path
    seconds: float
    gain: float = 1.0
    scores: tables.Row | None = None

    def score(self, kind: str, name: str) -> float:
        """Return a metric of ``noisy`` or ``enhanced``; NaN without scores."""
        return float(self.scores[kind][name]) if self.scores else math.nan


def write_page(path: Path, entries: Sequence[Entry], settings: str = "", failures: Sequence[str] = ()) -> None:
    """Write the page: a table that sorts and, for each file, two players and spectrograms; the worst file first.

    The worst file has the lowest first metric after enhancement; without scores, the most energy removed. Players hold
    the first 30 s as MP3, and each file is linked. Raises DenoiserError if a file or figure cannot be made.
    """
    names = next((list(entry.scores["enhanced"]) for entry in entries if entry.scores), [])
    rows = [_row(entry, names, path.parent) for entry in entries]
    if names:
        worst = [entry.score("enhanced", names[0]) for entry in entries]
        order = f"Sorted by {METRICS[names[0]].heading} after, the worst first; a click on a heading sorts by it."
    else:
        worst = [-row["removed"] for row in rows]
        order = "Sorted by how much was taken away, the most first; a click on a heading sorts by it."
    # NaN comes last.
    rows = [rows[index] for index in np.argsort(worst, kind="stable")]
    for row in rows[:LISTENED]:
        row.update(_players_and_picture(row["entry"]))
    render(
        path,
        "evaluation/page.html",
        title=f"denoiser: {len(rows)} file{'' if len(rows) == 1 else 's'}, before and after",
        settings=settings,
        failures=failures,
        headings=["file", "seconds", "removed dB", *(METRICS[name].heading for name in names)],
        entries=rows,
        order=order,
    )


def render(path: Path, template: str, **values: Any) -> None:
    """Write a template of this package, which extends ``evaluation/base.html``, with ``values``, all escaped."""
    # Comes with torch.
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("denoiser", ""), autoescape=True, trim_blocks=True)
    text = environment.get_template(template).render(**values)
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def base64_of(content: bytes) -> str:
    """Return bytes as text for a ``data:`` address."""
    return base64.b64encode(content).decode()


def _row(entry: Entry, names: Sequence[str], folder: Path) -> dict[str, Any]:
    before, after, rate = _excerpts(entry)
    removed = 10 * math.log10(_power(before) / _power(after))
    cells = [(entry.seconds, f"{entry.seconds:.1f}"), (removed, f"{removed:.1f}")]
    cells += [(entry.score("enhanced", name), _change(name, entry)) for name in names]
    facts = f"{entry.seconds:.1f} s at {rate} Hz, channels: {len(before)}"
    if entry.gain != 1:
        facts += f", gain {20 * math.log10(entry.gain):+.1f} dB"
    name = os.path.relpath(entry.target, folder)
    return {
        "entry": entry,
        "name": name,
        "cells": cells,
        "facts": facts,
        "link": quote(name.replace(os.sep, "/")),
        "removed": removed,
    }


def _excerpts(entry: Entry) -> tuple[Tensor, Tensor, int]:
    """Return the beginnings of both files, ``[C, N]``, and their rate."""
    waveforms = []
    for path in (entry.source, entry.target):
        with Reader(path) as reader:
            rate = reader.info.sample_rate
            waveforms.append(reader.read(round(EXCERPT * rate)))
    before, after = waveforms
    return before, after, rate


def _power(waveform: Tensor) -> float:
    return max(float(waveform.square().mean()), 1e-12) if waveform.numel() else 1e-12


def _players_and_picture(entry: Entry) -> dict[str, Any]:
    before, after, rate = _excerpts(entry)
    waveforms = {"before": before, "after": after}
    picture = io.BytesIO()
    figures.figure(waveforms, rate).savefig(picture, format="webp", dpi=80)
    sounds = {kind: base64_of(mp3(sound, rate)) for kind, sound in waveforms.items()}
    return {"sounds": sounds, "picture": base64_of(picture.getvalue())}


def _change(name: str, entry: Entry) -> str:
    before, after = (tables.number(name, entry.score(kind, name)) for kind in ("noisy", "enhanced"))
    return f"{before} → {after}"
