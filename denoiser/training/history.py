"""What is kept of a training while it runs, and what a record says of it when it has ended."""

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
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning import Callback, LightningModule, Trainer

from denoiser import distributed
from denoiser.evaluation.metrics import mode_of
from denoiser.evaluation.tables import versions
from denoiser.training.folder import CHECKPOINTS
from denoiser.training.module import DenoisingModule
from denoiser.training.record import now, relative


def hardware(device: torch.device) -> str:
    """What computes here, in words: ``AMD EPYC 9V74, 2 threads``, with a GPU's name before it, and ``2 x `` that."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # no Linux, or a processor that does not say
        pass
    threads = torch.get_num_threads()
    name = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return f"{distributed.world()} x {name}" if distributed.world() > 1 else name


def chosen() -> dict[str, Any]:
    """What was typed and chosen, as Hydra knows it: ``overrides`` and ``choices``."""
    if not HydraConfig.initialized():
        return {}
    hydra = HydraConfig.get()
    choices = {key: value for key, value in hydra.runtime.choices.items() if value and not key.startswith("hydra/")}
    return {"overrides": list(hydra.overrides.task), "choices": choices}


def gathered(
    config: Mapping[str, Any],
    trainer: Any,
    module: DenoisingModule,
    data: Any,
    facts: Mapping[str, Any],
    folder: Path,
) -> dict[str, Any]:
    """The record of a finished run, but for its test. ``facts`` are more of it, known before."""
    history = next(callback for callback in trainer.callbacks if isinstance(callback, History))
    best = next((c.best_model_path for c in trainer.checkpoint_callbacks if getattr(c, "monitor", None)), "")
    kept = [path for path in (best, folder / CHECKPOINTS / "last.ckpt") if path and Path(path).is_file()]
    settings = config["data"]
    return {
        "status": "finished",
        "name": config["name"],
        "seed": config["seed"],
        **chosen(),
        "config": relative(config),
        "device": trainer.strategy.root_device.type,
        "processes": trainer.world_size,
        "precision": str(trainer.precision),
        "batch_audio_seconds": settings["batch_size"] * settings["frames"] / module.denoiser.spectral.frame_rate,
        "real_time_factor": module.real_time_factor,
        "checkpoint": Path(os.path.relpath(kept[0], folder)).as_posix() if kept else None,
        "split": {**{part: len(names) for part, names in data.names.items()}, "rule": data.rule},
        "versions": {**versions(), "python": platform.python_version()},
        "hardware": hardware(trainer.strategy.root_device),
        **history.facts(config["monitor"], mode_of(config["monitor"])),
        **facts,
    }


class History(Callback):
    """The learning curve, kept in every checkpoint, so that it goes on where a resumed run does.

    ``curve`` has a row a validation: ``epoch`` (from 1), ``step``, ``train/loss`` (null in the middle of an epoch)
    and what validation logged.
    """

    def __init__(self) -> None:
        self.curve: list[dict[str, Any]] = []
        self.speeds: list[float] = []  # seconds of audio a second, of each epoch
        self.seconds = 0.0  # of fitting, before this start
        self.started = now()
        self.files: int | None = None  # that validation was over
        self.begin: float | None = None  # of fitting now
        self.ended = False  # fitting: the test then loads the best checkpoint, which knows nothing of what came after

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begin = time.perf_counter()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds, self.begin, self.ended = self.fit_seconds, None, True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        assert isinstance(pl_module, DenoisingModule)
        values = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
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
        return self.seconds + (0.0 if self.begin is None else time.perf_counter() - self.begin)

    def state_dict(self) -> dict[str, Any]:
        kept = {"curve": self.curve, "speeds": self.speeds, "started": self.started, "files": self.files}
        return {**kept, "seconds": self.fit_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.ended:
            for key, value in state_dict.items():
                setattr(self, key, value)

    def best(self, monitor: str, mode: str) -> dict[str, Any] | None:
        """The row that was best by ``monitor``, the first of equals."""
        rows = [row for row in self.curve if math.isfinite(row.get(monitor, math.nan))]
        return (max if mode == "max" else min)(rows, key=lambda row: row[monitor]) if rows else None

    def facts(self, monitor: str, mode: str) -> dict[str, Any]:
        """What a record says of the training."""
        row = self.best(monitor, mode) or {}
        scores = {name.removeprefix("val/"): value for name, value in row.items() if name.startswith("val/")}
        return {
            "started": self.started,
            "ended": now(),
            "fit_seconds": round(self.fit_seconds, 1),
            "audio_seconds_per_second": round(median(self.speeds), 2) if self.speeds else None,
            "monitor": monitor,
            "mode": mode,
            "best": row.get(monitor),
            "best_epoch": row.get("epoch"),
            "validation": {"n": self.files, **scores} if row else None,
            "curve": self.curve,
        }
