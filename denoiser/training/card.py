"""The model card of a finished run, ``card.md``: what the checkpoint is, its data, its scores, how to repeat it."""

import math
import os
import re
import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from denoiser import figures
from denoiser.evaluation import tables
from denoiser.filesystem import write_text
from denoiser.settings import unquoted

CURVE = "curve.png"
FACTS = (
    "name choices seed parameters macs_per_second checkpoint monitor best best_epoch validation split precision "
    "batch_audio_seconds fit_seconds audio_seconds_per_second real_time_factor ended hardware versions"
).split()
Record = Mapping[str, Any]


def write(folder: Path, record: Record) -> None:
    """Write ``card.md`` of a run's record to its folder and, where matplotlib is installed, ``curve.png``."""
    if len(record["curve"] or ()) > 1 and find_spec("matplotlib"):
        _save_curve(folder / CURVE, record)
    write_text(folder / "card.md", text(folder, record))


def text(folder: Path, record: Record) -> str:
    """Return the card, in Markdown; a name, which may hold any character, is never outside of a fenced block."""
    facts = {key: record[key] for key in FACTS}
    facts["licence"] = record["config"]["data"].get("licence") or "not stated: set data.licence=..."
    chosen = "those of the epoch that validation chose, by `monitor`; the test set chose nothing"
    if record["best_epoch"] is None:
        chosen = "the last ones, as no validation chose an epoch"
    parts = [
        "# Model card of a speech denoiser",
        f"Its weights are {chosen}. Costs and speeds are per second of audio; `split.json` names the files.",
        _yaml(facts),
        "## Scores of the test set",
        _test_scores(record["test"]),
        f"![Learning curve]({CURVE})" if (folder / CURVE).is_file() else "",
        "## Make it again, and use it",
        _commands(folder, record),
        "## Configuration",
        _yaml(record["config"]),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _yaml(content: Record) -> str:
    return _fenced("yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=math.inf))


def _test_scores(test: Record | None) -> str:
    if not test:
        return "Not tested."
    # The record has null for a mean that is not defined.
    means = {kind: {**test[kind]} for kind in tables.KINDS}
    for scores in means.values():
        scores.update({name: math.nan for name, mean in scores.items() if mean is None})
    return _fenced("text", tables.scores_table({**test, **means}))


def _commands(folder: Path, record: Record) -> str:
    overrides = [override for override in record["overrides"] or () if not override.startswith("ckpt_path=")]
    commands = [["denoiser", "train", *map(_as_typed, overrides)]]
    if record["checkpoint"]:
        commands.append(["denoiser", f"ckpt={folder / record['checkpoint']}", "input=FILE"])
    return _fenced("bash", "\n".join(map(shlex.join, commands)))


def _as_typed(override: str) -> str:
    """Return an override without the quotes that file names have for Hydra; absolute paths as seen from here."""
    key, _, value = override.partition("=")
    bare = unquoted(value)
    if os.path.isabs(bare):
        return f"{key}={os.path.relpath(bare)}"
    return f"{key}={bare}" if re.fullmatch(r"[\w./-]+", bare) else override


def _fenced(language: str, body: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


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
