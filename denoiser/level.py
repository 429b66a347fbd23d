"""Level of a recording over time: the RMS of the sound around each frame, divided out before the network."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR_SECONDS = 0.8  # of the past or of the future, which tell the loudness of a moment
HERE_PARTS = 3  # the moment itself is this part of it, on either side
HERE_SOFTNESS = 1.0  # dB, of the choice between past and future
LOUDER_DECIBELS = 6.0  # from which on another frame is another sound
LOUDER_SOFTNESS = 0.5  # dB
AT_ONCE = 4096  # frames; limits memory


def level_over_time(power: Tensor, span: int, near: int, causal: bool) -> Tensor:
    """Return the level ``[..., T]``, RMS, of frames whose mean squares are ``[..., T]``; 0 for a silent frame.

    It is the RMS of ``span`` frames on either side, without those that are silent, and without those whose
    :func:`loudness` is above that of the frame: a soft voice is not normalised by a loud one before or after it.
    ``causal`` takes the past alone, and all of its frames.
    """
    is_sound = power > 0
    if causal:
        past = _Means(power, is_sound)
        return torch.where(is_sound, past(span, 0).sqrt(), 0.0).to(power.dtype)
    decibels = loudness(power, near)
    sizes = (span, span)
    sounds, powers, others = (F.pad(each, sizes).unfold(-1, 2 * span + 1, 1) for each in (is_sound, power, decibels))
    parts = []
    for first in range(0, power.shape[-1], AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        louder = others[..., rows, :] - decibels[..., rows, None]
        weight = torch.sigmoid((LOUDER_DECIBELS - louder) / LOUDER_SOFTNESS) * sounds[..., rows, :]
        parts.append((weight * powers[..., rows, :]).sum(-1) / weight.sum(-1).clamp(min=0.5))
    return torch.where(is_sound, torch.cat(parts, dim=-1).sqrt(), 0.0)


def plain_level(power: Tensor, span: int) -> Tensor:
    """Return the RMS ``[..., T]`` of ``span`` frames on either side, of all that are not silent."""
    return _Means(power, power > 0)(span, span).sqrt().to(power.dtype)


def loudness(power: Tensor, near: int) -> Tensor:
    """Return the loudness ``[..., T]`` of the moment of each frame, dB: steps in it stay steps.

    It is the mean of the ``near`` frames before or after, whichever is closer to the mean of a few frames on both
    sides.
    """
    mean = _Means(power, power > 0)
    here = near // HERE_PARTS
    past, future, around = (
        10 * torch.log10(mean(*sizes).clamp(min=1e-30)) for sizes in ((near, 0), (0, near), (here, here))
    )
    nearer = ((future - around).abs() - (past - around).abs()) / HERE_SOFTNESS
    return torch.lerp(future, past, torch.sigmoid(nearer)).to(power.dtype)


class _Means:
    """Means of values ``[..., T]`` over the frames around each one, of those alone that count."""

    def __init__(self, values: Tensor, counted: Tensor) -> None:
        # Running sums lose the small differences of large numbers, so they need double precision.
        self.sums, self.counts = (F.pad(each.double().cumsum(-1), (1, 0)) for each in (values, counted))
        self.place = torch.arange(values.shape[-1], device=values.device)

    def __call__(self, before: int, after: int) -> Tensor:
        """Return the means over so many frames ``before`` and ``after`` each frame and itself, 0 where none counts."""
        first = (self.place - before).clamp(min=0)
        last = (self.place + after + 1).clamp(max=self.place.shape[-1])
        count = self.counts[..., last] - self.counts[..., first]
        return (self.sums[..., last] - self.sums[..., first]).clamp(min=0) / count.clamp(min=1)
