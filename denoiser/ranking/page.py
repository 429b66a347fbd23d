"""A ranking as one HTML page that opens from disk without a network: tables, figures, sounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.page import base64_of, render
from denoiser.ranking import figures
from denoiser.ranking.configuration import Configuration
from denoiser.ranking.format import count, heading, reason
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.summary import summary
from denoiser.ranking.tables import BOOTSTRAP, EXPLANATION, all_columns, difference_rows, noisy_row, rows
from denoiser.training import clips

HEARD = 12  # configurations, the best, that have players
DEFINITIONS = {
    "parameters": "weights of the network",
    "GMAC/s": "billions of multiply-accumulates for one second of audio",
    "training": "wall-clock time of training, mean over seeds",
    "audio-s/s": "seconds of training audio per second",
    "RTF": "real-time factor: seconds of computing per second of audio; below 1 is faster than real time",
}


def write(ranking: Ranking, path: Path, sounds: bool = True) -> Path:
    """Write the page; without matplotlib it has no figures, and says so."""
    configurations = ranking.configurations
    runs = sum(c.n for c in configurations)
    drawn = figures.available() and ranking.best is not None
    curves = figures.learning_curves(ranking) if drawn else ""
    costs = figures.cost_figures(ranking) if drawn else []
    definitions = {METRICS[m].heading: METRICS[m].definition for m in ranking.metrics if m in METRICS}
    render(
        path,
        "ranking/ranking.html",
        title=f"denoiser: {count(len(configurations), 'configuration')}, {count(runs, 'run')}",
        summary=summary(ranking),
        notes=ranking.notes,
        monitor=heading(ranking.monitor),
        explanation=EXPLANATION,
        table=_table(ranking) if configurations else None,
        drawn=drawn,
        costs=[base64_of(svg.encode()) for svg in costs],
        curves=base64_of(curves.encode()),
        differences=difference_rows(ranking),
        bootstrap=BOOTSTRAP,
        clips=_clips(configurations[:HEARD]) if sounds else [],
        unranked=[(name, reason(run), run["folder"]) for run, name in ranking.unranked],
        definitions={**DEFINITIONS, **definitions},
    )
    return path


def _table(ranking: Ranking) -> dict[str, Any]:
    """Return the headings, the rows of cells, and the row of the noisy files; a cell is its text and its sort key."""
    columns = all_columns(ranking)
    headings, *body = rows(ranking, columns, ranking.columns)
    first = headings.index("n") + 1
    cells = []
    for c, texts in zip(ranking.configurations, body, strict=True):
        keys: list[Any] = list(texts)
        keys[first : first + len(columns)] = [c.over_seeds(column.value).mean for column in columns]
        cells.append(list(zip(texts, keys, strict=True)))
    noisy = noisy_row(ranking, columns, ranking.columns)
    return {"headings": headings, "rows": cells, "noisy": noisy, "words": first - 1}


def _clips(configurations: list[Configuration]) -> list[dict[str, Any]]:
    """Return the clips that the best seed of each configuration left: heading, name, and sounds with their labels."""
    found: dict[str, dict[str, Any]] = {}
    for c in configurations:
        run = c.runs[0]
        label = f"{c.place}  {c.label}, seed {run.get('seed')}" if c.n > 1 else f"{c.place}  {c.label}"
        for clip in clips.read(Path(run["folder"])):
            if clip["name"] not in found:
                sounds = {"noisy": _sound(clip["noisy"])}
                found[clip["name"]] = {"name": clip["name"], "heading": _heading(clip), "sounds": sounds,
                                       "clean": _sound(clip["clean"])}  # fmt: skip
            found[clip["name"]]["sounds"][label] = _sound(clip["enhanced"])
    for clip in found.values():
        clip["sounds"]["clean"] = clip.pop("clean")
    return list(found.values())


def _sound(path: Path) -> str:
    """Read a sound for a ``data:`` address; empty if it is not there."""
    return base64_of(path.read_bytes()) if path.is_file() else ""


def _heading(clip: Mapping[str, Any]) -> str:
    """Describe a clip: ``cafe noise, SNR 2.5 dB``; by its name where nothing is known."""
    words = [f"{clip['noise_type']} noise"] if "noise_type" in clip else []
    words += [f"SNR {clip['snr_db']} dB"] if "snr_db" in clip else []
    return ", ".join(words) or str(clip["name"])
