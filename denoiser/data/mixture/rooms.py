"""Impulse responses of rooms, simulated or measured, and the part of them that a clean target keeps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from denoiser import audio
from denoiser.audio.resampling import match_length
from denoiser.data.pairs import refuse
from denoiser.errors import AudioError

SECONDS = 0.5  # of a response that are kept; a room of 0.7 s has decayed by 43 dB
SOUND = 343.0  # m/s
IMAGES = 0.06  # s after the direct sound in which reflections are single; later they are noise
SIDES = ((3.0, 10.0), (3.0, 8.0), (2.4, 4.0))  # m, of a room
RT60 = (0.15, 0.7)  # s until sound has decayed by 60 dB: a furnished bedroom to a bare office
NEAREST, WALL = 0.3, 0.5  # m between talker and microphone, and of both from any wall, at least
TARGET_SECONDS = {"direct": 0.0025, "early": 0.05, "all": SECONDS}  # of a response that a target of this name keeps
TAPS = 20  # of the interpolating sinc, on each side

Array = NDArray[np.float64]


def simulate(rng: Generator, sample_rate: int) -> Array:
    """Return the impulse response ``[N]`` of a random shoebox room, with a direct sound of 1 at sample 0.

    Until 60 ms after the direct sound, image sources (Allen & Berkley 1979), with walls that all absorb as much as
    gives the room its RT60 by Eyring's formula, and negative reflection coefficients, which avoid the low-frequency
    swell of positive ones (Lehmann & Johansson 2008). Then Gaussian noise that decays exponentially (Polack 1988) from
    the level that images of the density 4πc³t²/V have there.
    """
    sides = np.array([rng.uniform(*span) for span in SIDES])
    rt60 = rng.uniform(*RT60)
    distance = 0.0
    while distance < NEAREST:
        source, microphone = rng.uniform(WALL, sides - WALL, (2, 3))
        distance = float(np.linalg.norm(source - microphone))
    volume = float(sides.prod())
    surface = 2 * volume * float((1 / sides).sum())
    reflection = -np.exp(-0.161 * volume / (surface * rt60) / 2)  # α = 1 - β² = 1 - exp(-0.161 V / (S RT60))

    response = np.zeros(round(SECONDS * sample_rate))
    delays, gains = _images(sides, source, microphone, reflection)
    _add_pulses(response, delays * sample_rate, gains)

    time = np.arange(len(response)) / sample_rate
    decay = 10 ** (-6 * (time + distance / SOUND) / rt60)
    power = 4 * np.pi * SOUND * distance**2 / volume / sample_rate * decay
    late = time >= IMAGES
    response[late] = rng.standard_normal(int(late.sum())) * np.sqrt(power[late])
    return response


def _images(sides: Array, source: Array, microphone: Array, reflection: float) -> tuple[Array, Array]:
    """Return the delays in seconds after the direct sound, and the gains relative to it, of all early reflections."""
    distance = float(np.linalg.norm(source - microphone))
    farthest = distance + IMAGES * SOUND
    axes, bounces = [], []  # per dimension: positions of the images, and how often their sound met a wall
    for side, at, ear in zip(sides, source, microphone, strict=True):
        order = np.arange(-int(farthest / side / 2) - 1, int(farthest / side / 2) + 2)
        axes.append(np.concatenate([2 * order * side + at, 2 * order * side - at]) - ear)
        bounces.append(np.concatenate([2 * np.abs(order), np.abs(2 * order - 1)]))
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    i, j, k = np.meshgrid(*bounces, indexing="ij", sparse=True)
    paths = np.sqrt(x**2 + y**2 + z**2).ravel()
    gains = (distance / paths) * (reflection ** (i + j + k)).ravel()
    early = paths < farthest
    return (paths[early] - distance) / SOUND, gains[early]


def _add_pulses(response: Array, delays: Array, gains: Array) -> None:
    """Add a band-limited pulse at each of the delays, which are in samples and need not be whole."""
    whole = np.round(delays).astype(int)
    taps = np.arange(-TAPS, TAPS + 1)
    offset = taps - (delays - whole)[:, None]
    window = np.cos(np.pi * offset / (2 * TAPS + 2)) ** 2
    values = gains[:, None] * np.sinc(offset) * window
    places = whole[:, None] + taps
    inside = (places >= 0) & (places < len(response))  # the sinc of an early reflection begins before the direct sound
    response += np.bincount(places[inside], values[inside], len(response))


def simulated(count: int, sample_rate: int, seed: Sequence[int]) -> Tensor:
    """Return random rooms ``[count, N]``, some 5 ms of work each, drawn from ``seed``."""
    rooms = [simulate(np.random.default_rng([*seed, i + 1]), sample_rate) for i in range(count)]
    return torch.stack([_finish(torch.from_numpy(room), sample_rate) for room in rooms])


def measured(files: Sequence[Path], sample_rate: int) -> tuple[Tensor, list[float]]:
    """Return the impulse responses in these files, ``[responses, N]``, every channel one, and their bandwidths in Hz.

    They begin with the direct sound, the first sample within 6 dB of the largest. Raises CorpusError for files that are
    silent or not readable.
    """
    responses, bandwidths, problems = [], [], []
    for path in files:
        try:
            channels, rate = audio.read(path)
        except AudioError as error:
            problems.append(str(error))
            continue
        for response in audio.resample(channels, rate, sample_rate).double():
            size = response.abs()
            if not size.any():
                problems.append(f"{path}: silent, no room impulse response")
                break
            direct = int((size > size.max() / 2).nonzero()[0])
            responses.append(_finish(response[direct:], sample_rate))
            bandwidths.append(min(rate, sample_rate) / 2)
    refuse(problems)
    return torch.stack(responses), bandwidths


def target_part(responses: Tensor, target: str, sample_rate: int) -> Tensor:
    """Return the part of ``[rooms, N]`` that a target keeps: ``direct``, with ``early`` reflections, or ``all``."""
    if target == "all":
        return responses
    # It ends in half a cosine, a tenth of its length.
    seconds = TARGET_SECONDS[target]
    time = torch.arange(responses.shape[-1], dtype=responses.dtype, device=responses.device) / sample_rate
    falling = ((time - 0.9 * seconds) / (0.1 * seconds)).clamp(0, 1)
    return responses * (0.5 + 0.5 * torch.cos(torch.pi * falling))


def _finish(response: Tensor, sample_rate: int) -> Tensor:
    """Return float32, :data:`SECONDS` long, its end faded; early sound of unit energy, so a room changes no level."""
    response = match_length(response, round(SECONDS * sample_rate)).clone()
    fade = len(response) // 10
    response[-fade:] *= torch.linspace(1, 0, fade, dtype=response.dtype)
    return (response / torch.linalg.vector_norm(target_part(response, "early", sample_rate))).float()
