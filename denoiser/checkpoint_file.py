"""A checkpoint as something that may come from a stranger: what has to hold before anything is made of it.

Nothing in it is ever executed; and nothing that it says makes this program take much more memory than it has bytes:
the archive is not packed, settings are plain values, tensors hold no more than the file does, and a network is
described in numbers that a network has.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from denoiser.models.dualpath import HEADS, DualPath
from denoiser.models.unet import UNet

MAX_PICKLE = 1 << 23  # bytes of the part that is no tensor: 20 kB as training writes it; in memory 60 times that
MAX_DEPTH, MAX_VALUES, MAX_TEXT = 16, 10_000, 10_000  # of settings: nesting, values, characters of a text
_BYTEARRAY = re.compile(rb"c(?:builtins|__builtin__)\nbytearray\n")
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)
MAX_GROWTH = 4096  # values of one tensor inside the network per value that goes in; unet10 has 32, dualpath 48
MAX_BLOCK = 1 << 28  # values of one tensor inside the network, for the shortest block that it can be run on: 1 GB


def check_archive(path: Path) -> None:
    """Raise ValueError unless the file is a ZIP of parts that are not packed: a few bytes could become any number."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            pickles = [part for part in parts if part.filename.endswith(".pkl")]
            if any(part.file_size > MAX_PICKLE for part in pickles):
                raise OverflowError(f"over {MAX_PICKLE >> 20} MB of values beside its tensors")
            # torch allows it, and a number is enough for it to fill that much memory
            if any(_BYTEARRAY.search(archive.open(part).read(MAX_PICKLE)) for part in pickles):
                raise OverflowError("it holds code or objects, not only numbers")
    except OverflowError as error:
        raise ValueError(str(error)) from error
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError("damaged") from error
    names = [part.filename for part in parts]
    if len(set(names)) < len(names) or any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("damaged, or packed by another program")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("damaged: its parts claim to be larger than all of it")


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


def growth(net: nn.Module, bins: int) -> float:
    """Values of the largest tensor in ``net``, per value that goes in, about; ValueError where it is absurd.

    So little memory may describe so much: a 1x1 convolution to a million channels has two million weights. It follows
    from the layers' sizes alone: on ``meta`` nothing is run, as torch would import for seconds to do it.
    """
    deepest = int(getattr(net, "reduction", 2 ** len(getattr(net, "steps", ()))))
    bands, found, stem = math.ceil(bins / deepest), [1.0], net.stem if isinstance(net, UNet) else 1
    for name, part in net.named_modules():
        level = re.match(r"(?:encoder|decoder|up|gates)\.(\d+)\.", f"{name}.")
        share = 2.0 ** -int(level[1]) if level else 1.0  # each level has half the bins
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            found.append(share * max(part.in_channels, part.out_channels) / stem)  # whose bins are channels
        elif isinstance(part, nn.Linear):
            found.append(max(part.in_features, part.out_features) * bands / bins)
        elif isinstance(part, nn.GRU):
            found.append(3 * part.hidden_size * (2 if part.bidirectional else 1) * bands / bins)  # its gates
    if isinstance(net, DualPath):  # every band attends to every other
        found.append(HEADS * bands * bands / bins)
    largest, shortest = max(found), 2 * int(net.context) + int(net.stride)  # type: ignore[arg-type]
    if largest > MAX_GROWTH or shortest * bins * largest > MAX_BLOCK:
        raise ValueError(f"a network that would take {shortest * bins * largest * 4 / 1e9:.1f} GB at once")
    return largest
