"""Folder of synthetic noises for mixtures: coloured noise, hum, machines, weather, keys, music, tones."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from denoiser import audio
from denoiser.data.synthesis.noises import NOISES, Noise, shape, unit, wander
from denoiser.data.synthesis.voices import Array
from denoiser.errors import CorpusError
from denoiser.filesystem import atomic_folder

FORMAT = 5  # raised when other samples would come out
SECONDS = 10.0  # of each
COUNTS = {"train": 144, "val": 24, "test": 24}
SLOPES = (-2.2, 1.0)  # exponent of the power over frequency: 0 white, -1 pink, -2 brown, 1 blue
LEVEL = 0.05  # RMS; 26 dB of room for peaks


def _coloured(rng: Generator, n: int, rate: int) -> Array:
    slope = rng.uniform(*SLOPES)
    return shape(rng.standard_normal(n), rate, lambda f: np.maximum(f, 40) ** (slope / 2))


def _music(rng: Generator, n: int, rate: int) -> Array:
    """Return a bass, chords of three, a melody and a beat, of one key, tempo and two timbres; plucked or held."""
    beat = int(rate * 60 / rng.uniform(70, 150))
    root = 110 * 2 ** (rng.integers(12) / 12)
    scale = np.array([[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10]][rng.integers(2)])
    timbres = np.arange(1, 13) ** -rng.uniform(0.5, 2, (2, 1)) * rng.lognormal(0, 0.5, (2, 12))
    decay = rng.uniform(0.2, 2)
    t = np.arange(2 * beat) / rate
    rise = np.minimum(t / 0.01, 1) * np.minimum((t[-1] - t) / 0.05, 1)
    piece = np.zeros(n + 3 * beat)
    drum = rng.uniform(0, 1.5)

    def play(start: int, degree: int, octave: int, timbre: Array, loudness: float) -> None:
        semitones = scale[degree % 7] + 12 * (degree // 7 + octave)
        pitch = root * 2 ** (semitones / 12)
        partials = pitch * np.arange(1, 13)
        waves = np.sin(2 * np.pi * partials[:, None] * t + rng.uniform(0, 2 * np.pi, (12, 1)))
        heard = timbre * (partials < 0.45 * rate)
        piece[start : start + len(t)] += loudness * unit(heard @ waves) * rise * np.exp(-t / decay)

    for start in range(0, n, beat):
        degree = int(rng.choice([0, 3, 4, 5]))
        play(start, degree, -1, timbres[0], 1)
        for third in (0, 2, 4):
            play(start, degree + third, 0, timbres[0], 0.6)
        if rng.random() < 0.7:
            play(start + beat * int(rng.integers(2)) // 2, int(rng.integers(7)), 1, timbres[1], 1)
        piece[start : start + len(t)] += drum * rng.standard_normal(len(t)) * np.exp(-t / 0.03)
    return piece[:n]


def _rumble(rng: Generator, n: int, rate: int) -> Array:
    """Return the rumble inside a vehicle or a building, falling from 25 to 80 Hz on, with a little air."""
    corner, slope = rng.uniform(25, 80), rng.uniform(1, 2.5)

    def low(f: Array) -> Array:
        octaves = f / corner
        return octaves**2 / (1 + octaves ** (2 + slope))

    body = unit(shape(rng.standard_normal(n), rate, low))
    air = unit(shape(rng.standard_normal(n), rate, lambda f: 1 / (1 + f / 500)))
    return np.exp(0.2 * wander(rng, n, rate, 2)) * (body + 10 ** rng.uniform(-2, -0.5) * air)


def _crowd(rng: Generator, n: int, rate: int) -> Array:
    """Return the sound of a crowd: no word is heard, but octaves rise and fall as syllables do."""
    corner, slope = rng.uniform(300, 1200), rng.uniform(0.8, 1.8)
    crowd = np.zeros(n)
    for low, high in pairwise(37.5 * 2.0 ** np.arange(9)):
        octave = unit(shape(rng.standard_normal(n), rate, lambda f: (f >= low) & (f < high)))  # noqa: B023
        level = (1 + low / corner) ** -slope * np.exp(rng.uniform(0.1, 0.5) * wander(rng, n, rate, rng.uniform(2, 5)))
        crowd += level * octave
    return crowd


def _tones(rng: Generator, n: int, rate: int) -> Array:
    """Return one to three pure tones at once, as of a telephone or an alarm: held, or in beeps, over a faint hiss."""
    seconds = np.arange(n) / rate
    tones = np.zeros(n)
    for _ in range(rng.integers(1, 4)):
        hertz = 300 * 10 ** rng.uniform(0, 1)
        tones += rng.uniform(0.3, 1) * np.sin(2 * np.pi * (hertz * seconds + rng.random()))
    if rng.random() < 0.5:
        turns = seconds / rng.uniform(0.2, 4) + rng.random()
        sounds = turns % 1 < rng.uniform(0.2, 0.8)
        fade = round(0.005 * rate)
        tones *= np.convolve(sounds, np.ones(fade) / fade, "same")
    return tones + 10 ** rng.uniform(-4, -1.5) * rng.standard_normal(n)


KINDS: dict[str, Noise] = {"coloured": _coloured, "crowd": _crowd, "music": _music, "rumble": _rumble, "tones": _tones}
KINDS |= {kind: NOISES["train"][kind] for kind in ("hum", "bandlimited", "engine", "rain", "clicks", "gusts")}
KINDS |= {kind: NOISES["test"][kind] for kind in ("traffic", "fan")}
ORDER = (
    "coloured rumble music engine crowd fan tones coloured hum clicks rumble crowd gusts traffic rain tones music "
    "bandlimited"
).split()


def write_noises(cache: Path, sample_rate: int) -> Path:
    """Return the folder of the noises under ``cache``, ``<part>/<kind>/<kind>_<number>.wav``; write it if need be.

    Always the same samples at one rate. Raises CorpusError where the folder cannot be written.
    """
    folder = cache / f"generated-{sample_rate}hz-{FORMAT}"
    if folder.is_dir():
        return folder
    try:
        with atomic_folder(folder) as new:
            for stream, (part, count) in enumerate(COUNTS.items()):
                for i in range(count):
                    kind = ORDER[i % len(ORDER)]
                    rng = np.random.default_rng([FORMAT, stream, i + 1])
                    noise = LEVEL * unit(KINDS[kind](rng, round(SECONDS * sample_rate), sample_rate))
                    noise /= max(1.0, np.abs(noise).max())  # a key's click may stand out by more than 26 dB
                    path = new / part / kind / f"{kind}_{i:02d}.wav"
                    audio.write(path, torch.from_numpy(noise).float()[None], sample_rate)
            os.rename(new, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, with the same result
            raise CorpusError(f"data.cache={cache}: cannot be written ({error}); name another place") from error
    return folder
