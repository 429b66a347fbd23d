"""What is watched while training runs."""

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


class LogClips(Callback):
    """The same few validation clips at every validation, as sound and as spectrograms, to TensorBoard.

    Args:
        clips: how many, evenly spaced over the validation set.
    """

    def __init__(self, clips: int = 3) -> None:
        self.clips = clips

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        logger, loader = trainer.logger, trainer.val_dataloaders
        if (
            trainer.sanity_checking
            or trainer.global_rank
            or not isinstance(logger, TensorBoardLogger)
            or loader is None
        ):
            return
        assert isinstance(pl_module, DenoisingModule)
        denoiser, dataset = pl_module.denoiser, loader.dataset
        count = min(self.clips, len(dataset))
        for item in (dataset[i * len(dataset) // count] for i in range(count)):
            name, step = item["name"], trainer.global_step
            enhanced = denoiser.enhance(item["noisy"], denoiser.sample_rate)
            waveforms = {"noisy": item["noisy"], "enhanced": enhanced, "clean": item["clean"]}
            for kind, waveform in waveforms.items():
                sound = waveform[None].clamp(-1, 1)
                logger.experiment.add_audio(f"{name}/{kind}", sound, step, denoiser.sample_rate)
            try:
                picture = figures.figure(waveforms, denoiser.sample_rate, f"{name}, epoch {trainer.current_epoch}")
            except DenoiserError:  # no matplotlib: the sound is there all the same
                continue
            logger.experiment.add_figure(f"{name}/spectrogram", picture, step)


class EMA(WeightAveraging):
    """An exponential moving average of the weights: validated, kept and tested in the place of the raw ones.

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
    """Ends a training by DivergedError at the first loss that is no finite number.

    The first such step is noted on the device and asked for when the loss is logged and at the epoch's end: to ask at
    every step would make a GPU wait for the CPU.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = torch.tensor(-1, device=pl_module.device)
        self.epoch, self.batch = torch.zeros_like(self.step), torch.zeros_like(self.step)
        self.loss = torch.tensor(0.0, device=pl_module.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach().float()
        first = ~loss.isfinite() & (self.step < 0)
        self.step = torch.where(first, trainer.global_step, self.step)
        self.loss = torch.where(first, loss, self.loss)
        self.epoch = torch.where(first, trainer.current_epoch, self.epoch)
        self.batch = torch.where(first, batch_idx, self.batch)
        if not trainer.is_last_batch and (batch_idx + 1) % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            return
        step = int(self.step)
        if trainer.strategy.reduce_boolean_decision(step >= 0, all=False):  # all processes end, or one would wait
            raise self._error(trainer, f"is {float(self.loss)} at step {step}" if step >= 0 else "of a process is nan")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint that is there where the weights are no numbers: the loss shows it a step too late."""
        values = [value for value in checkpoint["state_dict"].values() if value.is_floating_point()]
        if not all(bool(value.isfinite().all()) for value in values):
            raise self._error(trainer, f"left weights that are no finite numbers by step {trainer.global_step}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val/loss", 0.0))
        if not math.isfinite(loss):  # the last step before it did that
            raise self._error(trainer, f"of the validation is {loss}")

    def _error(self, trainer: Trainer, what: str) -> DivergedError:
        reason = "the training diverged; a lower optimizer.lr or trainer.gradient_clip_val may help"
        data = trainer.datamodule  # type: ignore[attr-defined]
        if int(self.step) >= 0 and (names := data.nonfinite(int(self.epoch), int(self.batch))):
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            reason = f"the batch held no finite numbers, for {', '.join(names[:3])}{more}; is it the augmentation?"
        return DivergedError(f"the loss {what}, in epoch {trainer.current_epoch + 1}: {reason}")


class Checkpoint(ModelCheckpoint):
    """Lightning's, but the paths it remembers follow the run's folder, which may have moved since."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath), Path(path).name)) if path else path

        state = {**state_dict, "dirpath": self.dirpath}
        state |= {key: here(state[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        state["best_k_models"] = {here(path): score for path, score in state["best_k_models"].items()}
        super().load_state_dict(state)


class Progress(TQDMProgressBar):
    """A bar where somebody watches, and everywhere a line per validation: losses, scores, audio-seconds per second."""

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate if sys.stderr.isatty() else 0)
        self.audio = self.seconds = 0.0

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return {k: v for k, v in super().get_metrics(trainer, pl_module).items() if k == "train/loss_step"}

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        self.begin = time.perf_counter()  # of an epoch, too, that goes on in its middle

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.audio, self.begin = 0.0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        assert isinstance(pl_module, DenoisingModule)
        count, _, frames = batch["noisy"].shape
        self.audio += count * frames / pl_module.denoiser.spectral.frame_rate * trainer.world_size
        self.seconds = time.perf_counter() - self.begin  # of training: validation comes after the last batch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        rate = ""
        if self.seconds:  # else nothing but validation was left of an epoch that was interrupted
            speed = self.audio / self.seconds
            rate = f"  {speed:.1f} audio-s/s"
            pl_module.log("train/audio_seconds_per_second", speed)
        epoch, metrics = trainer.current_epoch + 1, trainer.callback_metrics
        last = trainer.max_epochs == epoch
        if not last and (trainer.check_val_every_n_epoch and epoch % trainer.check_val_every_n_epoch):
            return
        names = ["train/loss_epoch", *(name for name in metrics if name.startswith("val/"))]
        values = "  ".join(
            f"{name.removesuffix('_epoch')} {float(metrics[name]):.4g}" for name in names if name in metrics
        )
        line = f"epoch {epoch}/{trainer.max_epochs}  step {trainer.global_step}  {values}{rate}"
        if trainer.is_global_zero:
            tqdm.write(line)
