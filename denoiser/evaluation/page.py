"""Report of a folder: one HTML file with players and pictures that opens from disk, without a network."""

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from denoiser import figures
from denoiser.audio import mp3, probe
from denoiser.evaluation import tables
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import write_text

Files = tuple[Path, Path]  # a noisy one and its enhanced version
EXCERPT = 30.0  # seconds of a file in its players and picture: half a megabyte of MP3
LISTENED = 50  # files, the worst, that have players and a picture; the table has all


def write_page(
    path: Path,
    gains: Mapping[Files, float],
    scores: Mapping[Files, tables.Row],
    settings: str = "",
    failures: Sequence[str] = (),
) -> None:
    """Write the page: a table that sorts and, for each file, two players and spectrograms; the worst file first.

    ``gains`` has a factor for each (source, target) pair, ``scores`` a row for some of them. The worst file has the
    lowest first metric after enhancement; without scores, the most energy removed. Players hold the first 30 s as MP3.
    Raises DenoiserError if a file or figure cannot be made.
    """
    names = next((list(row["enhanced"]) for row in scores.values()), [])
    unknown = {kind: dict.fromkeys(names, math.nan) for kind in tables.KINDS}
    entries = [_entry(job, gain, scores.get(job, unknown), path.parent) for job, gain in gains.items()]
    # NaN comes last.
    entries = [entries[index] for index in np.argsort([entry["order"] for entry in entries], kind="stable")]
    for entry in entries[:LISTENED]:
        entry.update(_players_and_picture(entry["job"]))
    render(
        path,
        "evaluation/page.html",
        title="denoiser: files before and after",
        settings=settings,
        failures=failures,
        headings=["file", "seconds", "removed dB", *(METRICS[name].heading for name in names)],
        entries=entries,
        order=f"{METRICS[names[0]].heading} after, the worst first" if names else "removed dB, the most first",
    )


def render(path: Path, template: str, **values: Any) -> None:
    """Write a template of this package, which extends ``evaluation/base.html``, with ``values``, all escaped."""
    # Comes with torch. Imported here, as most commands that score write no page.
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("denoiser", ""), autoescape=True, trim_blocks=True)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    write_text(path, environment.get_template(template).render(**values))


def _entry(job: Files, gain: float, scores: tables.Row, folder: Path) -> dict[str, Any]:
    before, after, rate = figures.beginnings(*job, EXCERPT)
    powers = [max(float(w.square().mean()), 1e-12) if w.numel() else 1e-12 for w in (before, after)]
    removed = 10 * math.log10(powers[0] / powers[1])
    seconds = probe(job[1]).seconds
    cells = [(seconds, f"{seconds:.1f}"), (removed, f"{removed:.1f}")]
    for name, value in scores["enhanced"].items():
        cells.append((value, f"{tables.number(name, scores['noisy'][name])} → {tables.number(name, value)}"))
    facts = f"{seconds:.1f} s at {rate} Hz, channels: {len(before)}"
    if gain != 1:
        facts += f", gain {20 * math.log10(gain):+.1f} dB"
    name = os.path.relpath(job[1], folder)
    link = quote(name.replace(os.sep, "/"))
    order = next(iter(scores["enhanced"].values()), -removed)
    return {"job": job, "name": name, "cells": cells, "facts": facts, "link": link, "order": order}


def _players_and_picture(job: Files) -> dict[str, Any]:
    before, after, rate = figures.beginnings(*job, EXCERPT)
    waveforms = {"before": before, "after": after}
    picture = io.BytesIO()
    figures.figure(waveforms, rate).savefig(picture, format="webp", dpi=80)
    return {"sounds": {kind: mp3(sound, rate) for kind, sound in waveforms.items()}, "picture": picture.getvalue()}
