"""Charts for a page: where their marks, lines and ticks lie, in pixels; the template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40  # pixels around the plane
APART = 40  # pixels between the texts of two ticks


def colour(index: int) -> str:
    """Twelve hues that both a light and a dark page carry, neighbours far apart."""
    return f"hsl({(index * 150 + 210) % 360} 65% {(48, 58)[index // 12 % 2]}%)"


@dataclass
class Axis:
    """A range of values on ``start`` to ``end`` pixels; ``log`` for decades."""

    values: Iterable[float]
    start: float
    end: float
    log: bool = False
    margin: float = 0.06
    whole: bool = False  # ticks at whole numbers only

    def __post_init__(self) -> None:
        known = [v for v in self.values if math.isfinite(v) and (v > 0 or not self.log)] or [1.0]
        low, high = (math.log10(v) if self.log else v for v in (min(known), max(known)))
        if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
            low, high = (low - 0.5, high + 0.5) if self.log else (low - max(abs(low) * 0.1, 0.1), high + 0.1)
        spare = self.margin * (high - low)
        self.low, self.high = low - spare, high + spare

    def at(self, value: float) -> float:
        """The pixel of a value."""
        place = math.log10(value) if self.log else value
        return round(self.start + (place - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Pixels and texts of round values: steps of 1, 2 or 5."""
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
                every = [step * 10.0**decade for decade in decades for step in steps]
                found = [value for value in every if self.low <= math.log10(value) <= self.high]
                places = [self.at(value) for value in found]
                if len(found) <= most and all(abs(b - a) >= APART for a, b in pairwise(places)):
                    break
            return [(self.at(v), si(v)) for v in found]
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
        step = max(step, 1.0) if self.whole else step
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [(self.at(i * step), f"{i * step:.{digits}f}") for i in range(first, last + 1)]


@dataclass
class Chart:
    """A plane of ``width`` by ``height`` pixels with ``marks`` (points with bars) and ``lines``, for the template."""

    title: str
    x: Axis
    y: Axis
    x_label: str
    y_label: str
    width: int
    height: int
    rows: list[str] = field(default_factory=list)  # texts of y = 0, 1, ..., instead of numbers
    marks: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        return [(self.y.at(i), text) for i, text in enumerate(self.rows)] or self.y.ticks()

    def line(self, points: Sequence[tuple[float, float]], colour: str, title: str = "", kind: str = "") -> None:
        """Add a line through points of finite values."""
        known = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
        path = " ".join(f"{self.x.at(x)},{self.y.at(y)}" for x, y in known)
        if known:
            self.lines.append({"points": path, "colour": colour, "title": title, "kind": kind})

    def mark(self, x: float, y: float, colour: str, title: str, text: str = "", spread: float = math.nan) -> None:
        """Add a point, with a bar of ``spread`` to either side."""
        bar = (self.y.at(y - spread), self.y.at(y + spread)) if math.isfinite(spread) else None
        self.marks.append(
            {"x": self.x.at(x), "y": self.y.at(y), "bar": bar, "colour": colour, "title": title, "text": text}
        )


def plane(
    title: str, xs: Iterable[float], ys: Iterable[float], x_label: str, y_label: str,
    width: int = 350, height: int = 260, log: bool = False, whole: bool = False,
) -> Chart:  # fmt: skip
    """An empty chart that has room for these values."""
    x, y = Axis(xs, LEFT, width - RIGHT, log, whole=whole), Axis(ys, height - BOTTOM, TOP)
    return Chart(title, x, y, x_label, y_label, width, height)


def strip(title: str, values: Iterable[float], rows: list[str], x_label: str, width: int = 440) -> Chart:
    """An empty chart of a row a text, from top to bottom, that has room for these values."""
    left, height = min(180, 20 + 7 * max(map(len, rows))), TOP + BOTTOM + 24 * len(rows)
    y = Axis([0, max(1, len(rows) - 1)], TOP + 12, TOP + 24 * max(2, len(rows)) - 12, margin=0)
    return Chart(title, Axis(values, left, width - RIGHT), y, x_label, "", width, max(height, TOP + BOTTOM + 48), rows)


def si(value: float) -> str:
    """``1.5e9`` → ``1.5 G``."""
    for limit, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
