"""Pictures of waveforms and spectrograms."""

import threading
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from denoiser.audio import Reader, resample
from denoiser.errors import DenoiserError
from denoiser.filesystem import atomic_write
from denoiser.spectral import Spectral

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT_SECONDS = 60.0  # a figure of more shows nothing
RANGE = 80.0  # dB from the loudest point to black
drawing = threading.Lock()  # matplotlib is not thread-safe
POINTS = 2000  # of a waveform: a line of a million would be slow and look the same


def require() -> None:
    """Raise DenoiserError if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise DenoiserError('figures need matplotlib: pip install "denoiser[plot]"')


def figure(waveforms: Mapping[str, Tensor], sample_rate: int, title: str = "") -> "Figure":
    """Draw waveform and spectrogram of each ``[N]`` or ``[C, N]`` (first channel), side by side on one scale.

    Levels are dB below the loudest point of all. Raises DenoiserError if matplotlib is missing.
    """
    require()
    from matplotlib.figure import Figure

    limit = round(PLOT_SECONDS * sample_rate)
    shown = {name: w.detach().cpu().float().reshape(-1, w.shape[-1])[0, :limit] for name, w in waveforms.items()}
    if any(w.shape[-1] > limit for w in waveforms.values()):
        title += f" (first {PLOT_SECONDS:.0f} s)"
    levels = {name: _decibels(w, sample_rate) for name, w in shown.items()}
    # At least -60 dB, so that silence looks like silence.
    top = max(-60.0, *(float(level.max()) for level in levels.values()))
    peak = max(max(float(w.abs().max()) for w in shown.values()), 1e-6)

    fig = Figure(figsize=(5 * len(shown), 5.5), layout="constrained")
    axes = fig.subplots(2, len(shown), squeeze=False, height_ratios=[1, 2], sharex="col", sharey="row")
    for column, (name, w) in enumerate(shown.items()):
        wave, image = axes[:, column]
        seconds = len(w) / sample_rate
        step = max(1, len(w) // POINTS)
        columns = torch.nn.functional.pad(w, (0, -len(w) % step)).reshape(-1, step)
        times = torch.arange(len(columns)) * step / sample_rate
        wave.fill_between(times, columns.amin(1), columns.amax(1), linewidth=0.4)
        wave.set(title=name, ylim=(-1.05 * peak, 1.05 * peak), xlim=(0, seconds))
        scale = {"cmap": "magma", "vmin": -RANGE, "vmax": 0, "extent": (0, seconds, 0, sample_rate / 2000)}
        picture = image.imshow(levels[name].numpy() - top, origin="lower", aspect="auto", **scale)
        image.set(xlabel="seconds")
    axes[0][0].set_ylabel("amplitude")
    axes[1][0].set_ylabel("kHz")
    fig.colorbar(picture, ax=list(axes[1]), label="dB", pad=0.01)
    if title:
        # The title may be the name of a file: a $ in it begins no formula.
        fig.suptitle(title, parse_math=False)
    return fig


def _decibels(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return the levels of the spectrogram of ``[N]`` in dB, ``[F, T]``, with windows of 32 ms."""
    window = max(16, round(0.032 * sample_rate / 2) * 2)
    spectral = Spectral(sample_rate, window, window // 4)
    return 20 * torch.log10(spectral.stft(waveform).abs().clamp(min=1e-10))


def before_and_after(source: Path, target: Path, title: str = "") -> "Figure":
    """Draw the :func:`figure` of a file and its enhanced version: their first minute, in constant memory."""
    # A second more tells the figure that the files go on.
    before, after, rate = beginnings(source, target, PLOT_SECONDS + 1)
    return figure({"before": before, "after": after}, rate, title)


def beginnings(source: Path, target: Path, seconds: float) -> tuple[Tensor, Tensor, int]:
    """Return the first ``seconds`` of a file and its enhanced version, ``[C, N]`` each, and the rate of the latter."""
    with Reader(target) as reader:
        rate = reader.info.sample_rate
        after = reader.read(round(seconds * rate))
    with Reader(source) as reader:
        own_rate = reader.info.sample_rate
        before = reader.read(round(seconds * own_rate))
    # Opus and MP3 do not know every rate, so that a result may have another than its source.
    return resample(before, own_rate, rate), after, rate


def save_figure(path: Path, fig: "Figure") -> None:
    """Write a figure as PNG."""
    with atomic_write(path) as partial, warnings.catch_warnings():
        # matplotlib warns that a title in another script shows boxes.
        warnings.simplefilter("ignore", UserWarning)
        fig.savefig(partial, format="png", dpi=110)
