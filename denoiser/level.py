"""Level of a recording over time: the RMS of the seconds around each frame, divided out before the network."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR_SECONDS = 0.5  # on either side of a frame; they decide whether the past or the future resembles it
NEAR_DECIBELS = 3.0  # softness of that decision
NEAR_POWER = 0.3  # exponent of its means: a bang outweighs soft speech only while it lasts, pauses do not count much
STEP_DECIBELS = 9.0  # difference of past and future from which on they count as two sounds
STEP_SOFTNESS = 2.0  # dB


def level_over_time(power: Tensor, span: int, near: int, causal: bool) -> Tensor:
    """Return the level ``[..., T]``, RMS, of frames whose mean squares are ``[..., T]``; 0 for a silent frame.

    It is the RMS of ``span`` frames on either side, in which silent frames do not count. Where past and future differ
    by much, as when a loud voice ends and a soft one begins, it is the RMS of the one that is closer to the ``near``
    frames around; so neither voice is normalised by the other. ``causal`` takes the past alone.
    """
    is_sound = power > 0
    counts = F.pad(is_sound.double().cumsum(-1), (1, 0))
    frames = power.shape[-1]
    place = torch.arange(frames, device=power.device)

    def sums(exponent: float) -> Tensor:
        return F.pad((power.double() ** exponent).cumsum(-1), (1, 0))

    def decibels(sums: Tensor, before: int, after: int) -> Tensor:
        """Return the mean of the frames around each one; ``sums`` are those of all frames before."""
        first = (place - before).clamp(min=0)
        last = (place + after + 1).clamp(max=frames)
        total = (sums[..., last] - sums[..., first]).clamp(min=1e-300)
        return 10 * torch.log10(total / (counts[..., last] - counts[..., first]).clamp(min=1))

    plain = sums(1.0)
    level = past = decibels(plain, span, 0)
    if not causal:
        future, around = decibels(plain, 0, span), decibels(plain, span, span)
        soft = sums(NEAR_POWER)
        here, before, after = decibels(soft, near, near), decibels(soft, span, 0), decibels(soft, 0, span)
        distance = ((after - here).abs() - (before - here).abs()) / NEAR_POWER
        closer = torch.lerp(future, past, torch.sigmoid(distance / NEAR_DECIBELS))
        is_step = torch.sigmoid(((past - future).abs() - STEP_DECIBELS) / STEP_SOFTNESS)
        level = torch.lerp(around, closer, is_step)
    return torch.where(is_sound, 10 ** (level / 20), 0.0).to(power.dtype)
