"""Level of a recording over time: the RMS of the seconds around each frame, divided out before the network."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR_SECONDS = 0.5  # on either side of a frame; they decide whether the past or the future resembles it
NEAR_DECIBELS = 3.0  # softness of that decision
STEP_DECIBELS = 12.0  # difference of past and future from which on they count as two sounds
STEP_SOFTNESS = 2.0  # dB


def level_over_time(power: Tensor, span: int, near: int, causal: bool) -> Tensor:
    """Return the level ``[..., T]``, RMS, of frames whose mean squares are ``[..., T]``; 0 for a silent frame.

    It is the RMS of ``span`` frames on either side, in which silent frames do not count. Where past and future differ
    by much, as when a loud voice ends and a soft one begins, it is the RMS of the one that is closer to the ``near``
    frames around; so neither voice is normalised by the other. ``causal`` takes the past alone.
    """
    is_sound = power > 0
    sums = F.pad(power.double().cumsum(-1), (1, 0))
    counts = F.pad(is_sound.double().cumsum(-1), (1, 0))
    frames = power.shape[-1]
    place = torch.arange(frames, device=power.device)

    def mean(before: int, after: int) -> Tensor:
        first = (place - before).clamp(min=0)
        last = (place + after + 1).clamp(max=frames)
        total = (sums[..., last] - sums[..., first]).clamp(min=0)
        return total / (counts[..., last] - counts[..., first]).clamp(min=1)

    past = mean(span, 0)
    if causal:
        level = past
    else:
        future, around = mean(0, span), mean(span, span)
        past_decibels, future_decibels, near_decibels = (_decibels(part) for part in (past, future, mean(near, near)))
        distance = (future_decibels - near_decibels).abs() - (past_decibels - near_decibels).abs()
        closer = torch.lerp(future_decibels, past_decibels, torch.sigmoid(distance / NEAR_DECIBELS))
        step = (past_decibels - future_decibels).abs()
        is_step = torch.sigmoid((step - STEP_DECIBELS) / STEP_SOFTNESS)
        level = 10 ** (torch.lerp(_decibels(around), closer, is_step) / 10)
    return torch.where(is_sound, level.sqrt(), 0.0).to(power.dtype)


def _decibels(power: Tensor) -> Tensor:
    return 10 * torch.log10(power.clamp(min=1e-30))
