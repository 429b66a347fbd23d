"""Callbacks of a run's configuration: checkpoints, averaged weights, divergence, clips, progress."""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar, WeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from tqdm import tqdm

from denoiser import figures
from denoiser.errors import ConfigError, DenoiserError, DivergedError
from denoiser.training.module import DenoisingModule


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose remembered paths follow the run's folder when it is moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        state = {**state_dict, "dirpath": self.dirpath}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = here(state[key])
        state["best_k_models"] = {here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)


class EMA(WeightAveraging):
    """Exponential moving average of the weights: validated, kept and tested in place of the raw ones.

    After n steps its decay is (1 + n) / (10 + n), and at most ``decay``: at 0.999 from the start on, the first weights,
    which know nothing, would still be 37 % of it after 1000 steps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"callbacks.ema.decay={decay}: expected 0 or more, below 1")
        super().__init__(avg_fn=partial(_averaged, decay=decay))


def _averaged(average: Tensor, current: Tensor, count: Tensor, decay: float) -> Tensor:
    share = ((1 + count) / (10 + count)).clamp(max=decay)
    return share * average + (1 - share) * current


class StopWhenDiverged(Callback):
    """Ends a training by DivergedError at the first loss that is not finite.

    That step is noted on the device, and read when the loss is logged and at the end of the epoch: reading it at every
    step would make a GPU wait for the CPU.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = torch.tensor(-1, device=pl_module.device)
        self.epoch = torch.zeros_like(self.step)
        self.batch = torch.zeros_like(self.step)
        self.loss = torch.tensor(0.0, device=pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach().float()
        is_first = ~loss.isfinite() & (self.step < 0)
        self.step = torch.where(is_first, trainer.global_step, self.step)
        self.epoch = torch.where(is_first, trainer.current_epoch, self.epoch)
        self.batch = torch.where(is_first, batch_idx, self.batch)
        self.loss = torch.where(is_first, loss, self.loss)
        is_logged = (batch_idx + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if not is_logged and not trainer.is_last_batch:
            return
        step = int(self.step)
        # All processes end together, or one would wait for the others.
        if trainer.strategy.reduce_boolean_decision(step >= 0, all=False):
            raise self._error(trainer, f"is {float(self.loss)} at step {step}" if step >= 0 else "of a process is nan")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val/loss", 0.0))
        if not math.isfinite(loss):
            raise self._error(trainer, f"of the validation is {loss}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # The loss shows a step too late that the weights are not finite: the checkpoint that is there stays.
        values = [value for value in checkpoint["state_dict"].values() if value.is_floating_point()]
        if not all(bool(value.isfinite().all()) for value in values):
            raise self._error(trainer, f"left weights that are no finite numbers by step {trainer.global_step}")

    def _error(self, trainer: Trainer, what: str) -> DivergedError:
        reason = "the training diverged; a lower optimizer.lr or trainer.gradient_clip_val may help"
        data = trainer.datamodule  # type: ignore[attr-defined]
        if int(self.step) >= 0 and (names := data.nonfinite(int(self.epoch), int(self.batch))):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            reason = f"the batch held no finite numbers, for {', '.join(names[:3])}{more}; is it the augmentation?"
        return DivergedError(f"the loss {what}, in epoch {trainer.current_epoch + 1}: {reason}")


class LogClips(Callback):
    """Writes the same few validation clips to TensorBoard at every validation, as sound and as spectrograms.

    Args:
        clips: their number; they are evenly spaced over the validation set.
    """

    def __init__(self, clips: int = 3) -> None:
        self.clips = clips

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logger, loader = trainer.logger, trainer.val_dataloaders
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not isinstance(logger, TensorBoardLogger) or loader is None:
            return
        assert isinstance(pl_module, DenoisingModule)
        dataset = loader.dataset
        count = min(self.clips, len(dataset))
        for number in range(count):
            item = dataset[number * len(dataset) // count]
            self._log(logger.experiment, trainer, pl_module, item)

    @staticmethod
    def _log(writer: Any, trainer: Trainer, module: DenoisingModule, item: dict[str, Any]) -> None:
        rate, name, step = module.denoiser.sample_rate, item["name"], trainer.global_step
        enhanced = module.denoiser.enhance(item["noisy"], rate)
        waveforms = {"noisy": item["noisy"], "enhanced": enhanced, "clean": item["clean"]}
        for kind, waveform in waveforms.items():
            writer.add_audio(f"{name}/{kind}", waveform[None].clamp(-1, 1), step, rate)
        try:
            picture = figures.figure(waveforms, rate, f"{name}, epoch {trainer.current_epoch}")
        except DenoiserError:
            # Without matplotlib there is the sound alone.
            return
        writer.add_figure(f"{name}/spectrogram", picture, step)


class Progress(TQDMProgressBar):
    """Progress bar on a terminal, and everywhere a line per validation: losses, scores, seconds of audio per second."""

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate if sys.stderr.isatty() else 0)
        self.audio = self.seconds = self.begin = 0.0

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name: value for name, value in metrics.items() if name == "train/loss_step"}

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        # A run that goes on in the middle of an epoch does not come by its start.
        self.begin = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.audio = 0.0
        self.begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        assert isinstance(pl_module, DenoisingModule)
        items, _, frames = batch["noisy"].shape
        self.audio += items * frames / pl_module.denoiser.spectral.frame_rate * trainer.world_size
        # Taken here, since validation comes after the last batch.
        self.seconds = time.perf_counter() - self.begin

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        rate = ""
        if self.seconds:
            speed = self.audio / self.seconds
            rate = f"  {speed:.1f} audio-s/s"
            pl_module.log("train/audio_seconds_per_second", speed)
        epoch, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch
        is_validated = not every or epoch % every == 0 or epoch == trainer.max_epochs
        if not is_validated or not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        names = ["train/loss_epoch", *(name for name in metrics if name.startswith("val/"))]
        values = [f"{name.removesuffix('_epoch')} {float(metrics[name]):.4g}" for name in names if name in metrics]
        step = trainer.global_step
        tqdm.write(f"epoch {epoch}/{trainer.max_epochs}  step {step}  {'  '.join(values)}{rate}")
