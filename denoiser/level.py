"""Level of a recording over time: the RMS of the sound around each frame, divided out before the network."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR_SECONDS = 0.8  # of the past or of the future, which tell the loudness of a moment
NEAR_PAST_SECONDS = 0.3  # of the past alone, for a causal network
HERE_PARTS = 3  # the moment itself is this part of it, on either side
HERE_SOFTNESS = 1.0  # dB, of the choice between past and future
LOUDER_DECIBELS = 6.0  # from which on another frame is another sound
OTHER_DECIBELS = 20.0  # likewise of the past alone, louder or softer: a pause must not forget the speech before it
LOUDER_SOFTNESS = 0.5  # dB
AT_ONCE = 4096  # frames; limits memory


def level_over_time(power: Tensor, span: int, near: int, causal: bool, earlier: int = 0) -> Tensor:
    """Return the level ``[..., T - earlier]``, RMS, of frames of mean squares ``[..., T]``; 0 for a silent frame.

    The first ``earlier`` frames are only the past of the others.

    It is the RMS of ``span`` frames on either side, without those that are silent, and without those whose loudness is
    above that of the frame: a soft voice is not normalised by a loud one before or after it. ``causal`` takes the past
    alone, without frames far louder or far softer than the last ``near`` ones. ``near`` frames tell the loudness, see
    :func:`loudness`.
    """
    is_sound = power > 0
    decibels = loudness(power, near, causal)
    compared = _decibels(power) if causal else decibels
    limit = OTHER_DECIBELS if causal else LOUDER_DECIBELS
    after = 0 if causal else span
    size = span + 1 + after
    # The windows of the earlier frames are left out before they are laid out, which an exported step pays for.
    sounds, powers, others = (
        F.pad(each, (span, after))[..., earlier:].unfold(-1, size, 1) for each in (is_sound, power, compared)
    )
    is_sound, decibels = is_sound[..., earlier:], decibels[..., earlier:]
    parts = []
    for first in range(0, decibels.shape[-1], AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        apart = others[..., rows, :] - decibels[..., rows, None]
        if causal:
            apart = apart.abs()
        weight = torch.sigmoid((limit - apart) / LOUDER_SOFTNESS) * sounds[..., rows, :]
        parts.append((weight * powers[..., rows, :]).sum(-1) / weight.sum(-1).clamp(min=0.5))
    return torch.where(is_sound, torch.cat(parts, dim=-1).sqrt(), 0.0)


def plain_level(power: Tensor, span: int) -> Tensor:
    """Return the RMS ``[..., T]`` of ``span`` frames on either side, of all that are not silent."""
    return _Means(power)(span, span).sqrt().to(power.dtype)


def loudness(power: Tensor, near: int, causal: bool) -> Tensor:
    """Return the loudness ``[..., T]`` of the moment of each frame, dB.

    It is the mean of the ``near`` frames before or after, whichever is closer to the mean of a few frames on both
    sides, so steps in it stay steps; ``causal``, of those before.
    """
    mean = _Means(power)
    past = _decibels(mean(near, 0))
    if causal:
        return past.to(power.dtype)
    here = near // HERE_PARTS
    future, around = _decibels(mean(0, near)), _decibels(mean(here, here))
    nearer = ((future - around).abs() - (past - around).abs()) / HERE_SOFTNESS
    return torch.lerp(future, past, torch.sigmoid(nearer)).to(power.dtype)


def _decibels(power: Tensor) -> Tensor:
    return 10 * torch.log10(power.clamp(min=1e-30))


class _Means:
    """Means of mean squares ``[..., T]`` over the frames around each one, of those that are not silent."""

    def __init__(self, power: Tensor) -> None:
        # Running sums lose the small differences of large numbers, so they need double precision.
        self.sums, self.counts = (F.pad(each.double().cumsum(-1), (1, 0)) for each in (power, power > 0))
        self.place = torch.arange(power.shape[-1], device=power.device)

    def __call__(self, before: int, after: int) -> Tensor:
        """Return the means over so many frames ``before`` and ``after`` each frame and itself, 0 for silence."""
        first = (self.place - before).clamp(min=0)
        last = (self.place + after + 1).clamp(max=self.place.shape[-1])
        count = self.counts[..., last] - self.counts[..., first]
        return (self.sums[..., last] - self.sums[..., first]).clamp(min=0) / count.clamp(min=1)
