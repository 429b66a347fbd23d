"""Callbacks of a run's configuration: checkpoints, averaged weights, divergence, clips, progress."""

import math
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar, WeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from tqdm import tqdm

from denoiser import distributed, figures
from denoiser.errors import ConfigError, DivergedError


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose remembered paths follow the run's folder when it is moved.

    Where the best checkpoint did not come along, the validations from here on choose one. A value that is not a number,
    as where a metric is defined for no file, chooses none.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        old, new = str(state_dict["dirpath"]), str(self.dirpath)
        best = {path.replace(old, new): score for path, score in state_dict["best_k_models"].items()}
        paths = {key: value.replace(old, new) for key, value in state_dict.items() if isinstance(value, str)}
        kept = paths["best_model_path"]
        if kept and not Path(kept).is_file():
            if self.monitor:
                distributed.say(f"warning: {kept} is not there: the validations from here on choose the best")
            return
        super().load_state_dict({**state_dict, **paths, "best_k_models": best})

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        if current is not None and current.isnan():
            reason = "is defined for no validation file (silent, too short or no speech found)"
            distributed.say(
                f"warning: {self.monitor} {reason}: there is no best.ckpt of it; monitor=val/loss always is"
            )
            return False
        return super().check_monitor_top_k(trainer, current)


class EMA(WeightAveraging):
    """Exponential moving average of the weights: validated, kept and tested in place of the raw ones.

    After n steps its decay is (1 + n) / (10 + n), and at most ``decay``: at 0.999 from the start on, the first weights,
    which know nothing, would still be 37 % of it after 1000 steps.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"callbacks.ema.decay={decay}: expected 0 or more, below 1")
        super().__init__(avg_fn=partial(_averaged, decay=decay))
        self.decay = decay

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning would put the raw weights, with which a fit goes on, in the place of the average that a test is of.
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    # Before the first step the average is the module as it was before its scale was fitted.
    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            super().on_validation_epoch_end(trainer, pl_module)


def _averaged(average: Tensor, current: Tensor, count: Tensor, decay: float) -> Tensor:
    share = ((1 + count) / (10 + count)).clamp(max=decay)
    return share * average + (1 - share) * current


class FrozenNorms(Callback):
    """Batch norms that keep their statistics: for training on in smaller batches than those that they come from."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for layer in pl_module.modules():
            # Several GPUs train with SyncBatchNorm in place of BatchNorm2d.
            if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
                layer.eval()


class StopWhenDiverged(Callback):
    """End of a training, by DivergedError, at the first loss that is not finite."""

    def __init__(self) -> None:
        # Step and loss. They stay on the device until one is logged or the epoch ends, or a GPU would wait for the CPU.
        self.losses: list[tuple[int, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append((trainer.global_step, outputs["loss"].detach()))
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        is_logged = every > 0 and (batch_idx + 1) % every == 0
        if not is_logged and not trainer.is_last_batch:
            return
        # One transfer from the device for all of them.
        values = torch.stack([loss for _, loss in self.losses]).tolist()
        bad = [(step, loss) for (step, _), loss in zip(self.losses, values, strict=True) if not math.isfinite(loss)]
        self.losses.clear()
        # All processes end together, or one would wait for the others.
        if trainer.strategy.reduce_boolean_decision(bool(bad), all=False):
            step, loss = bad[0] if bad else (trainer.global_step, "not finite in another process")
            raise _diverged(trainer, f"is {loss} at step {step}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val/loss", 0.0))
        if not math.isfinite(loss):
            raise _diverged(trainer, f"of the validation is {loss}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # The loss shows a step too late that the weights are not finite: the checkpoint that is there stays.
        if not all(value.isfinite().all() for value in checkpoint["state_dict"].values()):
            raise _diverged(trainer, f"left weights that are no finite numbers by step {trainer.global_step}")


def _diverged(trainer: Trainer, what: str) -> DivergedError:
    advice = "a lower optimizer.lr or trainer.gradient_clip_val, or less augment, may help"
    return DivergedError(f"the loss {what}, in epoch {trainer.current_epoch + 1}: the training diverged; {advice}")


class LogClips(Callback):
    """Sound and spectrograms of the same ``clips`` validation files, for TensorBoard at every validation."""

    def __init__(self, clips: int = 3) -> None:
        self.clips = clips

    def on_validation_epoch_end(self, trainer: Trainer, module: Any) -> None:
        if not isinstance(trainer.logger, TensorBoardLogger) or trainer.sanity_checking or not trainer.is_global_zero:
            return
        writer, step, rate = trainer.logger.experiment, trainer.global_step, module.denoiser.sample_rate
        dataset: Any = trainer.val_dataloaders.dataset  # type: ignore[union-attr]
        count = min(self.clips, len(dataset))
        for number in range(count):
            item = dataset[number * len(dataset) // count]
            name, noisy = item["name"], item["noisy"]
            waveforms = {"noisy": noisy, "enhanced": module.denoiser.enhance(noisy, rate), "clean": item["clean"]}
            for kind, waveform in waveforms.items():
                writer.add_audio(f"{name}/{kind}", waveform[None].clamp(-1, 1), step, rate)
            # Without matplotlib there is the sound alone.
            if find_spec("matplotlib"):
                picture = figures.figure(waveforms, rate, f"{name}, epoch {trainer.current_epoch}")
                writer.add_figure(f"{name}/spectrogram", picture, step)


class Progress(TQDMProgressBar):
    """Progress bar on a terminal, and everywhere a line per validation: losses, scores, seconds of audio per second."""

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate=refresh_rate if sys.stderr.isatty() else 0)
        self.audio = self.seconds = self.begin = 0.0
        self.has_validated = False  # since the last line

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

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        items, _, frames = batch["noisy"].shape
        self.audio += items * frames / module.denoiser.spectral.frame_rate * trainer.world_size
        # Taken here, since validation comes after the last batch.
        self.seconds = time.perf_counter() - self.begin

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self.has_validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        rate = ""
        if self.seconds:
            speed = self.audio / self.seconds
            rate = f"  {speed:.1f} audio-s/s"
            pl_module.log("train/audio_seconds_per_second", speed)
        epoch, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch
        # Validations that are counted in batches come in any epoch.
        is_due = epoch % every == 0 if every else self.has_validated
        if not is_due or not trainer.is_global_zero:
            return
        self.has_validated = False
        metrics = trainer.callback_metrics
        names = ["train/loss_epoch", *(name for name in metrics if name.startswith("val/"))]
        values = [f"{name.removesuffix('_epoch')} {float(metrics[name]):.4g}" for name in names if name in metrics]
        limit = trainer.max_epochs or 0
        place = f"epoch {epoch}/{limit}" if limit > 0 else f"epoch {epoch}"
        tqdm.write(f"{place}  step {trainer.global_step}  {'  '.join(values)}{rate}")
