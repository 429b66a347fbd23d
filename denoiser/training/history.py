"""The learning curve of a training, and the record of a run that has finished."""

import os
import platform
import re
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningModule, Trainer

from denoiser.evaluation.tables import versions
from denoiser.training import record
from denoiser.training.layout import CHECKPOINTS
from denoiser.training.module import DenoisingModule


class History(Callback):
    """The learning curve and the time spent, kept in every checkpoint, so that a resumed run continues them."""

    def __init__(self) -> None:
        # A row per validation: epoch (from 1), step, train/loss (None amid an epoch) and what validation logged.
        self.curve: list[dict[str, Any]] = []
        self.speeds: list[float] = []  # seconds of audio per second, of each epoch
        self.seconds = 0.0  # of fitting
        self.started = record.now()
        self.files: int | None = None  # in the validation set
        self.begin = 0.0  # of fitting, by time.perf_counter(), as if all of it were in this start

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin = time.perf_counter() - self.seconds

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.perf_counter() - self.begin

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        if trainer.sanity_checking:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        place = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        self.curve.append({**place, "train/loss": None, **values})
        self.files = len(module.rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        if self.curve and self.curve[-1]["step"] == trainer.global_step and "train/loss_epoch" in metrics:
            self.curve[-1]["train/loss"] = float(metrics["train/loss_epoch"])
        if "train/audio_seconds_per_second" in metrics:
            self.speeds.append(float(metrics["train/audio_seconds_per_second"]))

    def state_dict(self) -> dict[str, Any]:
        kept = {"curve": self.curve, "speeds": self.speeds, "started": self.started, "files": self.files}
        return {**kept, "seconds": time.perf_counter() - self.begin}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The test, after the training, loads the best checkpoint, which knows nothing of what came after it.
        if not self.begin:
            for key, value in state_dict.items():
                setattr(self, key, value)


def finished(
    cfg: DictConfig, trainer: Trainer, module: DenoisingModule, data: Any, folder: Path, best: str, value: float | None
) -> dict[str, Any]:
    """Return the record of a finished run, all but its cost and its test.

    ``best`` is the path of its best checkpoint, and ``value`` what the ``monitor`` was there; without one at the end.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    history = next(callback for callback in callbacks if isinstance(callback, History))
    settings = record.of_settings(cfg)
    # The first of equals, as the checkpoint is; a run that was resumed with another monitor may have had better ones.
    rows = [row for row in history.curve if value is not None and row.get(cfg.monitor) == value]
    row = rows[0] if rows else {}
    scores = {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}
    kept = [path for path in (best, folder / CHECKPOINTS / "last.ckpt") if path and Path(path).is_file()]
    return {
        **settings,
        "status": "finished",
        "best": value,
        "device": trainer.strategy.root_device.type,
        "processes": trainer.world_size,
        "precision": str(trainer.precision),
        "batch_audio_seconds": cfg.data.batch_size * cfg.data.frames / module.denoiser.spectral.frame_rate,
        "fit_seconds": round(history.seconds, 1),
        "audio_seconds_per_second": round(median(history.speeds), 2) if history.speeds else None,
        "real_time_factor": module.real_time_factor,
        "best_epoch": row.get("epoch") if best else None,
        "checkpoint": Path(os.path.relpath(kept[0], folder)).as_posix() if kept else None,
        "validation": {"n": history.files, **scores} if row else None,
        "curve": history.curve,
        "split": {**{part: len(names) for part, names in data.names.items()}, "rule": data.rule},
        "versions": {**versions(), "python": platform.python_version()},
        "hardware": hardware(trainer.strategy.root_device, trainer.world_size),
        "started": history.started,
        "ended": record.now(),
    }


def hardware(device: torch.device, processes: int) -> str:
    """Return what computes here, in words: ``2 x NVIDIA L4, AMD EPYC 9V74, 2 threads``."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux alone has it.
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    threads = torch.get_num_threads()
    name = f"{found[1] if found else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return f"{processes} x {name}" if processes > 1 else name
