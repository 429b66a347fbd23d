"""Figures of a ranking: learning curves, and quality against cost."""

import io
import math
import textwrap
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from denoiser.errors import shown
from denoiser.evaluation.page import base64_of
from denoiser.ranking.configuration import MAIN_METRICS
from denoiser.ranking.format import heading
from denoiser.ranking.ranking import Ranking

SHOWN = 10  # learning curves, of the best configurations: a palette has ten colours
SIZE = (5.0, 3.8)  # inches
LABEL = 60  # characters


def draw(ranking: Ranking) -> dict[str, str]:
    """Return figures that show something, SVG in base64, by their title.

    PESQ, STOI and SI-SDR of validation over MACs per second, each point a place in the table; and the monitored value
    of every seed over epochs, a colour for each configuration.
    """
    figures = {f"{heading(f'val/{m}')} over MACs per second of audio": _cost(ranking, f"val/{m}") for m in MAIN_METRICS}
    figures[f"{heading(ranking.monitor)} over epochs"] = _learning_curves(ranking)
    return {title: _svg(figure) for title, figure in figures.items() if figure.axes[0].has_data()}


def _cost(ranking: Ranking, name: str) -> Figure:
    figure, axes = _empty("MACs per second of audio", heading(name))
    axes.set_xscale("log")
    for c in ranking.comparable:
        quality, cost = c.over_seeds(name), c.over_seeds("macs_per_second").mean
        if quality.n and 0 < cost < math.inf:
            error = quality.std if quality.n > 1 else None
            axes.errorbar(cost, quality.mean, error, fmt="o", capsize=3)
            axes.annotate(str(c.place), (cost, quality.mean), (5, 5), textcoords="offset points")
    return figure


def _learning_curves(ranking: Ranking) -> Figure:
    figure, axes = _empty("epoch", heading(ranking.monitor))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for index, c in enumerate(ranking.comparable[:SHOWN]):
        label = textwrap.shorten(shown(f"{c.place}: {c.label}"), LABEL).replace("$", r"\$")
        for run in c.runs:
            points = [(row["epoch"], row.get(ranking.monitor)) for row in run.get("curve") or ()]
            points = [point for point in points if point[1] is not None]
            if points:
                marker = "." if len(points) < 30 else None
                axes.plot(*zip(*points, strict=True), color=f"C{index}", marker=marker, label=label)
    handles = {line.get_label(): line for line in axes.lines}
    width, height = SIZE
    figure.set_size_inches(width, height + 0.25 * len(handles))
    figure.legend(handles=list(handles.values()), loc="outside lower left", fontsize="small")
    return figure


def _empty(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return base64_of(buffer.getvalue())
