"""Lightning's Trainer for one run: devices and processes, precision, checkpoints that are written whole."""

import logging
import math
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from denoiser.devices import fastest_precision, trainer_devices
from denoiser.distributed import say
from denoiser.errors import CheckpointError, ConfigError
from denoiser.filesystem import atomic_write
from denoiser.training import launch
from denoiser.training.folder import how_to_resume

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
    """Checkpoints that are written beside their name and renamed, so that a crash leaves the previous one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        try:
            with atomic_write(Path(path)) as partial:
                torch.save(checkpoint, partial)
        except (OSError, RuntimeError) as error:
            # On a full disk torch raises a RuntimeError that does not say so.
            reason = getattr(error, "strerror", None) or "is there room?"
            kept = "the one before it is whole; " if Path(path).is_file() else ""
            advice = f"{kept}once there is room, {how_to_resume()} goes on"
            raise CheckpointError(f"{path}: cannot be written ({reason}); {advice}") from error


def build_trainer(folder: Path, gpus: Any = None, processes: int | None = None, **options: Any) -> Trainer:
    """Return Lightning's Trainer; ``gpus`` and ``processes`` as in :func:`trainer_devices`, other ``options`` its own.

    Raises ConfigError for options that Lightning refuses, and for another number of processes than were started.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning ends all processes when one has died, and says so at this level.
    logging.getLogger("lightning_fabric.strategies.launchers").setLevel(logging.INFO)
    for message in IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    accelerator, devices = trainer_devices(gpus, processes)
    counts_batches = isinstance(options.get("val_check_interval"), int)
    # Lightning then counts them over the epochs; any other null is its default.
    kept = ("check_val_every_n_epoch",) if counts_batches else ()
    options = {key: value for key, value in options.items() if value is not None or key in kept}
    # YAML reads digits between colons as one number, unless they are quoted.
    if not isinstance(options.get("max_time", ""), str | dict | timedelta):
        raise ConfigError(f"trainer.max_time={options['max_time']}: expected DAYS:HOURS:MINUTES:SECONDS")
    # Spectra and their scale need more digits than 16 bits have.
    if (precision := str(options.get("precision"))) in ("bf16-true", "16-true"):
        raise ConfigError(f"trainer.precision={precision}: expected 32-true, bf16-mixed or 16-mixed")
    nodes = options.get("num_nodes", 1)
    count = nodes * (devices if isinstance(devices, int) else len(devices))
    launch.check_processes(count, nodes, f"trainer.gpus={gpus} trainer.processes={processes}")
    chosen = {
        "accelerator": accelerator,
        "devices": devices,
        "strategy": DDPStrategy(timeout=launch.TIMEOUT) if count > 1 else "auto",
        "precision": fastest_precision(accelerator),
        # The data module gives each process its share of a batch: Lightning's samplers would count some files twice.
        "use_distributed_sampler": False,
        "sync_batchnorm": accelerator == "gpu",
    }
    try:
        plugins = [AtomicCheckpointIO(), *launch.environment()]
        trainer = Trainer(default_root_dir=folder, plugins=plugins, **{**chosen, **options})
    except (TypeError, ValueError, AssertionError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {error}") from error
    launch.end_together(trainer)
    return trainer


def batches_per_epoch(trainer: Trainer, data: Any) -> int:
    """Return the number of batches in an epoch."""
    batches = math.ceil(len(data.training_set(read=False)) / data.batch_size)
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def check_validation(trainer: Trainer, batches: int) -> None:
    """Raise ConfigError for an interval beyond the ``batches`` of an epoch; tell that no validation will come.

    Nothing is told of a run that is to have none, nor of a trial of a single batch, as of debug=fast.
    """
    interval, every = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if isinstance(interval, int) and every is not None and interval > batches:
        raise ConfigError(f"trainer.val_check_interval={interval}: an epoch has {batches} batches")
    limit = _total_batches(trainer, batches)
    waits = any(getattr(callback, "monitor", None) for callback in trainer.checkpoint_callbacks)
    if not waits or trainer.limit_val_batches == 0 or limit <= 1 or not isinstance(interval, int | float):
        return
    within = interval if isinstance(interval, int) else max(1, int(batches * interval))
    first = within if every is None else (every - 1) * batches + within
    if first > limit:
        problem = f"the first validation is due after {first} batches, and the training ends after {limit}"
        cure = f"trainer.check_val_every_n_epoch=null trainer.val_check_interval={limit}, in batches, or less"
        say(f"warning: {problem}: there will be no best.ckpt; to validate before, give {cure}")


def check_test(trainer: Trainer, files: int) -> None:
    """Raise ConfigError where ``limit_test_batches`` leaves none of the test files; Lightning says so after the fit."""
    limit = trainer.limit_test_batches
    if (limit if isinstance(limit, int) else int(limit * files)) < 1:
        raise ConfigError(
            f"trainer.limit_test_batches={limit}: none of {files} test files; for no test give test=false"
        )


def _total_batches(trainer: Trainer, batches: int) -> float:
    """Return the number of batches in the whole training, infinite where no number of steps or epochs ends it."""
    ends = [math.inf]
    if trainer.max_epochs not in (None, -1):
        ends.append(trainer.max_epochs * batches)
    if trainer.max_steps != -1:
        # The last step of an epoch takes the batches that are left.
        accumulated = trainer.accumulate_grad_batches
        epochs, steps = divmod(trainer.max_steps, math.ceil(batches / accumulated) or 1)
        ends.append(epochs * batches + steps * accumulated)
    return min(ends)


def total_steps(trainer: Trainer, data: Any) -> int:
    """Return the number of optimizer steps in the whole training, for a scheduler; ConfigError where it has no end."""
    # Lightning's estimated_stepping_batches would make the data loader before a resumed training knows its batch.
    ends = [] if trainer.max_steps == -1 else [trainer.max_steps]
    if trainer.max_epochs not in (None, -1):
        steps_per_epoch = math.ceil(batches_per_epoch(trainer, data) / trainer.accumulate_grad_batches)
        ends.append(steps_per_epoch * trainer.max_epochs)
    if not ends:
        raise ConfigError("scheduler: needs the number of steps: give trainer.max_epochs or trainer.max_steps")
    return min(ends)
