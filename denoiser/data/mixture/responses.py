"""Frequency responses of microphones and transmission channels, as short filters."""

import math

import torch
from torch import Tensor

SECONDS = 0.064  # of a filter; a high-pass at 50 Hz has decayed by 120 dB


def microphone(coefficients: Tensor, sample_rate: int) -> Tensor:
    """Return second-order filters: coefficients ``[B, 4]`` (b1, b2, a1, a2) → complex ``[B, F]``.

    H(z) = (1 + b1 z⁻¹ + b2 z⁻²) / (1 + a1 z⁻¹ + a2 z⁻²), as in the training of RNNoise (Valin 2018). Zeros: no filter.
    """
    z = torch.exp(2j * math.pi * frequencies(sample_rate, coefficients.device) / sample_rate)
    b1, b2, a1, a2 = coefficients[..., None].unbind(-2)
    return (1 + b1 / z + b2 / z**2) / (1 + a1 / z + a2 / z**2)


def channel(edges: Tensor, sample_rate: int) -> Tensor:
    """Return Butterworth band-passes, second order below, eighth above: edges in Hz ``[B, 2]`` → complex ``[B, F]``."""
    f = frequencies(sample_rate, edges.device).clamp(min=1)  # Hz: an open channel passes an offset too
    low, high = edges[..., None].unbind(-2)
    response, s = highpass(low, 2, f), 1j * f / high
    for k in (1, 3, 5, 7):
        response = response / (s**2 + 2 * math.sin(k * math.pi / 16) * s + 1)
    return response


def highpass(edges: Tensor, order: int, f: Tensor) -> Tensor:
    """Return Butterworth high-passes of even order: edges in Hz ``[B, 1]`` and frequencies ``[F]`` → ``[B, F]``."""
    s = 1j * f.clamp(min=1) / edges.clamp(min=1e-6)
    sections = [s**2 / (s**2 + 2 * math.sin(k * math.pi / (2 * order)) * s + 1) for k in range(1, order, 2)]
    return torch.stack(sections).prod(0)


def frequencies(sample_rate: int, device: torch.device) -> Tensor:
    """Return the frequencies in Hz that a response ``[..., F]`` is given at."""
    return torch.fft.rfftfreq(round(SECONDS * sample_rate), 1 / sample_rate, device=device)


def at_size(response: Tensor, size: int) -> Tensor:
    """Return a response ``[B, F]`` at the bins of a transform of ``size`` samples."""
    return torch.fft.rfft(torch.fft.irfft(response), size)
