"""The model card of a finished run, ``card.md``: what the checkpoint is, its data, its scores, how to repeat it."""

import math
import os
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from denoiser import figures
from denoiser.evaluation import tables
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
    config = record["config"]
    split = dict(record["split"])
    places = {key: config["data"][key] for key in ("root", "speech", "noise", "rooms", "test_root")
              if config["data"].get(key)}  # fmt: skip
    facts = {
        **record,
        **{group: choices.get(group) for group in ("model", "loss", "data")},
        "sample_rate": config["spectral"].get("sample_rate"),
        "parameters": f"{record['parameters']:,}",
        "gmac": f"{record['macs_per_second'] / 1e9:.2f}",
        "rule": split.pop("rule", None),
        "files": _listed(split),
        "places": _listed(places),
        "licence": config["data"].get("licence") or "not stated: set data.licence=...",
        "duration": timedelta(seconds=round(record["fit_seconds"])),
        "versions": _listed(record["versions"]),
    }
    markdown = {
        "weights": f"The weights are in `{record['checkpoint']}`." if record["checkpoint"] else "No weights were kept.",
        "test": _test_scores(record["test"]),
        "validation": _validation_scores(record),
        "picture": f"\n![Learning curve]({CURVE})" if pictured else "",
        "changes": _changes(record["overrides"] or ()),
        "configuration": _fenced("yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True)),
        "commands": _commands(folder, record),
    }
    shown = {key: escaped(value) for key, value in facts.items()}
    return TEMPLATE.read_text(encoding="utf-8").format(**{**shown, **markdown})


def escaped(value: Any) -> str:
    """Return a value as one line that Markdown shows letter for letter; numbers have four digits, None is n/a."""
    if value is None:
        return "n/a"
    line = f"{value:.4g}" if isinstance(value, float) else " ".join(str(value).split())
    return re.sub(r"([\\`*_{}\[\]<>#|!~$&])", r"\\\1", line)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {' + '.join(v) if isinstance(v, list) else v}" for key, v in values.items())


def _test_scores(test: Record | None) -> str:
    if not test:
        return "Not tested."
    means = {
        kind: {name: math.nan if mean is None else mean for name, mean in test[kind].items()} for kind in tables.KINDS
    }
    return _fenced("text", tables.scores_table({**test, **means}))


def _validation_scores(record: Record) -> str:
    scores = dict(record["validation"] or {})
    if not scores:
        return ""
    files = scores.pop("n")
    means = ", ".join(f"{escaped(name)} {escaped(mean)}" for name, mean in scores.items())
    monitor = f"chosen by {escaped(record['monitor'])} of validation alone"
    return f"The best epoch was {record['best_epoch']}, {monitor}: over {files} files {means}."


def _changes(overrides: Any) -> str:
    changes = [f"- {escaped(_as_typed(override))}" for override in overrides]
    return "What differs from the defaults:\n\n" + "\n".join(changes) if changes else "All defaults."


def _commands(folder: Path, record: Record) -> str:
    overrides = [override for override in record["overrides"] or () if not override.startswith("ckpt_path=")]
    commands = [["python", "train.py", *map(_as_typed, overrides)]]
    if record["checkpoint"]:
        commands.append(["python", "infer.py", f"ckpt={Path(folder, record['checkpoint'])}", "input=FILE"])
    return _fenced("bash", "\n".join(shlex.join(command) for command in commands))


def _fenced(language: str, body: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


def _as_typed(override: str) -> str:
    """Return an override as a person types it: without the quotes for Hydra, paths as seen from the launch folder."""
    key, equals, value = override.partition("=")
    bare = unquoted(value)
    if os.path.isabs(bare):
        bare = os.path.relpath(bare)
    elif not re.fullmatch(r"[\w./-]+", bare):
        return override
    return f"{key}{equals}{bare}"


def _save_curve(path: Path, record: Record) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in record["curve"]]
    for name, axes in (("train/loss", left), ("val/loss", left), (record["monitor"], right)):
        # A value of None becomes NaN, which is not drawn.
        values = np.array([row.get(name) for row in record["curve"]], dtype=float)
        axes.plot(epochs, values, label=name, marker=".")
        axes.set(xlabel="epoch")
        axes.legend()
    figures.save_figure(path, figure)
