"""The model card of a finished run, ``card.md``: what the checkpoint is, its data, its scores, how to repeat it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from denoiser import figures
from denoiser.evaluation import tables
from denoiser.evaluation.metrics import METRICS
from denoiser.filesystem import atomic_write
from denoiser.settings import unquoted

CARD, CURVE = "card.md", "curve.png"
TEMPLATE = Path(__file__).with_name("card.md")
Record = Mapping[str, Any]


def write(folder: Path, record: Record) -> None:
    """Write ``card.md`` of a run's record to its folder and, where matplotlib is installed, ``curve.png``."""
    pictured = len(record["curve"] or ()) > 1 and find_spec("matplotlib") is not None
    if pictured:
        _save_curve(folder / CURVE, record)
    with atomic_write(folder / CARD) as partial:
        partial.write_text(text(folder, record, pictured), encoding="utf-8", errors="backslashreplace")


def text(folder: Path, record: Record, pictured: bool = False) -> str:
    """Return the card, in Markdown."""
    choices = record["choices"] or {}
    data = record["config"]["data"]
    split = dict(record["split"])
    rule = split.pop("rule", None)
    processes = record["processes"] or 1
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=escaped(record["name"]),
        seed=record["seed"],
        sample_rate=record["config"]["spectral"].get("sample_rate"),
        model=escaped(choices.get("model", "?")),
        loss=escaped(choices.get("loss", "?")),
        parameters=record["parameters"],
        gmac=record["macs_per_second"] / 1e9,
        weights=f"The weights are in `{record['checkpoint']}`." if record["checkpoint"] else "No weights were kept.",
        scores="\n\n".join([*_test_scores(record), *_validation_scores(record)]),
        corpus=escaped(choices.get("data", "?")),
        places=escaped(_places(data)),
        files=", ".join(f"{escaped(part)} {count}" for part, count in split.items()),
        rule=escaped(rule),
        licence=escaped(data.get("licence") or "not stated: set data.licence=..."),
        batch_seconds=record["batch_audio_seconds"],
        precision=record["precision"],
        processes=f", {processes} processes" if processes > 1 else "",
        hardware=escaped(record["hardware"]),
        duration=tables.duration(record["fit_seconds"]),
        ended=record["ended"],
        speed=_speed(record),
        picture=f"\n![Learning curve]({CURVE})\n" if pictured else "",
        changes=_changes(record),
        configuration=_fenced("yaml", yaml.safe_dump(record["config"], sort_keys=False, allow_unicode=True)),
        commands=_commands(folder, record),
        versions=", ".join(f"{escaped(name)} {escaped(release)}" for name, release in record["versions"].items()),
    )


def escaped(value: Any) -> str:
    """Return any text as one line that Markdown shows letter for letter, in a table too."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$&])", r"\\\1", " ".join(str(value).split()))


def _test_scores(record: Record) -> list[str]:
    test = record["test"]
    if not test:
        return ["Not tested."]
    names = list(test["enhanced"])
    header = [f"mean of {test['n']} test files", *(METRICS[name].heading for name in names)]
    rows = [[kind, *(_score(name, test[kind][name]) for name in names)] for kind in ("noisy", "enhanced")]
    undefined = [f"{METRICS[name].heading} is not defined for {n} of them" for name, n in test["undefined"].items()]
    return [tables.markdown_table(header, rows), *([f"{'; '.join(undefined)}."] if undefined else [])]


def _validation_scores(record: Record) -> list[str]:
    validation = record["validation"]
    if not validation:
        return []
    scores = [f"{METRICS[name].heading} {_score(name, v)}" for name, v in validation.items() if name in METRICS]
    if validation.get("loss") is not None:
        scores.append(f"loss {validation['loss']:.4g}")
    is_last = record["checkpoint"] is None or record["checkpoint"].endswith("/last.ckpt")
    best = "The best epoch was" if is_last else "The checkpoint is that of epoch"
    return [
        f"{best} {record['best_epoch']}, chosen by {escaped(record['monitor'])} of validation alone: "
        f"over {validation['n']} files {', '.join(scores)}."
    ]


def _places(data: Mapping[str, Any]) -> str:
    given = {key: data[key] for key in ("root", "speech", "noise", "rooms", "test_root") if data.get(key)}
    return ", ".join(f"{key} {' + '.join(v) if isinstance(v, list) else v}" for key, v in given.items())


def _speed(record: Record) -> str:
    speed, factor = record["audio_seconds_per_second"], record["real_time_factor"]
    rates = [f"{speed:.1f} seconds of audio a second"] if speed else []
    rates += [f"real-time factor in use {factor:.4f}"] if factor else []
    return f"- {', '.join(rates)}\n" if rates else ""


def _changes(record: Record) -> str:
    changes = [f"- {escaped(_shown(override))}" for override in record["overrides"] or ()]
    return "What differs from the defaults:\n\n" + "\n".join(changes) if changes else "All defaults."


def _commands(folder: Path, record: Record) -> str:
    typed = [_shown(override) for override in record["overrides"] or () if not override.startswith("ckpt_path=")]
    commands = [["python", "train.py", *typed]]
    if record["checkpoint"]:
        commands.append(["python", "infer.py", f"ckpt={Path(folder, record['checkpoint'])}", "input=FILE"])
    return _fenced("bash", "\n".join(shlex.join(command) for command in commands))


def _fenced(language: str, body: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


def _shown(override: str) -> str:
    """Return an override as a person types it: without the quotes for Hydra, paths as seen from the launch folder."""
    key, equals, value = override.partition("=")
    bare = unquoted(value) if value[:1] in "'\"" else value
    if os.path.isabs(bare):
        bare = os.path.relpath(bare)
    elif not re.fullmatch(r"[\w./-]+", bare):
        return override
    return f"{key}{equals}{bare}"


def _score(metric: str, value: float | None) -> str:
    return "n/a" if value is None else tables.number(metric, value)


def _save_curve(path: Path, record: Record) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curve, monitor = record["curve"], record["monitor"]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, axes in (("train/loss", left), ("val/loss", left), (monitor, right)):
        points = [(row["epoch"], row[name]) for row in curve if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None)
    if record["best"] is not None:
        right.plot(record["best_epoch"], record["best"], "o", label="best")
    for axes in (left, right):
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figures.save_figure(path, figure)
