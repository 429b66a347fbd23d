"""A ranking as one HTML page that opens from disk without a network: tables, figures, sounds."""

import io
import math
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from denoiser.errors import shown
from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.page import render
from denoiser.ranking import tables
from denoiser.ranking.configuration import MAIN_METRICS, Configuration
from denoiser.ranking.ranking import Ranking
from denoiser.training import clips

HEARD = 12  # configurations, the best, that have players
CURVES = 10  # configurations, the best, that have learning curves: a palette has ten colours


def write(ranking: Ranking, path: Path, sounds: bool) -> None:
    """Write the page; without matplotlib it has no figures, and says so."""
    definitions = {name: definition for name, _, definition in tables.COSTS.values()}
    definitions |= {METRICS[m].heading: METRICS[m].definition for m in ranking.metrics if m in METRICS}
    render(
        path,
        "ranking/ranking.html",
        title="denoiser: training runs, ranked",
        ranking=ranking,
        tables=tables,
        table=_table(ranking) if ranking.configurations else None,
        figures=_draw(ranking) if find_spec("matplotlib") else None,
        clips=_clips(ranking.configurations[:HEARD]) if sounds else [],
        definitions=definitions,
    )


def _table(ranking: Ranking) -> dict[str, Any]:
    """Return the headings, the rows of cells, and the row of the noisy files; a cell is its text and its sort key."""
    names = tables.all_names(ranking)
    headings, *lines = tables.rows(ranking, names)
    cells = []
    for c, line in zip(ranking.configurations, lines, strict=False):
        keys = [*line[:3], *(c.over_seeds(name).mean for name in names), c.note]
        cells.append(list(zip(line, keys, strict=False)))
    return {"headings": headings, "rows": cells, "noisy": lines[-1] if ranking.tested else None}


def _clips(configurations: list[Configuration]) -> list[dict[str, Any]]:
    """Return the clips that the best seed of each configuration left, with their sounds by label."""
    found: dict[str, dict[str, Any]] = {}
    for c in configurations:
        run = c.runs[0]
        for clip in clips.read(Path(run["folder"])):
            entry = found.setdefault(clip["name"], {**clip, "sounds": {"noisy": clip["noisy"]}})
            entry["sounds"][f"{c.place}  {c.label}, seed {run.get('seed')}"] = clip["enhanced"]
    for clip in found.values():
        sounds = {**clip["sounds"], "clean": clip["clean"]}
        clip["sounds"] = {label: path.read_bytes() for label, path in sounds.items() if path.is_file()}
    return list(found.values())


def _draw(ranking: Ranking) -> dict[str, bytes]:
    """Return figures as SVG, by title: validation scores over MACs, and the monitored value over epochs."""
    from matplotlib.figure import Figure

    drawings = [(f"val/{metric}", "MACs per second of audio", _draw_cost) for metric in MAIN_METRICS]
    pictures = {}
    for name, x, draw in [*drawings, (ranking.monitor, "epoch", _draw_learning_curves)]:
        figure = Figure((5.0, 3.8))
        axes = figure.subplots()
        axes.set(xlabel=x, ylabel=tables.heading(name))
        axes.grid(alpha=0.3)
        draw(axes, ranking.comparable, name)
        if axes.has_data():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", bbox_inches="tight")
            pictures[f"{tables.heading(name)} over {x}"] = buffer.getvalue()
    return pictures


def _draw_cost(axes: Any, configurations: list[Configuration], name: str) -> None:
    axes.set_xscale("log")
    for c in configurations:
        quality, cost = c.over_seeds(name), c.over_seeds("macs_per_second").mean
        if quality.n and 0 < cost < math.inf:
            axes.errorbar(cost, quality.mean, quality.std if quality.n > 1 else None, fmt="o", capsize=3)
            axes.annotate(str(c.place), (cost, quality.mean), (5, 5), textcoords="offset points")


def _draw_learning_curves(axes: Any, configurations: list[Configuration], name: str) -> None:
    for index, c in enumerate(configurations[:CURVES]):
        label = textwrap.shorten(shown(f"{c.place}: {c.label}"), 60).replace("$", r"\$")
        for run in c.runs:
            points = [(row["epoch"], row[name]) for row in run.get("curve") or () if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=f"C{index}", marker=".", label=label)
    handles = {line.get_label(): line for line in axes.lines}
    axes.legend(handles=list(handles.values()), loc="upper left", bbox_to_anchor=(0, -0.15), fontsize="small")
