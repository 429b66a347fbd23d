"""Waveforms as people have them - tensors or arrays, floats or integers - as the rows that the program computes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from denoiser.errors import DenoiserError

Waveform = TypeVar("Waveform", Tensor, np.ndarray)


def is_finite(samples: Tensor) -> bool:
    """Whether all are numbers: the least and the largest are NaN where any is, and take one pass, not five."""
    return not samples.numel() or all(end.isfinite() for end in torch.aminmax(samples))


def rows_of(waveform: Waveform) -> tuple[Tensor, Callable[[Tensor], Waveform]]:
    """``[..., N]`` of any kind → float32 ``[rows, N]`` in ±1, and what makes such rows the kind that was given."""
    if isinstance(waveform, Tensor):
        given: Tensor = waveform
    else:
        array = np.asarray(waveform)
        # torch takes no negative strides, as x[::-1] has
        given = torch.as_tensor(array.copy() if min(array.strides, default=0) < 0 else array)
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
    if not is_finite(rows):
        raise DenoiserError("cannot enhance a waveform that holds NaN or infinite samples")

    def restore(result: Tensor) -> Waveform:
        result = result.reshape(*given.shape[:-1], result.shape[-1]).to(given.device)
        if signed:
            # In float64: float32 rounds the largest int32 up, and it would wrap to the smallest.
            result = (result.double() * full_scale).round().clamp(-full_scale, full_scale - 1)
        result = result.to(given.dtype)
        return result if isinstance(waveform, Tensor) else result.numpy()

    return rows, restore
