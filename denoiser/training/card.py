"""The model card of a finished run: what its checkpoint is, made of what, how good it is, how to make it again."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
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
EPOCHS = 10  # rows of the learning curve's table, about
Record = Mapping[str, Any]


def write(folder: Path, record: Record) -> None:
    """From a run's record write ``card.md`` to its folder and, where matplotlib is installed, ``curve.png``."""
    pictured = len(record["curve"] or ()) > 1 and find_spec("matplotlib") is not None
    if pictured:
        _save_curve(folder / CURVE, record)
    with atomic_write(folder / CARD) as partial:
        partial.write_text(text(folder, record, pictured), encoding="utf-8", errors="backslashreplace")


def text(folder: Path, record: Record, pictured: bool = False) -> str:
    """The card, in Markdown."""
    sections = {
        "Scores": _scores(record),
        "Data": _data(record),
        "Training": _training(record, pictured),
        "Configuration": _configuration(record),
        "Make it again": _commands(folder, record),
        "Versions": ", ".join(f"{escaped(name)} {escaped(release)}" for name, release in record["versions"].items()),
    }
    parts = [f"# {escaped(record['name'])}, seed {record['seed']}", _what(record)]
    return "\n\n".join([*parts, *(f"## {title}\n\n{body}" for title, body in sections.items() if body)]) + "\n"


