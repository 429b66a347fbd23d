"""One sample rate to another."""

from __future__ import annotations

import functools
import math
from fractions import Fraction

import torch
from torch import Tensor

from denoiser.errors import AudioError

_CROSSINGS = 16  # zero crossings of the sinc on each side
_ROLLOFF = 0.99  # cut-off, as a share of the lower rate's half
_AT_ONCE = 16  # outputs of one place of the convolution: 48 to 16 kHz, one filter at a time, takes five times as long
_MAX_PERIOD = 1000  # the filters of one ratio take 4 bytes times its square: 4 MB


def ratio(source: int, target: int) -> tuple[int, int]:
    """``(old, new)``: so many samples at ``source`` Hz become so many at ``target`` Hz, in lowest terms.

    Where one of them would pass 1000, the nearest ratio that does not: 44100 to 44101 Hz is 1 to 1, and none is off
    by more than a thousandth. The way back is the inverse, so nothing drifts. Raises AudioError where one rate is
    more than 1000 times the other.
    """
    low, high = sorted((source, target))
    nearest = Fraction(low, high).limit_denominator(_MAX_PERIOD)
    if nearest == 0:
        raise AudioError(f"cannot resample from {source} to {target} Hz")
    old, new = nearest.denominator, nearest.numerator
    return (old, new) if target < source else (new, old)


def reach(source: int, target: int) -> int:
    """How many input samples before and after the time of an output sample have a part in it."""
    old, new = ratio(source, target)
    return 0 if old == new else math.ceil(_CROSSINGS * old / (_ROLLOFF * min(old, new)))


@functools.lru_cache(maxsize=16)
def _filters(old: int, new: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``[n * new, 1, 2 * reach + n * old]``: a filter for each output sample of ``n`` periods, :func:`_periods`."""
    from torchaudio.transforms import Resample  # 0.2 s to import, which a file at the model's rate does not need

    with torch.inference_mode(False):  # else what is kept could not be trained through later
        design = Resample(old, new, lowpass_filter_width=_CROSSINGS, rolloff=_ROLLOFF, dtype=torch.float64)
        n = _periods(new)
        shifted = [torch.nn.functional.pad(design.kernel, (i * old, (n - 1 - i) * old)) for i in range(n)]
        return torch.cat(shifted).to(device, dtype)


def _periods(new: int) -> int:
    return max(1, _AT_ONCE // new)


def resample(waveform: Tensor, source: int, target: int) -> Tensor:
    """``[..., N]`` at ``source`` Hz to ``[..., ceil(N * new / old)]`` at ``target`` Hz, without delay.

    ``old`` and ``new`` are those of :func:`ratio`. The filter is torchaudio's windowed sinc: Hann, 16 zero crossings.
    """
    old, new = ratio(source, target)
    if old == new:
        return waveform
    *leading, samples = waveform.shape
    width, step = reach(source, target), _periods(new) * old
    filters = _filters(old, new, waveform.device, waveform.dtype)
    with torch.autocast(waveform.device.type, enabled=False):
        rows = torch.nn.functional.pad(waveform.reshape(math.prod(leading), 1, samples), (width, width + step))
        out = torch.nn.functional.conv1d(rows, filters, stride=step)
    # torchaudio's own function takes the length in float32, which is off from 2**24 samples on: 6 min at 48 kHz.
    return out.transpose(1, 2).reshape(*leading, out.shape[1] * out.shape[2])[..., : -(-samples * new // old)]


def match_length(waveform: Tensor, length: int) -> Tensor:
    """Cut or zero-pad the end of ``[..., N]`` to ``[..., length]``."""
    if waveform.shape[-1] >= length:
        return waveform[..., :length]
    return torch.nn.functional.pad(waveform, (0, length - waveform.shape[-1]))
