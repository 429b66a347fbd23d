"""Waveforms of any type and shape ↔ float32 rows in ±1."""

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from denoiser.audio import peak
from denoiser.errors import DenoiserError

Waveform = TypeVar("Waveform", Tensor, np.ndarray)


def rows_of(waveform: Waveform) -> tuple[Tensor, Callable[[Tensor], Waveform]]:
    """Return ``[..., N]`` of any type as float32 ``[rows, N]`` in ±1, and a function that turns such rows back.

    Raises DenoiserError for a shape, type or value that is no waveform's.
    """
    if isinstance(waveform, Tensor):
        given: Tensor = waveform
    else:
        # A copy in order where need be: torch takes no negative strides, as x[::-1] has.
        given = torch.as_tensor(np.asarray(waveform, order="C"))
    if given.ndim == 0:
        raise DenoiserError("cannot enhance a single number; expected a waveform [..., samples]")
    if given.ndim == 2 and given.shape[0] >= 1000 > given.shape[1]:
        raise DenoiserError(
            f"cannot enhance a waveform of shape {list(given.shape)}: expected [channels, samples]; "
            "soundfile reads [samples, channels], so give its transpose"
        )
    signed = given.dtype in (torch.int16, torch.int32)
    if not (signed or given.is_floating_point()):
        raise DenoiserError(f"cannot enhance a waveform of {given.dtype}; give floats, int16 or int32")
    full_scale = -float(torch.iinfo(given.dtype).min) if signed else 1.0
    rows = given.float().reshape(math.prod(given.shape[:-1]), given.shape[-1]) / full_scale
    if not math.isfinite(peak(rows)):
        raise DenoiserError("cannot enhance a waveform that holds NaN or infinite samples")

    def restore(result: Tensor) -> Waveform:
        result = result.reshape(*given.shape[:-1], result.shape[-1]).to(given.device)
        if signed:
            # In float64, because float32 rounds the largest int32 up, which would wrap around to the smallest.
            result = (result.double() * full_scale).round().clamp(-full_scale, full_scale - 1)
        result = result.to(given.dtype)
        return result if isinstance(waveform, Tensor) else result.numpy()

    return rows, restore
