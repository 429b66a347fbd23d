"""Lightning's Trainer for one run."""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from denoiser import ranks
from denoiser.devices import fastest_precision, trainer_devices
from denoiser.errors import CheckpointError, ConfigError
from denoiser.filesystem import atomic_write
from denoiser.training.folder import how_to_resume


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside and renames, so that a crash leaves the previous checkpoint; reads data only, never code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            with atomic_write(Path(path)) as partial:
                torch.save(checkpoint, partial)
        except (OSError, RuntimeError) as error:  # torch has one of its own for a full disk
            reason = getattr(error, "strerror", None)
            if reason is None:
                parent = next(parent for parent in Path(path).parents if parent.is_dir())
                reason = f"{shutil.disk_usage(parent).free / 1e6:.1f} MB are free"
            kept = "the one before it is whole; " if Path(path).is_file() else ""
            raise CheckpointError(
                f"{path}: cannot be written ({reason}); {kept}once there is room, {how_to_resume()} goes on"
            ) from error

    def load_checkpoint(
        self, path: Any, map_location: Any | None = lambda storage, loc: storage, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return super().load_checkpoint(path, map_location, weights_only=True)


def build_trainer(folder: Path, gpus: Any = None, processes: int | None = None, **options: Any) -> Trainer:
    """Lightning's Trainer; ``gpus`` and ``processes`` as in :func:`~denoiser.devices.trainer_devices`.

    ``options`` are its own. Of several processes each has been started already (:mod:`denoiser.distributed`), and takes
    its share of every batch by the data module: Lightning's own samplers would count some files twice.

    Precision, where none is given, is what the device does fastest.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Crops come from a memory map: workers would not make them faster.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")  # Lightning's own, with torch 2.11
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*number of training batches .* is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*recommended to use .*sync_dist=True.*")  # the same in each already
    # Lightning does not know that our batches can be begun with at any of them.
    warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch ended.*")
    chosen = trainer_devices(gpus, processes=processes)
    options = {key: value for key, value in options.items() if value is not None}
    if options.get("num_nodes", 1) != 1:
        chosen["strategy"] = "ddp"  # of one process each, too
    for key in ("max_epochs", "max_steps", "num_nodes", "accumulate_grad_batches", "check_val_every_n_epoch"):
        if not isinstance(options.get(key, 0), int):
            raise ConfigError(f"trainer.{key}={options[key]}: expected a whole number")
    options.setdefault("precision", fastest_precision(chosen["accelerator"]))
    try:
        plugins: list[Any] = [AtomicCheckpointIO()]
        if ranks.place().by == ranks.FIRST:
            plugins.append(LightningEnvironment())  # whatever cluster this machine may be part of
        shared = {"use_distributed_sampler": False, "sync_batchnorm": chosen["accelerator"] == "gpu"}
        return Trainer(default_root_dir=folder, plugins=plugins, **{**shared, **chosen, **options})
    except (TypeError, ValueError, AssertionError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {error}") from error
