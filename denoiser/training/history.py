"""The learning curve of a training, and the record of a run that has finished."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from denoiser.evaluation.metrics import mode_of
from denoiser.evaluation.tables import versions
from denoiser.training import record
from denoiser.training.folder import CHECKPOINTS
from denoiser.training.module import DenoisingModule


class History(Callback):
    """The learning curve and the time spent, kept in every checkpoint, so that a resumed run continues them.

    ``curve`` has a row per validation: ``epoch`` (from 1), ``step``, ``train/loss`` (None in the middle of an epoch)
    and what validation logged.
    """

    def __init__(self) -> None:
        self.curve: list[dict[str, Any]] = []
        self.speeds: list[float] = []  # seconds of audio per second, of each epoch
        self.seconds = 0.0  # of fitting, before this start
        self.started = record.now()
        self.files: int | None = None  # in the validation set
        self.begin: float | None = None  # of fitting, by time.perf_counter()
        self.has_ended = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin = time.perf_counter()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = self.fit_seconds
        self.begin = None
        self.has_ended = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, DenoisingModule)
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        place = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        self.curve.append({**place, "train/loss": None, **values})
        self.files = len(pl_module.rows)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        if self.curve and self.curve[-1]["step"] == trainer.global_step and "train/loss_epoch" in metrics:
            self.curve[-1]["train/loss"] = float(metrics["train/loss_epoch"])
        if "train/audio_seconds_per_second" in metrics:
            self.speeds.append(float(metrics["train/audio_seconds_per_second"]))

    @property
    def fit_seconds(self) -> float:
        now = 0.0 if self.begin is None else time.perf_counter() - self.begin
        return self.seconds + now

    def state_dict(self) -> dict[str, Any]:
        kept = {"curve": self.curve, "speeds": self.speeds, "started": self.started, "files": self.files}
        return {**kept, "seconds": self.fit_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The test loads the best checkpoint, which knows nothing of what came after it.
        if not self.has_ended:
            for key, value in state_dict.items():
                setattr(self, key, value)

    def of_training(self, monitor: str, mode: str) -> dict[str, Any]:
        """Return the part of a record that is about the training; the best row is the first of equals."""
        rows = [row for row in self.curve if math.isfinite(row.get(monitor, math.nan))]
        better = max if mode == "max" else min
        best = better(rows, key=lambda row: row[monitor]) if rows else {}
        scores = {name.removeprefix("val/"): value for name, value in best.items() if name.startswith("val/")}
        return {
            "started": self.started,
            "ended": record.now(),
            "fit_seconds": round(self.fit_seconds, 1),
            "audio_seconds_per_second": round(median(self.speeds), 2) if self.speeds else None,
            "monitor": monitor,
            "mode": mode,
            "best": best.get(monitor),
            "best_epoch": best.get("epoch"),
            "validation": {"n": self.files, **scores} if best else None,
            "curve": self.curve,
        }


def finished(
    config: Mapping[str, Any], trainer: Trainer, module: DenoisingModule, data: Any, folder: Path, best: str
) -> dict[str, Any]:
    """Return the record of a finished run, all but its cost and its test; ``best`` is the path of its checkpoint."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    history = next(callback for callback in callbacks if isinstance(callback, History))
    kept = [path for path in (best, folder / CHECKPOINTS / "last.ckpt") if path and Path(path).is_file()]
    device = trainer.strategy.root_device
    batch_frames = config["data"]["batch_size"] * config["data"]["frames"]
    return {
        "status": "finished",
        "name": config["name"],
        "seed": config["seed"],
        **record.typed(),
        "config": record.relative(config),
        "device": device.type,
        "processes": trainer.world_size,
        "precision": str(trainer.precision),
        "batch_audio_seconds": batch_frames / module.denoiser.spectral.frame_rate,
        "real_time_factor": module.real_time_factor,
        "checkpoint": Path(os.path.relpath(kept[0], folder)).as_posix() if kept else None,
        "split": {**{part: len(names) for part, names in data.names.items()}, "rule": data.rule},
        "versions": {**versions(), "python": platform.python_version()},
        "hardware": hardware(device, trainer.world_size),
        **history.of_training(config["monitor"], mode_of(config["monitor"])),
    }


def hardware(device: torch.device, processes: int = 1) -> str:
    """Return what computes here, in words: ``2 x NVIDIA L4, AMD EPYC 9V74, 2 threads``."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        # Only Linux has this file, and not every processor says its name there.
        pass
    threads = torch.get_num_threads()
    name = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return f"{processes} x {name}" if processes > 1 else name
