"""Checkpoints as plain data: the files that training writes, and the weights that come with the package.

A checkpoint may come from a stranger. Nothing in it is executed, and nothing it states makes this program take much
more memory than the file has bytes.
"""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from denoiser.errors import CheckpointError
from denoiser.filesystem import atomic_write

WEIGHTS = Path(__file__).parent / "weights"  # NAME.ckpt and its card, NAME.md
SHIPPED = ("best", "small")

MAX_PICKLE = 1 << 23  # bytes of everything but the tensors; training writes 20 kB
MAX_DEPTH = 16  # levels of nested settings
MAX_VALUES = 10_000
CODE = "damaged, or it holds code or objects, not only numbers"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)


def shipped(path: str | Path) -> Path:
    """Return the file of the weights called ``path`` that come with the package; any other path as it is.

    The names always mean the shipped weights: a file of that name in the current folder is given as ``./small``.
    """
    return WEIGHTS / f"{path}.ckpt" if str(path) in SHIPPED else Path(path)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain data: a file, the folder of a run, or one of :data:`SHIPPED` by name.

    Raises CheckpointError where it is missing, damaged or not a checkpoint of this program.
    """
    path = shipped(path)
    if (path / "checkpoints/best.ckpt").is_file():
        path = path / "checkpoints/best.ckpt"
    if path.is_dir():
        raise CheckpointError(f"{path}: a folder without checkpoints/best.ckpt in it")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(f"{path}: an ONNX file is for other programs; give the checkpoint it was exported from")
    try:
        return _checked(path)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a checkpoint of this program ({error})") from error


def write_weights(source: str | Path, target: Path, half: bool = False) -> int:
    """Write the part of a checkpoint that inference needs, without the optimizer; return its size in bytes.

    With ``half``, weights of layers are rounded to float16, which changes them by at most 0.05 %; biases and
    statistics stay as they are.
    """
    checkpoint = load_checkpoint(source)
    settings = checkpoint["hyper_parameters"]
    weights = {}
    for name, value in checkpoint["state_dict"].items():
        if name.startswith("denoiser."):
            rounded = half and value.is_floating_point() and value.ndim > 1
            # A view would be written with the whole tensor that it is a view of: each becomes a tensor of its own.
            weights[name] = value.half() if rounded else value.clone()
    kept = {key: settings[key] for key in ("model", "spectral", "loss", "seed") if key in settings}
    with atomic_write(target) as partial:
        torch.save({"hyper_parameters": kept, "state_dict": weights}, partial)
        return partial.stat().st_size


def check_settings(settings: Any, depth: int = 0) -> int:
    """Return how many values a tree of settings holds.

    Raises ValueError unless it consists of dicts, lists, numbers and texts, and is of the size that settings have.
    """
    parts: list[Any] = []
    plain = settings is None or type(settings) in (bool, float, str)
    if isinstance(settings, Mapping):
        parts = [*settings.keys(), *settings.values()]
        plain = all(isinstance(key, str) for key in settings)
    elif isinstance(settings, list | tuple):
        parts = list(settings)
        plain = True
    elif type(settings) is int:
        plain = settings.bit_length() < 64
    if not plain or depth > MAX_DEPTH:
        raise ValueError(f"a setting that is nested too deeply, too large or a {type(settings).__name__}")
    count = 1
    for part in parts:
        count += check_settings(part, depth + 1)
        # Counted here and not at the end: a list may hold the same list many times over, on each of its levels.
        if count > MAX_VALUES:
            raise ValueError("too many settings")
    return count


def _checked(path: Path) -> dict[str, Any]:
    """Read a checkpoint file; ValueError says what is wrong with it."""
    _check_archive(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(CODE) from error
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise ValueError("damaged") from error
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(settings, dict) or not all(isinstance(settings.get(key), dict) for key in ("model", "spectral")):
        raise ValueError("no model description in it")
    check_settings(settings)
    _check_weights(checkpoint.get("state_dict"), path.stat().st_size)
    if not isinstance(settings["spectral"].get("sample_rate"), int):
        raise ValueError("it states no sample rate")
    # Until version 0.2 a setting of crn and dualpath; it follows from the spectral settings.
    settings["model"].pop("bins", None)
    return checkpoint


def _check_archive(path: Path) -> None:
    """Raise ValueError unless the file is a ZIP without compression: few compressed bytes can unpack to terabytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            distinct = len({part.filename for part in parts}) == len(parts)
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            fits = sum(part.file_size for part in parts) <= path.stat().st_size
            if not (distinct and stored and fits):
                raise zipfile.BadZipFile
            pickles = [archive.read(part) for part in parts if part.filename.endswith(".pkl")]
    except Exception as error:  # zipfile raises half a dozen kinds for a damaged file
        raise ValueError("damaged, or packed by another program") from error
    if any(len(content) > MAX_PICKLE for content in pickles):
        raise ValueError(f"over {MAX_PICKLE >> 20} MB of values beside its tensors")
    # torch.load allows a bytearray of any size, which a pickle of a few bytes can ask for.
    if any(b"\nbytearray\n" in content for content in pickles):
        raise ValueError(CODE)


def _check_weights(weights: Any, size: int) -> None:
    """Raise ValueError unless ``weights`` maps names to finite tensors that fit into a file of ``size`` bytes.

    A tensor can be sparse, or one number that is read again and again: a terabyte in a hundred bytes.
    """
    if not isinstance(weights, Mapping):
        raise ValueError("no weights in it")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError("its weights are not all tensors")
        if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in DTYPES or value.is_nested:
            raise ValueError(f"weights {name} of a kind that no network here has")
        size -= value.numel() * value.element_size()
        if size < 0:
            raise ValueError("its weights claim to be larger than the file")
        if not torch.isfinite(value).all():
            raise ValueError(f"weights {name} that are NaN or infinite")
