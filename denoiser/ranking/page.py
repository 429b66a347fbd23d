"""A ranking as one HTML page that opens from disk: table, quality over cost, seeds, learning curves, sounds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from denoiser import errors
from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.page import render
from denoiser.ranking import clips, text
from denoiser.ranking.bootstrap import Scores, read_scores
from denoiser.ranking.charts import Chart, colour, plane, strip
from denoiser.ranking.configuration import SHARED, Configuration, Record, amount, heading, mean_of_test, validated
from denoiser.ranking.rank import Ranking, front
from denoiser.ranking.summary import phrase, reason, spread_text, summary
from denoiser.ranking.text import COSTS, Column, cut, place_of, scores

HEARD = 12  # configurations, the best, that have players and curves; the table has all
EXPLAINED = {
    "parameters": "weights of the network",
    "macs_per_second": "multiplications with addition for one second of audio, in billions: what it costs to run",
    "fit_seconds": "wall-clock time of training, mean over seeds",
    "audio_seconds_per_second": "seconds of training audio that went through in a second",
    "real_time_factor": "seconds of computing for a second of audio: below 1 is faster than real time",
}


def write(ranking: Ranking, path: Path, sounds: bool = True) -> Path:
    """Write the page; what cannot be heard is said in it in a line each."""
    colours = {c.label: colour(i) for i, c in enumerate(ranking.configurations)}
    made, silent = _clips(ranking, colours) if sounds else ([], ["Made without sounds, as asked."])
    configurations = ranking.configurations
    runs = sum(c.n for c in configurations)
    legend = [(c.label, colours[c.label], place_of(ranking, c)) for c in configurations[:HEARD]]
    seeds = any(c.n > 1 for c in configurations)
    render(
        path, "ranking.html",
        title=f"denoiser: {_count(len(configurations), 'configuration')} ranked, {_count(runs, 'run')}",
        summary=summary(ranking), notes=ranking.notes, how=text.HOW,
        columns=ranking.columns or ["configuration"], heads=_heads(ranking), rows=_rows(ranking, colours),
        noisy=_noisy(ranking), monitor=heading(ranking.monitor),
        scatters=_scatters(ranking, colours), seeds=_seeds(ranking, colours) if seeds else None,
        curves=_curves(ranking, colours), legend=legend,
        more=max(0, len(configurations) - HEARD), compared=_compared(ranking), source=text.SOURCE,
        reference=ranking.reference.label if ranking.reference else "",
        clips=made, silent=silent,
        unranked=[(name, reason(run), run["folder"]) for run, name in ranking.unranked],
        runs=[_run(ranking, c, run) for c in configurations for run in c.runs],
        definitions=[(METRICS[m].heading, METRICS[m].definition) for m in ranking.metrics if m in METRICS],
    )  # fmt: skip
    return path


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _columns(ranking: Ranking) -> list[Column]:
    if not ranking.configurations:
        return []
    every = [*scores(ranking, "val"), *COSTS, *scores(ranking, "test")]
    monitored = ranking.monitor.replace("/", "_")
    return sorted(every, key=lambda c: (c.key != monitored, c.key.startswith("val_"), c.key.startswith("test_")))


def _heads(ranking: Ranking) -> list[dict[str, str]]:
    heads = []
    for column in _columns(ranking):
        metric = column.key.partition("_")[2]
        definition = METRICS[metric].definition if metric in METRICS else ""
        heads.append({"text": column.short, "title": EXPLAINED.get(column.key, definition)})
    return heads


def _rows(ranking: Ranking, colours: dict[str, str]) -> list[dict[str, Any]]:
    rows = []
    for index, c in enumerate(ranking.configurations):
        cells = [{"value": c.spread(column.value).mean, "text": column.of(c)} for column in _columns(ranking)]
        values = list(c.values.values()) or [c.label]
        row = {
            "place": place_of(ranking, c),
            "index": index,
            "values": values,
            "n": c.n,
            "cells": cells,
            "colour": colours[c.label],
        }
        rows.append(row)
    return rows


def _noisy(ranking: Ranking) -> list[str]:
    best = ranking.best
    if best is None or not best.spread(mean_of_test("si_sdr", "noisy")).n:
        return []
    names = [c.key[5:] if c.key.startswith("test_") else "" for c in _columns(ranking)]
    return [amount(name, best.spread(mean_of_test(name, "noisy")).mean) if name else "" for name in names]


def _scatters(ranking: Ranking, colours: dict[str, str]) -> list[Chart]:
    """PESQ, STOI and SI-SDR of the validation files over MACs/s, with the Pareto front; those scored alike."""
    charts = []
    for metric in SHARED if ranking.configurations else ():
        read = validated(f"val/{metric}")
        known = [c for c in ranking.comparable() if c.spread(read).n and 0 < ranking.cost(c) < math.inf]
        if not known:
            continue
        points = [(ranking.cost(c), c.spread(read).mean) for c in known]
        bars = [c.spread(read).std if c.n > 1 else math.nan for c in known]
        ends = [y + sign * (0 if math.isnan(bar) else bar) for (_, y), bar in zip(points, bars, strict=True)
                for sign in (-1, 1)]  # fmt: skip
        name = heading(f"val/{metric}")
        chart = plane(name, [x for x, _ in points], ends, "MACs per second of audio", name, log=True)
        chart.line([points[i] for i in front(points)], "currentColor", "Pareto front", "front")
        for c, (x, y), bar in zip(known, points, bars, strict=True):
            title = f"{c.label}: {phrase(f'val/{metric}', spread_text(metric, c.spread(read)))}, n {c.n}, "
            title += f"{COSTS[1].of(c)} GMAC/s"
            tests = [(m, c.spread(mean_of_test(m))) for m in SHARED]
            title += "".join(f", test {phrase(m, spread_text(m, spread))}" for m, spread in tests if spread.n)
            chart.mark(x, y, colours[c.label], title, str(c.place), bar)
        charts.append(chart)
    return charts


def _seeds(ranking: Ranking, colours: dict[str, str]) -> Chart:
    """The monitored value of every run, a row a configuration."""
    read, monitor = validated(ranking.monitor), heading(ranking.monitor)
    shown = ranking.comparable()
    values = [float(read(run)) for c in shown for run in c.runs if read(run) is not None]
    chart = strip(f"{monitor} of every seed", values, [f"{c.place}  {cut(c.label, 22)}" for c in shown], monitor)
    for row, c in enumerate(shown):
        known = [(run, float(read(run))) for run in c.runs if read(run) is not None]
        if known:
            ends = [(end(v for _, v in known), row) for end in (min, max)]
            chart.line(ends, colours[c.label], "", "range")
        for run, value in known:
            title = f"{c.label}, seed {run.get('seed')}: {phrase(ranking.monitor, amount(ranking.monitor, value))}"
            chart.mark(value, row, colours[c.label], title)
    return chart


def _curves(ranking: Ranking, colours: dict[str, str]) -> Chart | None:
    """The monitored value over epochs: the mean over seeds of each configuration, its seeds thin."""
    monitor = ranking.monitor
    found: list[tuple[Configuration, list[list[tuple[float, float]]]]] = []
    for c in ranking.configurations[:HEARD]:
        curves = [run.get("curve") or [] for run in c.runs]
        places = [[(e.get("epoch"), e.get(monitor)) for e in curve] for curve in curves]
        seeds = [[(x, y) for x, y in place if _number(x) and _number(y)] for place in places]
        if seeds := [seed for seed in seeds if seed]:
            found.append((c, seeds))
    points = [point for _, seeds in found for seed in seeds for point in seed]
    if not points:
        return None
    name = heading(monitor)
    title = f"{name} over epochs"
    chart = plane(title, [x for x, _ in points], [y for _, y in points], "epoch", name, 520, 280, whole=True)
    for c, seeds in found:
        for seed in seeds if len(seeds) > 1 else ():
            chart.line(seed, colours[c.label], "", "thin")
    for c, seeds in reversed(found):  # the best on top
        epochs: dict[float, list[float]] = {}
        for epoch, value in (point for seed in seeds for point in seed):
            epochs.setdefault(epoch, []).append(value)
        whole = [(e, math.fsum(v) / len(v)) for e, v in sorted(epochs.items()) if len(v) == len(seeds)]
        chart.line(whole, colours[c.label], f"{c.label}, {_count(len(seeds), 'seed')}", "mean")
        if len(whole) == 1:
            chart.mark(*whole[0], colours[c.label], c.label)
    return chart


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _compared(ranking: Ranking) -> dict[str, Any] | None:
    shown = [m for m in SHARED if any(i[m].n for i in ranking.intervals.values())]
    if not shown:
        return None
    rows = []
    for label, intervals in ranking.intervals.items():
        found = [(m, intervals[m]) for m in shown]
        cells = [(i.text(m).rstrip(" ~"), i.holds_zero, i.words(m), i.mean) for m, i in found]
        rows.append({"label": label, "cells": cells, "files": max(i.n for _, i in found)})
    return {"heads": [METRICS[m].heading for m in shown], "rows": rows}


def _run(ranking: Ranking, configuration: Configuration, run: Record) -> list[str]:
    value = validated(ranking.monitor)(run)
    versions = ", ".join(f"{k} {v}" for k, v in (run.get("versions") or {}).items())
    best = amount(ranking.monitor, value if _number(value) else math.nan)
    machine = ", ".join(str(run[key]) for key in ("hardware", "device", "precision") if run.get(key))
    epoch = "" if run.get("best_epoch") is None else str(run["best_epoch"])
    return [configuration.label, str(run.get("seed")), best, epoch, run["folder"], machine, versions]


def _clips(ranking: Ranking, colours: dict[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    shown = ranking.configurations[:HEARD]
    if not shown:
        return [], []
    made, pictures = [], {}
    try:
        found, silent = clips.make(shown, ranking.facts)
        for clip in found:
            players, pictures = clip.players(), clip.pictures()
            sounds = [
                {"label": title, "sound": players[label], "picture": pictures.get(label), "scores": line,
                 "colour": colours.get(label)}
                for label, title, line in _lines(ranking, clip, shown)
                if label in players
            ]  # fmt: skip
            facts = f"{clip.seconds:.1f} s, 0 to {clip.rate / 2000:g} kHz from bottom to top"
            heading_ = clip.facts or clip.name
            made.append({"name": clip.name, "heading": heading_, "short": heading_.partition(", speaker")[0],
                         "facts": facts, "sounds": sounds})  # fmt: skip
    except Exception as error:  # a record may say anything of its corpus: that costs the sounds alone
        return [], [f"Made without sounds: {errors.shown(error)}"]
    if found and not pictures:
        silent.append('Spectrograms need matplotlib: pip install "denoiser[plot]"')
    return made, silent


def _lines(ranking: Ranking, clip: clips.Clip, shown: list[Configuration]) -> list[tuple[str, str, str]]:
    """Each sound's label, what to call it, and its scores: of a configuration its best seed's, from the test."""

    def words(scores: Scores) -> str:
        score = scores.get(clip.name, {})
        return " · ".join(phrase(m, amount(m, score[m])) for m in SHARED if m in score)

    lines = [("noisy", "noisy", words(read_scores(Path(shown[0].runs[0]["folder"]), "noisy")[0]))]
    for c in shown:
        run = c.runs[0]
        title = f"{c.label}, seed {run.get('seed')}" if c.n > 1 else c.label
        lines.append((c.label, title, words(ranking.scores.get(run["folder"], {}))))
    return [*lines, ("clean", "clean", "the reference")]
