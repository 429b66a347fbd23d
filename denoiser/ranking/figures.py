"""Figures of a ranking: learning curves, and quality against cost."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from denoiser.errors import shown
from denoiser.ranking.configuration import MAIN_METRICS, Configuration, validation_value
from denoiser.ranking.format import heading
from denoiser.ranking.ranking import Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 10  # learning curves, of the best configurations: a palette has ten colours
SIZE = (5.0, 3.8)  # inches
LABEL = 60  # characters


def available() -> bool:
    """Return True if matplotlib is installed."""
    return find_spec("matplotlib") is not None


def cost_figures(ranking: Ranking) -> list[str]:
    """Draw PESQ, STOI and SI-SDR of validation over MACs per second, as SVG; each point is a place in the table."""
    figures = []
    for metric in MAIN_METRICS:
        name = f"val/{metric}"
        figure, axes = _empty("MACs per second of audio", heading(name))
        axes.set_xscale("log")
        found = 0
        for c in ranking.comparable:
            quality, cost = c.over_seeds(validation_value(name)), ranking.cost(c)
            if quality.n and 0 < cost < math.inf:
                error = quality.std if quality.n > 1 else None
                axes.errorbar(cost, quality.mean, error, fmt="o", capsize=3)
                axes.annotate(str(c.place), (cost, quality.mean), (5, 5), textcoords="offset points")
                found += 1
        if found:
            figures.append(_svg(figure))
    return figures


def learning_curves(ranking: Ranking) -> str:
    """Draw the monitored value over epochs, the mean over seeds of each configuration, as SVG; empty without one."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _empty("epoch", heading(ranking.monitor))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    drawn = 0
    for c in ranking.comparable[:SHOWN]:
        if points := _curve(c, ranking.monitor):
            label = textwrap.shorten(shown(f"{c.place}: {c.label}"), LABEL).replace("$", r"\$")
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else None, label=label)
            drawn += 1
    if not drawn:
        return ""
    figure.legend(loc="outside lower left", fontsize="small")
    width, height = SIZE
    figure.set_size_inches(width, height + 0.25 * drawn)
    return _svg(figure)


def _curve(configuration: Configuration, monitor: str) -> list[tuple[int, float]]:
    """Return the mean over seeds for each epoch that all of them reached."""
    seeds = [_points(run.get("curve") or [], monitor) for run in configuration.runs]
    seeds = [seed for seed in seeds if seed]
    if not seeds:
        return []
    epochs = sorted(set(seeds[0]).intersection(*seeds[1:]))
    return [(epoch, math.fsum(seed[epoch] for seed in seeds) / len(seeds)) for epoch in epochs]


def _points(curve: Sequence[Any], monitor: str) -> dict[int, float]:
    """Return the finite values of one run, by epoch."""
    rows = [(row.get("epoch"), row.get(monitor)) for row in curve if isinstance(row, dict)]
    return {epoch: value for epoch, value in rows if isinstance(epoch, int) and isinstance(value, int | float)}


def _empty(x: str, y: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
