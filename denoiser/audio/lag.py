"""Lag between two recordings of one sound, by cross-correlation."""

from typing import NamedTuple

import torch
from torch import Tensor

SEGMENT = 1 << 19  # samples correlated at once: 33 s at 16 kHz
LONGEST_LAG = 1.0  # seconds; a recording that is further apart is another one
LEAST_SIMILARITY = 0.2  # -14 dB of one sound in the other


class Lag(NamedTuple):
    """Samples by which a reference is later than the other recording, negative where it is earlier.

    ``similarity`` is the correlation coefficient at this lag, -1 to 1, and ``gain`` that of the reference in the other.
    """

    samples: float
    similarity: float
    gain: float

    @property
    def is_certain(self) -> bool:
        return abs(self.similarity) >= LEAST_SIMILARITY


def find_lag(reference: Tensor, other: Tensor, limit: int) -> Lag:
    """Return the lag of at most ``limit`` samples between ``[..., N]`` each, rows together; 0 for silence.

    It is measured on differences of neighbouring samples, in which a rumble counts little.
    """
    size = min(SEGMENT, reference.shape[-1]) + limit
    total, energies = torch.zeros(size, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for pair in zip(reference.split(SEGMENT, -1), other.split(SEGMENT, -1), strict=False):
        x, y = (waveform.double().diff() for waveform in pair)
        spectrum = torch.fft.rfft(x, size).conj() * torch.fft.rfft(y, size)
        total += torch.fft.irfft(spectrum, size).reshape(-1, size).sum(0)
        energies += torch.stack([x.square().sum(), y.square().sum()])
    if not energies.all():
        return Lag(0.0, 0.0, 0.0)
    # From the reference's being latest to its being earliest.
    near = torch.cat([total[-limit:], total[: limit + 1]])
    peak = int(near.abs().argmax())
    samples = float(limit - peak - _vertex(near.abs()[max(peak - 1, 0) : peak + 2]))
    value = float(near[peak])
    return Lag(samples, value / float(energies.prod().sqrt()), value / float(energies[0]))


def _vertex(around: Tensor) -> float:
    """Return the place of the top of the parabola through three values, from the middle one, to a tenth; else 0."""
    if len(around) < 3:
        return 0.0
    left, middle, right = around.tolist()
    bend = left - 2 * middle + right
    return round((left - right) / (2 * bend), 1) if bend < 0 else 0.0


def advance(waveform: Tensor, samples: float) -> Tensor:
    """Return ``[..., N]`` earlier by a number of samples that need not be whole, with zeros where it has no sound."""
    length = waveform.shape[-1]
    size = length + int(abs(samples)) + 64
    turns = torch.fft.rfftfreq(size, dtype=torch.float64) * samples
    turned = torch.fft.rfft(waveform.double(), size) * torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)
    return torch.fft.irfft(turned, size)[..., :length].to(waveform.dtype)
