"""Noises made, not recorded: coloured and band-limited noise, mains hum. One more folder to draw noises from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from denoiser import audio
from denoiser.data.noises import NOISES, shape, unit
from denoiser.data.staging import beside
from denoiser.data.voices import Array
from denoiser.errors import CorpusError

FORMAT = 2  # to be raised when other samples would come out
SECONDS = 10.0  # of each
COUNTS = {"train": 80, "val": 15, "test": 15}
SLOPES = (-2.2, 1.0)  # exponent of the power over frequency: 0 white, -1 pink, -2 brown, 1 blue
LEVEL = 0.05  # RMS; 26 dB of room for peaks


def _coloured(rng: Generator, n: int, rate: int) -> Array:
    slope = rng.uniform(*SLOPES)
    return shape(rng.standard_normal(n), rate, lambda f: np.maximum(f, 40) ** (slope / 2))


ORDER = ("coloured", "hum", "coloured", "bandlimited")
KINDS = {"coloured": _coloured, "hum": NOISES["train"]["hum"], "bandlimited": NOISES["train"]["bandlimited"]}


def write_noises(cache: Path, sample_rate: int) -> Path:
    """The folder under ``cache`` that holds them, as ``<part>/<kind>/<kind>_<number>.wav``: there, or made.

    Half are coloured, of a random slope; a quarter hum; a quarter band-limited. Always the same samples at one
    rate. Raises CorpusError where it cannot be written.
    """
    folder = cache / f"generated-{sample_rate}hz-{FORMAT}"
    if folder.is_dir():
        return folder
    try:
        with beside(folder) as new:
            for stream, (part, count) in enumerate(COUNTS.items()):
                for i in range(count):
                    kind = ORDER[i % len(ORDER)]
                    rng = np.random.default_rng([FORMAT, stream, i + 1])
                    noise = LEVEL * unit(KINDS[kind](rng, round(SECONDS * sample_rate), sample_rate))
                    path = new / part / kind / f"{kind}_{i:02d}.wav"
                    audio.write(path, torch.from_numpy(noise).float()[None], sample_rate)
            try:
                os.rename(new, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster, with the same result
                    raise
    except OSError as error:
        raise CorpusError(f"data.cache={cache}: cannot be written ({error}); name another place") from error
    return folder
