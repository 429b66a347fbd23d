"""Active sound: the frames of speech or noise that are not a pause."""

import torch
from torch import Tensor
from torch.nn import functional as F

FRAMES_PER_SECOND = 50
ACTIVE = 1e-4  # of the loudest frame's power: a frame is active within 40 dB of it


def active_power(waveform: Tensor, sample_rate: int) -> Tensor:
    """Return the mean power of the active frames of 20 ms, 1 for full scale squared: ``[..., N]`` → ``[...]``.

    The signal-to-noise ratios of this package are ratios of active powers, so that a pause in the speech does not make
    it count as quieter. The last frame may be shorter.
    """
    size = sample_rate // FRAMES_PER_SECOND
    missing = -waveform.shape[-1] % size
    energy = F.pad(waveform, (0, missing)).unflatten(-1, (-1, size)).square().sum(-1)
    counts = torch.full(energy.shape[-1:], size, dtype=waveform.dtype, device=waveform.device)
    counts[-1] -= missing
    power = energy / counts
    active = power >= ACTIVE * power.amax(-1, keepdim=True)
    return (energy * active).sum(-1) / (counts * active).sum(-1)


def amplitude(decibels: Tensor) -> Tensor:
    """Convert decibels to a factor of the amplitude."""
    return 10 ** (decibels / 20)
