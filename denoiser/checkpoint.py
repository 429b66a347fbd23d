"""Checkpoints as plain data: those that training wrote, and those that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from denoiser import checkpoint_file
from denoiser.errors import CheckpointError
from denoiser.filesystem import atomic_write

WEIGHTS = Path(__file__).parent / "weights"  # NAME.ckpt and its card, NAME.md
SHIPPED = ("best", "small")


def shipped(path: str | Path) -> Path:
    """The checkpoint of this name that comes with the package, if it is one of those; else the path as it is.

    A name stands for nothing else, whatever lies where the command runs: a file called so is ``./small``.
    """
    return WEIGHTS / f"{path}.ckpt" if str(path) in SHIPPED else Path(path)


def write_weights(source: str | Path, target: Path, half: bool = False) -> int:
    """Write what inference needs of a checkpoint, without optimiser and schedule; returns its size in bytes.

    ``half`` keeps the weights of layers in float16, within 0.05 % of theirs; biases and statistics stay as they are.
    """
    checkpoint = load_checkpoint(source)
    config, state = checkpoint["hyper_parameters"], checkpoint["state_dict"]
    kept = {
        "hyper_parameters": {key: config[key] for key in ("model", "spectral", "loss", "seed") if key in config},
        # Each a tensor of its own: a view would be written with all that it is a view of.
        "state_dict": {
            key: value.half() if half and value.is_floating_point() and value.ndim > 1 else value.clone()
            for key, value in state.items()
            if key.startswith("denoiser.")
        },
    }
    with atomic_write(target) as partial:
        torch.save(kept, partial)
        return partial.stat().st_size


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint as plain data: a file, the folder of a run, or one of :data:`SHIPPED` by name.

    Raises CheckpointError where it is missing, damaged or not ours.
    """
    path = shipped(path)
    if (path / "checkpoints/best.ckpt").is_file():
        path = path / "checkpoints/best.ckpt"
    if not path.is_file():
        what = "a folder without checkpoints/best.ckpt in it" if path.is_dir() else "no such checkpoint"
        raise CheckpointError(f"{path}: {what}")
    try:
        checkpoint_file.check_archive(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged or hostile file
        reason = str(error) if type(error) is ValueError else "damaged"
        reason = "it holds code or objects, not only numbers" if "Unsupported" in str(error) else reason
        raise CheckpointError(f"{path}: not a checkpoint of this program ({reason})") from error
    config = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(config, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this program (no model description in it)")
    if not isinstance(config.get("model"), dict) or not isinstance(config.get("spectral"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of this program (no model description in it)")
    try:
        checkpoint_file.check_settings(config)
        checkpoint_file.check_weights(checkpoint["state_dict"], path.stat().st_size)
    except ValueError as error:
        raise CheckpointError(f"{path}: not a checkpoint of this program ({error})") from error
    if not isinstance(config["spectral"].get("sample_rate"), int):
        raise CheckpointError(f"{path}: states no sample rate, so nothing it makes could be trusted")
    return checkpoint
