"""Figures of a ranking: learning curves, and quality against cost."""

import io
import math
import textwrap
from typing import Any

from matplotlib.figure import Figure

from denoiser.errors import shown
from denoiser.ranking.configuration import MAIN_METRICS
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.tables import heading

SHOWN = 10  # learning curves, of the best configurations: a palette has ten colours
LABEL = 60  # characters


def draw(ranking: Ranking) -> dict[str, bytes]:
    """Return figures as SVG, by title: validation scores over MACs, and the monitored value over epochs."""
    pictures = {}
    for name, x in [*((f"val/{m}", "MACs per second of audio") for m in MAIN_METRICS), (ranking.monitor, "epoch")]:
        figure = Figure((5.0, 3.8))
        axes = figure.subplots()
        axes.set(xlabel=x, ylabel=heading(name))
        axes.grid(alpha=0.3)
        if x == "epoch":
            _draw_learning_curves(axes, ranking)
        else:
            _draw_cost(axes, ranking, name)
        if axes.has_data():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="svg", bbox_inches="tight")
            pictures[f"{heading(name)} over {x}"] = buffer.getvalue()
    return pictures


def _draw_cost(axes: Any, ranking: Ranking, name: str) -> None:
    axes.set_xscale("log")
    for c in ranking.comparable:
        quality, cost = c.over_seeds(name), c.over_seeds("macs_per_second").mean
        if quality.n and 0 < cost < math.inf:
            axes.errorbar(cost, quality.mean, quality.std if quality.n > 1 else None, fmt="o", capsize=3)
            axes.annotate(str(c.place), (cost, quality.mean), (5, 5), textcoords="offset points")


def _draw_learning_curves(axes: Any, ranking: Ranking) -> None:
    for index, c in enumerate(ranking.comparable[:SHOWN]):
        label = textwrap.shorten(shown(f"{c.place}: {c.label}"), LABEL).replace("$", r"\$")
        for run in c.runs:
            points = [(row["epoch"], row.get(ranking.monitor)) for row in run.get("curve") or ()]
            points = [point for point in points if point[1] is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=f"C{index}", marker=".", label=label)
    handles = {line.get_label(): line for line in axes.lines}
    axes.legend(handles=list(handles.values()), loc="upper left", bbox_to_anchor=(0, -0.15), fontsize="small")
