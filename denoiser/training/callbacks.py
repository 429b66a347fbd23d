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
from torch import Tensor
from tqdm import tqdm

from denoiser import figures
from denoiser.errors import ConfigError, DivergedError
from denoiser.inference.denoiser import Denoiser
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

    Losses stay on the device until one is logged or the epoch ends: reading each would make a GPU wait for the CPU.
    """

    def __init__(self) -> None:
        self.losses: list[tuple[int, int, Tensor]] = []  # step, index of the batch, loss: those not read yet

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append((trainer.global_step, batch_idx, outputs["loss"].detach()))
        is_logged = (batch_idx + 1) % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if not is_logged and not trainer.is_last_batch:
            return
        first = self._first_bad()
        # All processes end together, or one would wait for the others.
        if trainer.strategy.reduce_boolean_decision(first is not None, all=False):
            raise self._error(trainer, f"is {first[2]} at step {first[0]}" if first else "of a process is nan")
        self.losses.clear()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss = float(trainer.callback_metrics.get("val/loss", 0.0))
        if not math.isfinite(loss):
            raise self._error(trainer, f"of the validation is {loss}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # The loss shows a step too late that the weights are not finite: the checkpoint that is there stays.
        values = [value for value in checkpoint["state_dict"].values() if value.is_floating_point()]
        if not all(bool(value.isfinite().all()) for value in values):
            raise self._error(trainer, f"left weights that are no finite numbers by step {trainer.global_step}")

    def _first_bad(self) -> tuple[int, int, float] | None:
        """Return step, index of the batch and loss of the first that is not finite."""
        values = torch.stack([loss for *_, loss in self.losses]).tolist() if self.losses else []
        for (step, index, _), value in zip(self.losses, values, strict=True):
            if not math.isfinite(value):
                return step, index, value
        return None

    def _error(self, trainer: Trainer, what: str) -> DivergedError:
        reason = "the training diverged; a lower optimizer.lr or trainer.gradient_clip_val may help"
        data = trainer.datamodule  # type: ignore[attr-defined]
        first = self._first_bad()
        if first and (names := data.nonfinite(trainer.current_epoch, first[1])):
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
        if not isinstance(logger, TensorBoardLogger) or loader is None:
            return
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, DenoisingModule)
        dataset = loader.dataset
        count = min(self.clips, len(dataset))
        for number in range(count):
            item = dataset[number * len(dataset) // count]
            self._log(logger.experiment, trainer, pl_module.denoiser, item)

    @staticmethod
    def _log(writer: Any, trainer: Trainer, denoiser: Denoiser, item: dict[str, Any]) -> None:
        rate, name, step = denoiser.sample_rate, item["name"], trainer.global_step
        waveforms = {"noisy": item["noisy"], "enhanced": denoiser.enhance(item["noisy"], rate), "clean": item["clean"]}
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
