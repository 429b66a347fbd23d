"""Lightning's Trainer for one run: devices, precision, checkpoints that are written whole, processes that end together.

Lightning starts the processes of one machine itself, torchrun or srun those of several.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import threading
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from denoiser import distributed
from denoiser.devices import fastest_precision, trainer_devices
from denoiser.errors import CheckpointError, ConfigError
from denoiser.filesystem import atomic_write
from denoiser.training.folder import how_to_resume, in_sweep

# One process may prepare a corpus, or score the last files, while the others wait for it.
TIMEOUT = timedelta(hours=3)
# Environment variable with the id of process 0, for those that Lightning starts.
FIRST_PROCESS = "DENOISER_FIRST_PROCESS"
# Lightning's warnings that do not hold here.
IRRELEVANT_WARNINGS = (
    ".*LeafSpec.*deprecated.*",  # by Lightning itself, with torch 2.11
    ".*does not have many workers.*",  # crops come from a memory map
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*number of training batches .* is smaller than the logging interval.*",
    ".*recommended to use .*sync_dist=True.*",  # the values are the same in each process
    ".*resuming from a checkpoint that ended before the epoch ended.*",  # the data module begins at the next batch
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside and renames, so that a crash leaves the previous checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            with atomic_write(Path(path)) as partial:
                torch.save(checkpoint, partial)
        except (OSError, RuntimeError) as error:
            # On a full disk torch raises a RuntimeError that does not say so.
            reason = getattr(error, "strerror", None) or "is there room?"
            kept = "the one before it is whole; " if Path(path).is_file() else ""
            raise CheckpointError(
                f"{path}: cannot be written ({reason}); {kept}once there is room, {how_to_resume()} goes on"
            ) from error


def build_trainer(folder: Path, gpus: Any = None, processes: int | None = None, **options: Any) -> Trainer:
    """Return Lightning's Trainer; ``gpus`` and ``processes`` as in :func:`~denoiser.devices.trainer_devices`.

    ``options`` are the Trainer's own; without ``precision`` it is what the device does fastest. Several processes on
    one machine are started by the Trainer, when it fits. Each takes its share of every batch from the data module:
    Lightning's own samplers would count some files twice.

    Raises ConfigError for options that Lightning refuses, and where torchrun or srun started another number of
    processes than is asked for.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning ends all processes when one has died, and says so at this level.
    logging.getLogger("lightning_fabric.strategies.launchers").setLevel(logging.INFO)
    for message in IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=message)

    chosen = trainer_devices(gpus, processes=processes)
    options = {key: value for key, value in options.items() if value is not None}
    nodes = options.get("num_nodes", 1)
    devices = chosen["devices"] if isinstance(chosen["devices"], int) else len(chosen["devices"])
    _check_processes(devices * nodes, nodes, f"trainer.gpus={gpus} trainer.processes={processes}")
    if devices * nodes > 1:
        chosen["strategy"] = DDPStrategy(timeout=TIMEOUT)
    options.setdefault("precision", fastest_precision(chosen["accelerator"]))
    shared = {"use_distributed_sampler": False, "sync_batchnorm": chosen["accelerator"] == "gpu"}
    plugins: list[Any] = [AtomicCheckpointIO()]
    if distributed.launcher() == "srun":
        # Lightning would save hpc_ckpt_*.ckpt in the midst of a step, and prefer it to all later checkpoints.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    elif not distributed.launcher():
        # In a batch job that starts one python, Lightning would expect srun to start the others.
        plugins.append(LightningEnvironment())
    try:
        trainer = Trainer(default_root_dir=folder, plugins=plugins, **{**shared, **chosen, **options})
    except (TypeError, ValueError, AssertionError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {error}") from error
    if not distributed.launcher() and trainer.strategy.launcher is not None:
        _end_with_first_process(trainer.strategy.launcher)
    return trainer


def batches_per_epoch(trainer: Trainer, data: Any) -> int:
    """Return the number of batches in an epoch, of all processes together."""
    batches = math.ceil(len(data.training_set(read=False)) / data.batch_size)
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def total_steps(trainer: Trainer, data: Any) -> float:
    """Return the number of optimizer steps in the whole training; infinite where it has no end.

    Lightning's ``estimated_stepping_batches`` is the same number, but makes the data loader before a resumed training
    knows at which batch it begins.
    """
    steps_per_epoch = math.ceil(batches_per_epoch(trainer, data) / trainer.accumulate_grad_batches)
    steps = math.inf if trainer.max_epochs in (None, -1) else steps_per_epoch * trainer.max_epochs
    return steps if trainer.max_steps == -1 else min(steps, trainer.max_steps)


def _check_processes(asked: int, nodes: int, settings: str) -> None:
    """Raise ConfigError where ``asked`` processes on ``nodes`` machines have not been, or cannot be, started."""
    settings += f" trainer.num_nodes={nodes}"
    launcher, started = distributed.launcher(), distributed.started_processes()
    if launcher and started != asked:
        raise ConfigError(f"{settings}: makes {asked} processes, and {launcher} started {started}")
    if not launcher and nodes > 1:
        raise ConfigError(f"{settings}: several machines are started by torchrun or srun; see docs/scaling.md")
    if asked > 1 and in_sweep():
        raise ConfigError(f"{settings}: makes {asked} processes, and a run of a sweep has one")


def _end_with_first_process(launcher: Any) -> None:
    """Let the processes that Lightning starts end with process 0, also where it fails or is killed."""
    if distributed.rank() == 0:
        os.environ[FIRST_PROCESS] = str(os.getpid())
        # The others write nothing, and may wait for ever for a process that met a mistake of its own.
        atexit.register(launcher.kill, signal.SIGKILL)
    elif FIRST_PROCESS in os.environ:
        threading.Thread(target=_wait_for_end, args=[int(os.environ[FIRST_PROCESS])], daemon=True).start()


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
