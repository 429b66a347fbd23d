"""Checkpoints as plain data: the files that training writes, and the weights that come with the package.

A checkpoint may come from a stranger: nothing in it is executed, or makes this program take much more memory than the
file has bytes.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from denoiser.errors import CheckpointError
from denoiser.filesystem import atomic_write

WEIGHTS = Path(__file__).parent / "weights"  # NAME.ckpt and its card, NAME.md
SHIPPED = ("best", "small", "live")

MAX_PICKLE = 1 << 23  # bytes of everything but the tensors; training writes 20 kB
MAX_DEPTH, MAX_VALUES = 16, 10_000  # levels of nested settings, and settings on one level
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64)


def shipped(path: str | Path) -> Path:
    """Return the file of the shipped weights that are called ``path``; any other path, ``./small`` too, as it is."""
    return WEIGHTS / f"{path}.ckpt" if str(path) in SHIPPED else Path(path)


def shipped_onnx(path: str | Path) -> Path | None:
    """Return the ONNX file of the shipped weights that are called ``path``, if they have one."""
    file = WEIGHTS / f"{path}.onnx"
    return file if str(path) in SHIPPED and file.is_file() else None


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain data: a file, the folder of a run, or one of :data:`SHIPPED` by name.

    Raises CheckpointError where it is missing, damaged or not a checkpoint of this program.
    """
    path = shipped(path)
    if (path / "checkpoints/best.ckpt").is_file():
        path = path / "checkpoints/best.ckpt"
    if path.is_dir():
        last = path / "checkpoints/last.ckpt"
        advice = f"; there is {last}" if last.is_file() else ""
        raise CheckpointError(f"{path}: a folder without checkpoints/best.ckpt in it{advice}")
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


def _checked(path: Path) -> dict[str, Any]:
    """Read a checkpoint file; ValueError says what is wrong with it."""
    try:
        _check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise a dozen kinds for a damaged file
        raise ValueError("damaged, packed by another program, or it holds code or objects") from error
    settings = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(settings, dict) or not all(isinstance(settings.get(key), dict) for key in ("model", "spectral")):
        raise ValueError("no model description in it")
    _check_settings(settings)
    _check_weights(checkpoint.get("state_dict"), path.stat().st_size)
    if not isinstance(settings["spectral"].get("sample_rate"), int):
        raise ValueError("it states no sample rate")
    # Until version 0.2 a setting of crn and dualpath; it follows from the spectral settings.
    settings["model"].pop("bins", None)
    return checkpoint


def _check_archive(path: Path) -> None:
    """Raise ValueError unless the file is a ZIP without compression: few compressed bytes can unpack to terabytes."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        pickles = [part for part in parts if part.filename.endswith(".pkl")]
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        repeated = len({part.filename for part in parts}) < len(parts)
        too_large = sum(part.file_size for part in parts) > path.stat().st_size
        if packed or repeated or too_large or sum(part.file_size for part in pickles) > MAX_PICKLE:
            raise ValueError
        # torch.load allows a bytearray of any size, which a pickle of a few bytes can ask for.
        if any(b"\nbytearray\n" in archive.read(part) for part in pickles):
            raise ValueError


def _check_settings(settings: Any) -> None:
    """Raise ValueError unless settings are a tree of dicts, lists, texts and numbers, as small as those of a run."""
    level = [settings]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
                plain = all(isinstance(name, str) for name in value)
            elif isinstance(value, list | tuple):
                below += value
                plain = True
            else:
                plain = abs(value) < 1 << 63 if isinstance(value, int) else isinstance(value, str | float | None)
            # A list may hold the same list many times over, on each of its levels.
            if not plain or len(below) > MAX_VALUES:
                raise ValueError(f"too many settings, or one that is too large or a {type(value).__name__}")
        level = below
    if level:
        raise ValueError("settings that are nested too deeply")


def _check_weights(weights: Any, size: int) -> None:
    """Raise ValueError unless ``weights`` maps names to finite tensors that fit into a file of ``size`` bytes.

    A tensor can be sparse, or one number that is read again and again: a terabyte in a hundred bytes.
    """
    if not isinstance(weights, Mapping):
        raise ValueError("no weights in it")
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError("its weights are not all tensors")
        dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_nested
        size -= value.numel() * value.element_size()
        if not dense or value.dtype not in DTYPES or size < 0 or not torch.isfinite(value).all():
            raise ValueError(f"weights {name} that are NaN, infinite, too large or of a kind that no network here has")
