"""What a run shows: tables, score files, figures."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from denoiser import metrics
from denoiser.audio import replacing
from denoiser.errors import DenoiserError
from denoiser.spectral import Spectral

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADINGS = {"pesq": "PESQ", "stoi": "STOI", "si_sdr": "SI-SDR dB"}
PLOT_SECONDS = 60.0  # a figure of more shows nothing
Row = dict[str, Any]  # {"name": ..., "noisy": {metric: value}, "enhanced": {metric: value}}


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


def scores_table(summary: Mapping[str, Any]) -> str:
    """Noisy, enhanced and their difference, means over files."""
    names = list(summary["noisy"])
    noisy, enhanced = summary["noisy"], summary["enhanced"]
    lines = [
        ["noisy", *(number(m, noisy[m]) for m in names)],
        ["enhanced", *(number(m, enhanced[m]) for m in names)],
        ["difference", *(number(m, enhanced[m] - noisy[m], sign=True) for m in names)],
    ]
    text = table([f"mean of {summary['n']} files", *(HEADINGS[m] for m in names)], lines)
    for metric, count in summary["undefined"].items():
        missing = metrics.missing_package(metric)
        why = f'install it by: pip install "denoiser[metrics]" ({missing})' if missing else "no speech found"
        text += f"\n{HEADINGS[metric]}: not defined for {count} of {summary['n']} files ({why})"
    return text


def write_scores(rows: Sequence[Row], folder: Path, **facts: Any) -> dict[str, Any]:
    """Write ``scores.csv`` (a row per file) and ``scores.json`` (means, versions, ``facts``); returns the summary."""
    summary = summarise(rows)
    names = list(summary["noisy"])
    with replacing(folder / "scores.csv") as partial, open(partial, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(f"{kind}_{m}" for kind in ("noisy", "enhanced") for m in names)])
        for row in rows:
            writer.writerow([row["name"], *(f"{row[kind][m]:.6g}" for kind in ("noisy", "enhanced") for m in names)])
    plain = json.loads(json.dumps({**summary, "versions": versions(), **facts}), parse_constant=lambda _: None)
    with replacing(folder / "scores.json") as partial:
        partial.write_text(json.dumps(plain, indent=2) + "\n")
    return summary


def versions() -> dict[str, str]:
    """Of the packages that decide a number."""
    found = {}
    for package in ("denoiser", "torch", "torchaudio", "pytorch-lightning", "torchmetrics", "pesq", "pystoi"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def number(metric: str, value: float, sign: bool = False) -> str:
    if not math.isfinite(value):
        return "n/a"
    digits = {"stoi": 3}.get(metric, 2)
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
    window = max(16, round(0.032 * sample_rate / 2) * 2)
    spectral = Spectral(sample_rate, window, window // 4)
    decibels = {name: 20 * torch.log10(spectral.stft(w).abs().clamp(min=1e-10)) for name, w in shown.items()}
    top = max(-60.0, *(float(d.max()) for d in decibels.values()))  # silence is to look like silence
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
            decibels[name].numpy() - top, origin="lower", aspect="auto", cmap="magma", vmin=-80, vmax=0,
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


def save_figure(path: Path, fig: Figure) -> None:
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a title in another script shows boxes
    with replacing(path) as partial:
        fig.savefig(partial, format="png", dpi=110)
