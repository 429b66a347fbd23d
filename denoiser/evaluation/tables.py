"""What a run shows: tables, score files, figures."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from denoiser import console, errors, settings
from denoiser.evaluation import metrics
from denoiser.audio import Reader
from denoiser.filesystem import atomic_write
from denoiser.errors import DenoiserError
from denoiser.evaluation.metrics import METRICS
from denoiser.spectral import Spectral

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTS = {"noise_type": "noise type", "snr_db": "SNR dB", "speaker": "speaker"}  # what a row may know of its file
MAX_GROUPS = 20  # a breakdown into more shows nothing
SHOWN = 6  # metrics in a breakdown, the first: more are wider than a terminal
PLOT_SECONDS = 60.0  # a figure of more shows nothing
Row = dict[str, Any]  # {"name": ..., "noisy": {metric: value}, "enhanced": {metric: value}, and any of FACTS}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain text columns: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in (header, ["-" * w for w in widths], *rows)
    ]
    return "\n".join(lines)


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """``{"n": files, "noisy": {metric: mean}, "enhanced": {...}, "undefined": {metric: files left out}}``."""
    names = list(rows[0]["enhanced"]) if rows else []
    undefined = {m: sum(not math.isfinite(r["noisy"][m] + r["enhanced"][m]) for r in rows) for m in names}
    # A file where a metric is undefined on one side counts on neither: both means are over the same files.
    kept = [
        {
            kind: {m: r[kind][m] if math.isfinite(r["noisy"][m] + r["enhanced"][m]) else math.nan for m in names}
            for kind in ("noisy", "enhanced")
        }
        for r in rows
    ]
    means = {kind: metrics.mean([r[kind] for r in kept]) for kind in ("noisy", "enhanced")}
    return {"n": len(rows), **means, "undefined": {m: n for m, n in undefined.items() if n}}


def groups(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The summary of each noise type, SNR and speaker: ``{fact: {value: summary}}``.

    For each fact that has 2 to 20 values; files of which it is not known are the last group, ``unknown``.
    """
    found: dict[str, dict[str, Any]] = {}
    for fact in FACTS:
        values = sorted({row[fact] for row in rows if row.get(fact) is not None})
        if 2 <= len(values) <= MAX_GROUPS:
            members = {_text(value): [row for row in rows if row.get(fact) == value] for value in values}
            members["unknown"] = [row for row in rows if row.get(fact) is None]
            found[fact] = {name: summarise(group) for name, group in members.items() if group}
    return found


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def scores_table(summary: Mapping[str, Any]) -> str:
    """Noisy, enhanced and their difference, means over files; then, of the first six metrics, both by each group."""
    names = list(summary["noisy"])
    headings = [METRICS[m].heading for m in names]
    noisy, enhanced = summary["noisy"], summary["enhanced"]
    lines = [
        ["noisy", *(number(m, noisy[m]) for m in names)],
        ["enhanced", *(number(m, enhanced[m]) for m in names)],
        ["difference", *(number(m, enhanced[m] - noisy[m], sign=True) for m in names)],
    ]
    text = table([f"mean of {summary['n']} files", *headings], lines)
    for metric, count in summary["undefined"].items():
        missing = metrics.missing_package(metric)
        why = "silent, too short or no speech found"
        if missing:
            why = f'install it by: pip install "denoiser[metrics]" ({missing})'
        text += f"\n{METRICS[metric].heading}: not defined for {count} of {summary['n']} files ({why})"
    for fact, members in summary.get("groups", {}).items():
        lines = []
        for name, s in members.items():
            cells = [f"{number(m, s['noisy'][m])} -> {number(m, s['enhanced'][m])}" for m in names[:SHOWN]]
            lines.append([name, str(s["n"]), *cells])
        text += "\n\n" + table([f"by {FACTS[fact]}", "n", *headings[:SHOWN]], lines)
    return text


def write_scores(rows: Sequence[Row], folder: Path, **facts: Any) -> dict[str, Any]:
    """Write ``scores.csv`` and ``scores.json``; returns the summary, with the ``groups``.

    The CSV begins with lines of ``#``: the definition of each metric and the versions of the packages. Then a row
    per file: its name, what is known of it, metrics of noisy and enhanced (``pandas.read_csv(..., comment="#")``).
    The JSON holds the means, the groups, definitions, versions and ``facts``; what is not defined is null.
    """
    summary = {**summarise(rows), "groups": groups(rows)}
    names = list(summary["noisy"])
    known = [fact for fact in FACTS if any(row.get(fact) is not None for row in rows)]
    definitions = {name: METRICS[name].definition for name in names}
    with atomic_write(folder / "scores.csv") as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        for name, definition in definitions.items():
            file.write(f"# {name}: {definition}\n")
        file.write(f"# {', '.join(f'{package} {release}' for package, release in versions().items())}\n")
        plain, quoted = (csv.writer(file, quoting=q) for q in (csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC))
        plain.writerow(["name", *known, *(f"{kind}_{m}" for kind in ("noisy", "enhanced") for m in names)])
        for row in rows:
            cells = [row["name"], *(_text(row[f]) if row.get(f) is not None else "" for f in known)]
            scores = [f"{row[kind][m]:.6g}" for kind in ("noisy", "enhanced") for m in names]
            # A '#' is part of a name only where that is quoted.
            (quoted if any("#" in cell for cell in cells) else plain).writerow([*cells, *scores])
    content = {**summary, "definitions": definitions, "versions": versions(), **facts}
    with atomic_write(folder / "scores.json") as partial:
        text = json.dumps(json.loads(json.dumps(content), parse_constant=lambda _: None), indent=2)
        partial.write_text(text + "\n")
    return summary


