"""A training run on disk: its folder, its checkpoints, and how it goes on after an interruption."""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from denoiser import ranks
from denoiser.filesystem import atomic_write
from denoiser.devices import fastest_precision, trainer_devices
from denoiser.checkpoint import load_checkpoint
from denoiser.errors import CheckpointError, ConfigError
from denoiser import filesystem
from denoiser.training.folder import LOCK

CHECKPOINTS = "checkpoints"
SPLIT = "split.json"  # in a run's folder: who trains, who validates, who tests
PATIENCE = 8.0  # s for that lock; a worker of torch's looks every 5 s whether its parent is alive
MARK = "interrupted"  # in a checkpoint of a run that was asked to stop: exact, though its epoch had not ended


def run_folder(parent: str, ckpt_path: str | None, seed: int | None = None) -> str:
    """The folder of a run under ``parent``: that of the checkpoint it resumes, else a new one: time and seed.

    ``last`` means the run that was last at work, even if it was stopped before its first checkpoint; a start that
    failed before it had its data (it wrote no split) does not count.
    """
    if ckpt_path == "last":
        signs = [sign for name in (f"{CHECKPOINTS}/last.ckpt", SPLIT) for sign in Path(parent).glob(f"*/{name}")]
        if signs:
            return str(Path(parent, max(signs, key=lambda sign: sign.stat().st_mtime).relative_to(parent).parts[0]))
    elif ckpt_path and (folder := Path(str(ckpt_path)).parent).name == CHECKPOINTS:
        return str(folder.parent)
    stamp = Path(parent, time.strftime("%Y-%m-%d_%H-%M-%S") + ("" if seed is None else f"_seed{seed}"))
    number, folder = 1, stamp
    while folder.exists():
        number += 1
        folder = stamp.with_name(f"{stamp.name}_{number}")
    return str(folder)


def resume_from(ckpt_path: str | None, folder: Path, settings: Mapping[str, Any]) -> Path | None:
    """The checkpoint to resume, or None for a fresh start.

    ``last`` is the run folder's own; a run killed before its first checkpoint starts over. Raises
    CheckpointError where the checkpoint is missing, unusable, or of other settings.
    """
    if not ckpt_path:
        return None
    path = folder / CHECKPOINTS / "last.ckpt" if ckpt_path == "last" else Path(str(ckpt_path))
    if ckpt_path == "last" and not path.is_file():
        rank_zero_only(print)(f"ckpt_path=last: no earlier checkpoint under {folder.parent}, starting anew")
        return None
    checkpoint = load_checkpoint(path)
    try:
        whole_epoch = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    except (KeyError, TypeError):
        raise CheckpointError(f"{path}: cannot be resumed, it holds weights only; use init_from=") from None
    if not whole_epoch and MARK not in checkpoint:
        raise CheckpointError(
            f"{path}: was written by a validation in the middle of an epoch, which cannot be gone on with exactly; "
            "resume from last.ckpt, or use init_from= to take the weights alone"
        )
    if changes := differences(checkpoint["hyper_parameters"], settings):
        raise CheckpointError(
            f"{path}: cannot be resumed, this run's settings differ: {', '.join(changes)}; "
            "give the same settings, or init_from= to take the weights alone"
        )
    return path


@contextmanager
def alone(folder: Path, locked: bool = False) -> Iterator[Callable[[], None]]:
    """Yields what claims the folder for this process, to be called before anything is written there.

    Then what a killed process left half-written there is cleared away. ``locked`` says that the caller has the lock.
    Raises ConfigError where another process is at work there. Of several processes the first one claims.
    """
    with ExitStack() as stack:
        claimed = False

        def claim() -> None:
            nonlocal claimed
            if claimed or ranks.place().rank:
                return
            if not locked and not stack.enter_context(_patiently(folder / LOCK)):
                raise ConfigError(
                    f"{folder}: another process trains in this folder; wait until it has ended, or start a run of its "
                    "own, without ckpt_path=last and hydra.run.dir="
                )
            claimed = True
            for partial in [*folder.glob(".*.partial-*"), *(folder / CHECKPOINTS).glob(".*.partial-*")]:
                partial.unlink(missing_ok=True)

        if folder.is_dir():
            claim()
        yield claim


@contextmanager
def _patiently(lock: Path) -> Iterator[bool]:
    """Hold the lock; wait a little where another has it: what read data for a process that was killed outlives it."""
    end = time.monotonic() + PATIENCE
    while True:
        with filesystem.locked(lock) as free:
            if free or time.monotonic() >= end:
                yield free
                return
        time.sleep(0.2)


def how_to_resume() -> str:
    """The command that does: of a sweep the same, of a run it names the checkpoint."""
    sweeps = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return "the same command" if sweeps else "the same command with ckpt_path=last"


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A phrase for each of the ``asked`` settings that is not the stored one."""
    found = []
    for key in sorted({*asked, *(stored if prefix else ())}):
        old, new = stored.get(key), asked.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old}, is {new}")
    return found


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
