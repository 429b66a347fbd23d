"""Linear-phase filters of 32 ms, each row of a batch through its own."""

from __future__ import annotations

import torch
from torch import Tensor


def lowpass(cutoff: Tensor, sample_rate: int) -> Tensor:
    """Kernels ``[B, K]``, K odd, that pass what is below the cut-offs ``[B, 1]``, Hz: a sinc under a Hamming window.

    100 Hz from pass to stop, 50 dB down there. A cut-off beyond half the sample rate gives an impulse.
    """
    half = round(0.016 * sample_rate)
    time = torch.arange(-half, half + 1, device=cutoff.device, dtype=cutoff.dtype)
    window = 0.54 + 0.46 * torch.cos(torch.pi * time / half)
    band = (2 * cutoff / sample_rate).clamp(max=1)
    return band * torch.sinc(band * time) * window


def filtered(waveform: Tensor, kernel: Tensor) -> Tensor:
    """``[..., B, N]`` through the kernels ``[B, K]``, centred: no delay, zeros beyond the ends."""
    length, taps = waveform.shape[-1], kernel.shape[-1]
    size = -(-(length + taps - 1) // 1024) * 1024  # of small factors: other transforms take up to three times as long
    spectrum = torch.fft.rfft(waveform, size) * torch.fft.rfft(kernel, size)
    return torch.fft.irfft(spectrum, size)[..., taps // 2 : taps // 2 + length]
