"""A checkpoint as something that may come from a stranger: what has to hold before anything is made of it.

Nothing in it is ever executed; and nothing that it says makes this program take much more memory than it has bytes:
the archive is not packed, settings are plain values, tensors hold no more than the file does, and a network is
described in numbers that a network has. :func:`fits` builds it without memory first.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

MAX_PICKLE = 1 << 23  # bytes of the part that is no tensor: 20 kB as training writes it; in memory 60 times that
MAX_DEPTH, MAX_VALUES, MAX_TEXT = 16, 10_000, 10_000  # of settings: nesting, values, characters of a text
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
MAX_GROWTH = 4096  # values of one tensor inside the network per value that goes in; unet10 has 32, dualpath 48
MAX_BLOCK = 1 << 28  # values of one tensor inside the network, for the shortest block that it can be run on: 1 GB


def check_archive(path: Path) -> None:
    """Raise ValueError unless the file is a ZIP of parts that are not packed: a few bytes could become any number."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ValueError("damaged") from error
    names = [part.filename for part in parts]
    if len(set(names)) < len(names) or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("damaged, or packed by another program")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("damaged: its parts claim to be larger than all of it")
    if any(part.filename.endswith(".pkl") and part.file_size > MAX_PICKLE for part in parts):
        raise ValueError(f"over {MAX_PICKLE >> 20} MB of values beside its tensors")


def check_settings(settings: Any) -> None:
    """Raise ValueError unless this is a tree of dicts and lists of numbers and texts, of a size that settings have."""
    waiting, count = [(settings, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ValueError("its settings are nested too deeply, or too many")
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise ValueError("a name that is no text among its settings")
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            if len(value) > MAX_TEXT:
                raise ValueError(f"a text of {len(value)} characters among its settings")
        elif value is not None and type(value) not in (bool, int, float):
            raise ValueError(f"a {type(value).__name__} among its settings")
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise ValueError("a whole number of more than 64 bits among its settings")


def check_weights(weights: Any, size: int) -> None:
    """Raise ValueError unless this maps names to plain tensors of finite numbers, which a file of ``size`` bytes holds.

    A tensor can be one number that is read again and again, or sparse: a terabyte in a hundred bytes.
    """
    if not isinstance(weights, Mapping):
        raise ValueError("no weights in it")
    total = 0
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError("something else than weights among its weights")
        usual = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
        if not usual or value.dtype not in _DTYPES:
            raise ValueError(f"weights {name} of a kind that no network here has")
        total += value.numel() * value.element_size()
        if total > size:
            raise ValueError("its weights claim to be larger than the file")
        if not torch.isfinite(value).all():
            raise ValueError(f"weights {name} that are NaN or infinite")


def fits(net: nn.Module, inputs: int, bins: int) -> float:
    """Values of the largest tensor in ``net``, on ``meta``, per value that goes in; ValueError where it is absurd.

    The network is of no use afterwards.

    So little memory may describe so much: a 1x1 convolution to a million channels has two million weights.
    """
    for part in net.modules():
        if isinstance(part, nn.GRU):  # which torch would take apart into operators of one frame each
            part.forward = partial(_recurrence, part)  # type: ignore[method-assign]
    frames = int(net.stride)  # type: ignore[arg-type]
    with torch.no_grad(), _Largest() as largest:
        net(torch.empty(1, inputs, bins, frames, device="meta"))
    growth = largest.values / (bins * frames)
    shortest = (2 * int(net.context) + int(net.stride)) * bins * growth  # type: ignore[arg-type]
    if growth > MAX_GROWTH or shortest > MAX_BLOCK:
        raise ValueError(f"a network that would take {max(growth * bins * frames, shortest) * 4 / 1e9:.1f} GB at once")
    return growth


def _recurrence(gru: nn.GRU, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The sizes of what a GRU makes of ``[R, T, D]``, its three gates among them."""
    directions = 2 if gru.bidirectional else 1
    made = x.new_empty(*x.shape[:-1], 3 * gru.hidden_size * directions)[..., : gru.hidden_size * directions]
    return made, x.new_empty(directions, len(x), gru.hidden_size)


class _Largest(TorchDispatchMode):
    """Notes the largest tensor that is made."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else [out]:
            if isinstance(part, Tensor):
                self.values = max(self.values, part.numel())
        return out
