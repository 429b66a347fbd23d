"""Resampling by a windowed sinc."""

import functools
import math
from fractions import Fraction

import torch
from torch import Tensor

from denoiser.errors import AudioError

_CROSSINGS = 16  # zero crossings of the sinc on each side
_ROLLOFF = 0.99  # cut-off, as a share of the lower rate's half


def ratio(source: int, target: int) -> tuple[int, int]:
    """Return ``(old, new)`` in lowest terms: ``old`` samples at ``source`` Hz become ``new`` at ``target`` Hz.

    Neither passes 1000; this is the nearest such ratio, off by at most a thousandth: 44100 to 44101 Hz is 1 to 1. The
    way back is the inverse, so nothing drifts. Raises AudioError if one rate is more than 1000 times the other.
    """
    low, high = sorted((source, target))
    # The filters of a ratio take 4 bytes times its square: 4 MB.
    nearest = Fraction(low, high).limit_denominator(1000)
    if nearest == 0:
        raise AudioError(f"cannot resample from {source} to {target} Hz")
    old, new = nearest.denominator, nearest.numerator
    return (old, new) if target < source else (new, old)


def reach(source: int, target: int) -> int:
    """Return the number of input samples on either side of an output sample that it depends on."""
    old, new = ratio(source, target)
    if old == new:
        return 0
    return math.ceil(_CROSSINGS * old / (_ROLLOFF * min(old, new)))


@functools.lru_cache(maxsize=16)
def _filters(old: int, new: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Return filters for the output of ``n`` periods, ``[n * new, 1, 2 * reach + n * old]``, and their step n * old."""
    # Imported here: it takes 0.2 s, and a file at the model's rate does not need it.
    from torchaudio.transforms import Resample

    # Tensors made in inference mode could not be trained through later.
    with torch.inference_mode(False):
        design = Resample(old, new, lowpass_filter_width=_CROSSINGS, rolloff=_ROLLOFF, dtype=torch.float64)
        # 48 to 16 kHz takes five times as long with one output sample per position of the convolution.
        n = max(1, 16 // new)
        shifted = [torch.nn.functional.pad(design.kernel, (i * old, (n - 1 - i) * old)) for i in range(n)]
        return torch.cat(shifted).to(device, dtype), n * old


def resample(waveform: Tensor, source: int, target: int, edge: str = "constant") -> Tensor:
    """Resample ``[..., N]`` at ``source`` Hz to ``[..., ceil(N * new / old)]`` at ``target`` Hz, without delay.

    ``old`` and ``new`` are those of :func:`ratio`. Beyond the ends lie zeros, or with ``edge="replicate"`` the first
    and the last sample. The filter is torchaudio's windowed sinc: Hann, 16 zero crossings.
    """
    old, new = ratio(source, target)
    if old == new:
        return waveform
    *leading, samples = waveform.shape
    width = reach(source, target)
    filters, step = _filters(old, new, waveform.device, waveform.dtype)
    with torch.autocast(waveform.device.type, enabled=False):
        rows = torch.nn.functional.pad(waveform.reshape(math.prod(leading), 1, samples), (width, width + step), edge)
        out = torch.nn.functional.conv1d(rows, filters, stride=step)
    # In whole numbers: torchaudio's own function uses float32, which is off beyond 2**24 samples, 6 min at 48 kHz.
    length = -(-samples * new // old)
    return out.transpose(1, 2).reshape(*leading, out.shape[1] * out.shape[2])[..., :length]


def match_length(waveform: Tensor, length: int) -> Tensor:
    """Cut or zero-pad the end of ``[..., N]`` to ``[..., length]``."""
    return torch.nn.functional.pad(waveform, (0, length - waveform.shape[-1]))