def escaped(value: Any) -> str:
    """Any text as Markdown shows it letter for letter, in one line, in a table too."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$&])", r"\\\1", " ".join(str(value).split()))


def _what(record: Record) -> str:
    model, loss = (escaped((record["choices"] or {}).get(group, "?")) for group in ("model", "loss"))
    cost = f"{record['parameters']:,} parameters, {record['macs_per_second'] / 1e9:.2f} GMAC per second of audio"
    rate = record["config"]["spectral"].get("sample_rate")
    where = f"The weights are in `{record['checkpoint']}`." if record["checkpoint"] else "No weights were kept."
    return (
        f"A speech denoiser for sound at {rate} Hz, which works on magnitude spectrograms: the network {model} "
        f"({cost}), trained with the loss {loss}. {where}"
    )


def _scores(record: Record) -> str:
    test, chosen = record["test"], []
    if test:
        names = list(test["enhanced"])
        lines = [["noisy", *(_value(m, test["noisy"][m]) for m in names)]]
        lines.append(["enhanced", *(_value(m, test["enhanced"][m]) for m in names)])
        table = _table([f"mean of {test['n']} test files", *(METRICS[m].heading for m in names)], lines)
        undefined = [f"{METRICS[m].heading} is not defined for {n} of them" for m, n in test["undefined"].items()]
        chosen += [table, *([f"{'; '.join(undefined)}."] if undefined else [])]
    else:
        chosen.append("Not tested.")
    if validation := record["validation"]:
        scores = [f"{METRICS[m].heading} {_value(m, v)}" for m, v in validation.items() if m in METRICS]
        loss = f"loss {validation['loss']:.4g}" if validation.get("loss") is not None else ""
        last = record["checkpoint"] is None or record["checkpoint"].endswith("/last.ckpt")
        which = "The best epoch was" if last else "The checkpoint is that of epoch"
        chosen.append(
            f"{which} {record['best_epoch']}, chosen by {escaped(record['monitor'])} of validation alone: "
            f"over {validation['n']} files {', '.join(filter(None, [*scores, loss]))}."
        )
    return "\n\n".join(chosen)


def _data(record: Record) -> str:
    data, split = record["config"]["data"], dict(record["split"])
    where = {key: data[key] for key in ("root", "speech", "noise", "rooms", "test_root") if data.get(key)}
    places = ", ".join(f"{key} {' + '.join(v) if isinstance(v, list) else v}" for key, v in where.items())
    rule = split.pop("rule", None)
    lines = [
        f"Corpus: {escaped((record['choices'] or {}).get('data', '?'))}; {escaped(places)}",
        f"Files: {', '.join(f'{escaped(part)} {count}' for part, count in split.items())}; split.json names each",
        f"Rule: {escaped(rule)}",
        f"Licence: {escaped(data.get('licence') or 'not stated: set data.licence=...')}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _training(record: Record, pictured: bool) -> str:
    many = f", {record['processes']} processes" if (record["processes"] or 1) > 1 else ""
    speed, factor = record["audio_seconds_per_second"], record["real_time_factor"]
    rates = [
        f"{speed:.1f} seconds of audio a second" if speed else "",
        f"real-time factor in use {factor:.4f}" if factor else "",
    ]
    batches = f"batches of {record['batch_audio_seconds']:.1f} s of audio"
    lines = [
        f"Seed {record['seed']}, {batches}, {record['precision']}{many}",
        f"On {escaped(record['hardware'])}; {_duration(record['fit_seconds'])}, ended {record['ended']}",
        ", ".join(filter(None, rates)),
    ]
    body = "\n".join(f"- {line}" for line in lines if line)
    if not (curve := record["curve"]):
        return body
    names = [name for name in curve[-1] if name not in ("epoch", "step")]
    step = -(-len(curve) // EPOCHS)
    kept = [row for i, row in enumerate(curve) if (i + 1) % step == 0 or row is curve[-1] or _is_best(record, row)]
    rows = [[str(row["epoch"]), str(row["step"]), *(_number(row.get(name)) for name in names)] for row in kept]
    picture = f"\n\n![Learning curve]({CURVE})" if pictured else ""
    return f"{body}{picture}\n\n{_table(['epoch', 'step', *names], rows)}"


def _configuration(record: Record) -> str:
    changed = [f"- {escaped(_shown(override))}" for override in record["overrides"] or ()]
    whole = yaml.safe_dump(record["config"], sort_keys=False, allow_unicode=True)
    differs = "What differs from the defaults:\n\n" + "\n".join(changed) if changed else "All defaults."
    return f"{differs}\n\n<details><summary>All of it</summary>\n\n{_fenced('yaml', whole)}\n\n</details>"


def _commands(folder: Path, record: Record) -> str:
    typed = [_shown(override) for override in record["overrides"] or () if not override.startswith("ckpt_path=")]
    lines = [shlex.join(["python", "train.py", *typed])]
    if record["checkpoint"]:
        lines.append(shlex.join(["python", "infer.py", f"ckpt={Path(folder, record['checkpoint'])}", "input=FILE"]))
    return _fenced("bash", "\n".join(lines))


def _fenced(language: str, body: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", body)), default=0))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


def _shown(override: str) -> str:
    """As a person types it: without the quotes that Hydra is given, paths as seen from the launch folder."""
    key, equals, value = override.partition("=")
    bare = unquoted(value) if value[:1] in "'\"" else value
    if os.path.isabs(bare):
        bare = os.path.relpath(bare)
    elif not re.fullmatch(r"[\w./-]+", bare):
        return override
    return f"{key}{equals}{bare}"


def _is_best(record: Record, row: Mapping[str, Any]) -> bool:
    return bool(row["epoch"] == record["best_epoch"] and row.get(record["monitor"]) == record["best"])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _value(metric: str, value: float | None) -> str:
    return "n/a" if value is None else tables.number(metric, value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _save_curve(path: Path, record: Record) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curve, monitor = record["curve"], record["monitor"]
    fig = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = fig.subplots(1, 2)
    for name, axes in (("train/loss", left), ("val/loss", left), (monitor, right)):
        points = [(row["epoch"], row[name]) for row in curve if row.get(name) is not None]
        axes.plot(*zip(*points, strict=True), label=name, marker="." if len(points) < 30 else None) if points else None
    if record["best"] is not None:
        right.plot(record["best_epoch"], record["best"], "o", label="best")
    for axes in (left, right):
        axes.set(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figures.save_figure(path, fig)
