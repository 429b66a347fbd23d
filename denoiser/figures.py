"""Waveforms and spectrograms as pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from denoiser.audio import Reader
from denoiser.errors import DenoiserError
from denoiser.filesystem import atomic_write
from denoiser.spectral import Spectral

PLOT_SECONDS = 60.0  # a figure of more shows nothing


if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