def versions() -> dict[str, str]:
    """Of the packages that decide a number."""
    found = {}
    for package in ("denoiser", "torch", "torchaudio", "pytorch-lightning", "numpy", "scipy", "pesq", "pystoi"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def number(metric: str, value: float, sign: bool = False) -> str:
    if not math.isfinite(value):
        return "n/a"
    digits = METRICS[metric].digits
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def figure(waveforms: Mapping[str, Tensor], sample_rate: int, title: str = "") -> Figure:
    """Waveform and spectrogram of each ``[N]`` or ``[C, N]`` (first channel), side by side on one scale.

    Seconds, kHz, and dB below the loudest point of all. Raises DenoiserError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise DenoiserError('figures need matplotlib: pip install "denoiser[plot]"') from None
    limit = round(PLOT_SECONDS * sample_rate)
    shown = {name: w.detach().cpu().float().reshape(-1, w.shape[-1])[0, :limit] for name, w in waveforms.items()}
    if any(w.shape[-1] > limit for w in waveforms.values()):
        title += f" (first {PLOT_SECONDS:.0f} s)"
    levels = {name: decibels(w, sample_rate) for name, w in shown.items()}
    top = loudest(levels.values())
    peak = max(max(float(w.abs().max()) for w in shown.values()), 1e-6)

    fig = Figure(figsize=(5 * len(shown), 5.5), layout="constrained")
    axes = fig.subplots(2, len(shown), squeeze=False, height_ratios=[1, 2], sharex="col")
    for column, (name, w) in enumerate(shown.items()):
        wave, image = axes[0][column], axes[1][column]
        seconds = len(w) / sample_rate
        step = max(1, len(w) // 2000)  # an envelope: a line of a million points would be slow and look the same
        columns = torch.nn.functional.pad(w, (0, -len(w) % step)).reshape(-1, step)
        times = torch.arange(len(columns)) * step / sample_rate
        wave.fill_between(times, columns.min(1).values, columns.max(1).values, linewidth=0.4)
        wave.set(title=name, ylim=(-1.05 * peak, 1.05 * peak), xlim=(0, seconds))
        picture = image.imshow(
            levels[name].numpy() - top, origin="lower", aspect="auto", cmap="magma", vmin=-80, vmax=0,
            extent=(0, seconds, 0, sample_rate / 2000),
        )  # fmt: skip
        image.set(xlabel="seconds")
        if column == 0:
            wave.set_ylabel("amplitude")
            image.set_ylabel("kHz")
        else:
            wave.tick_params(labelleft=False)
            image.tick_params(labelleft=False)
    fig.colorbar(picture, ax=list(axes[1]), label="dB", pad=0.01)
    if title:
        fig.suptitle(title, parse_math=False)  # a file's name: a $ in it is no formula
    return fig


def decibels(waveform: Tensor, sample_rate: int) -> Tensor:
    """``[N]`` → levels of its spectrogram ``[F, T]``, windows of 32 ms."""
    window = max(16, round(0.032 * sample_rate / 2) * 2)
    spectral = Spectral(sample_rate, window, window // 4)
    return 20 * torch.log10(spectral.stft(waveform).abs().clamp(min=1e-10))


def loudest(levels: Iterable[Tensor]) -> float:
    """What spectrograms on one scale are relative to, dB: silence is to look like silence."""
    return max(-60.0, *(float(level.max()) for level in levels))


def before_and_after(source: Path, target: Path, title: str = "") -> Figure:
    """The :func:`figure` of a file and of what became of it: their first minute, in memory that does not grow."""
    waveforms = {}
    for name, path in (("before", source), ("after", target)):
        with Reader(path) as reader:
            rate = reader.info.sample_rate
            waveforms[name] = reader.read(round(PLOT_SECONDS * rate) + 1)  # one more says that there is more
    return figure(waveforms, rate, title)


def save_figure(path: Path, fig: Figure) -> None:
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a title in another script shows boxes
    with atomic_write(path) as partial:
        fig.savefig(partial, format="png", dpi=110)


USAGE = """\
Rank training runs: python -m denoiser rank runs=FOLDER[,FOLDER...]

  runs=     folders in which runs are looked for, at any depth; a run left its run.json there
  out=      the folder for ranking.csv, ranking.md and ranking.html (the first of runs)
  compare=  two configurations, A,B, to compare on the test files: places in the table, names or runs' folders
            (the best by validation with each other)
  base=     a configuration, named likewise: write only ablation.md, what each change from it is worth, into the folder
            out, or as out if that ends in .md
  page=     false: no ranking.html (true)
  sounds=   false: the page without clips to listen to (true)"""


def main(arguments: Sequence[str] | None = None) -> None:
    """What the command line does."""
    defaults = {"runs": "", "out": "", "compare": "", "base": "", "page": "true", "sounds": "true"}
    given = settings.settings(defaults, USAGE, arguments)
    settings.require(given, "runs")
    from denoiser.ranking.rank import rank  # which takes its tables from here

    flags = {key: settings.choice(given, key, "true", "false") == "true" for key in ("page", "sounds")}
    pair = given["compare"].split(",") if given["compare"] else None
    if pair is not None and len(pair) != 2:
        raise errors.ConfigError(f"compare={given['compare']}: expected two configurations, A,B")
    folders = [Path(given["runs"])] if Path(given["runs"]).is_dir() else [Path(f) for f in given["runs"].split(",")]
    rank(folders, given["out"] or None, (pair[0], pair[1]) if pair else None, **flags, base=given["base"] or None)


if __name__ == "__main__":
    with console.one_line():
        main()
