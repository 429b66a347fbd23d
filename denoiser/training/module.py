"""Training of a denoiser: the step that training and validation share, and the scores of whole utterances."""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from denoiser import distributed
from denoiser.checkpoint import SHIPPED, load_checkpoint
from denoiser.errors import CheckpointError
from denoiser.evaluation import metrics, tables
from denoiser.evaluation.metrics import missing_package
from denoiser.evaluation.scoring import Scores, Scoring, result
from denoiser.inference.denoiser import Denoiser
from denoiser.training.components import MakeOptimizer, MakeScheduler, wants_total_steps
from denoiser.training.folder import differences, of_spectra
from denoiser.training.trainer import total_steps

# Validation takes its loss over the beginning of a file, which the network is given in one piece.
LOSS_SECONDS = 30


class DenoisingModule(LightningModule):
    """Training of a :class:`Denoiser` on the spectra of crops; validation by the enhanced files.

    ``loss`` takes (estimate, clean, noisy), each a :class:`~denoiser.spectral.Spectrum`; ``scheduler`` takes the
    optimizer, and ``total_steps`` if it has that argument. ``metrics`` are computed on whole utterances, by
    ``metric_workers`` (see :class:`Scoring`). ``seed`` is for dropout. ``settings`` are plain values that every
    checkpoint carries as ``hyper_parameters``: ``model`` and ``spectral``, from which the denoiser is rebuilt, and all
    else that a resumed run must match.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        loss: nn.Module,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        metrics: Sequence[str] = ("pesq", "stoi", "si_sdr"),
        seed: int = 0,
        metric_workers: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        # Plain values only: torch.load(weights_only=True) reads no others.
        self.save_hyperparameters(dict(settings or {}), logger=False)
        self.denoiser, self.loss = denoiser, loss
        self.optimizer, self.scheduler = optimizer, scheduler
        self.metric_names = list(metrics)
        self.val_metric_names = [name for name in metrics if not missing_package(name)]
        self.seed, self.metric_workers = seed, metric_workers
        # Results of the last validation or test: a row per file, and seconds of computing per second of audio.
        self.rows: list[dict[str, Any]] = []
        self.real_time_factor: float | None = None
        # This process's part of the current one: rows by file index, seconds of computing, seconds of audio.
        self._rows: dict[int, dict[str, Any]] = {}
        self._taken = self._audio = 0.0
        self._scoring: Scoring | None = None

    def init_from(self, path: str) -> None:
        """Load the weights and the scale of a checkpoint; its head may have fewer channels than this one's.

        Raises CheckpointError where it was trained on other spectra, or has the weights of another network.
        """
        checkpoint = load_checkpoint(path)
        advice = f"; with experiment={path}" if path in SHIPPED else ""
        trained, model = checkpoint["hyper_parameters"], self.hparams["model"]
        # The weights do not depend on the number of results that are averaged.
        before, now = ({"spectral": {**of_spectra(found), "shifts": None}} for found in (trained, self.hparams))
        if changes := differences(before, now):
            # The scale belongs both to the weights and to these settings.
            raise CheckpointError(f"init_from={path}: was trained on other spectra: {', '.join(changes)}{advice}")
        if {**trained["model"], "head": None} == {**model, "head": None}:
            last = 1 / self.denoiser.inputs if self.denoiser.spectral.two_levels else 0.0
            _pad_with_zeros(checkpoint["state_dict"], self.state_dict(), last)
        try:
            self.denoiser.load_weights(checkpoint, path)
        except CheckpointError as error:
            changed = ", ".join(differences(trained, {"model": model}))
            if not changed:
                raise
            problem = f"init_from={path}: its weights are of another network: {changed}{advice}"
            raise CheckpointError(problem) from error

    def on_fit_start(self) -> None:
        spectral = self.denoiser.spectral
        if float(spectral.peak) > 0:
            return
        if self.global_rank == 0:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            spectral.fit((noisy.to(self.device), level.to(self.device)) for noisy, level in data.calibration())
        spectral.peak.fill_(distributed.broadcast(float(spectral.peak)))

    def step(self, batch: dict[str, Any]) -> Tensor:
        """Return the loss of a batch of spectra ``[B, F, T]``, ``noisy`` and ``clean``.

        Bands above the ``bandwidth`` of its recordings count in no loss.
        """
        noisy, clean = batch["noisy"], batch["clean"]
        estimate = self.denoiser.estimate(noisy)
        if self.denoiser.spectral.bands:
            estimate = estimate.up_to(batch["bandwidth"], clean)
        with torch.autocast(self.device.type, enabled=False):
            return self.loss(estimate, clean, noisy)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout follows from these numbers alone, so that a resumed training draws the same.
        sequence = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx, self.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = self.step(batch)
        size = batch["noisy"].shape[0]
        if self.trainer.world_size > 1:
            # Processes may hold unequal shares of the last batch, but gradients are averaged evenly.
            sampler = self.trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
            loss = loss * sampler.weight(batch_idx)
            size = sampler.size(batch_idx)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        noisy, clean = _without_offset(batch)
        spectral, samples = self.denoiser.spectral, LOSS_SECONDS * self.denoiser.sample_rate
        spectra = spectral.spectra(noisy[:, :samples], clean[:, :samples], batch["level"])
        loss = float(self.step({**spectra, "bandwidth": batch["bandwidth"]}))
        # A network that has diverged makes no sound; the callback StopWhenDiverged ends the training.
        scores: Any = dict.fromkeys(self.val_metric_names, math.nan)
        if math.isfinite(loss):
            scores = self._score(clean, self._enhance(noisy), self.val_metric_names)
        self._rows[int(batch["index"])] = {"loss": loss, "scores": scores}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        noisy, clean = _without_offset(batch)
        self._rows[int(batch["index"])] = {
            "name": batch["name"][0],
            "noisy": self._score(clean, noisy, self.metric_names),
            "enhanced": self._score(clean, self._enhance(noisy), self.metric_names),
        }

    def on_validation_epoch_end(self) -> None:
        self._gather()
        if not self.rows:
            return
        loss = sum(row["loss"] for row in self.rows) / len(self.rows)
        means = {"loss": loss, **metrics.mean([row["scores"] for row in self.rows])}
        self.log_dict({f"val/{name}": value for name, value in means.items()}, prog_bar=True)

    def on_test_epoch_end(self) -> None:
        self._gather()
        means = tables.summarise(self.rows)["enhanced"]
        self.log_dict({f"test/{name}": value for name, value in means.items()})

    def teardown(self, stage: str) -> None:
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None

    def _enhance(self, noisy: Tensor) -> Tensor:
        """Return ``[1, N]`` enhanced, and note the time it took."""
        begin = time.perf_counter()
        enhanced = self.denoiser.enhance(noisy, self.denoiser.sample_rate)
        if enhanced.is_cuda:
            torch.cuda.synchronize(enhanced.device)
        self._taken += time.perf_counter() - begin
        self._audio += noisy.shape[-1] / self.denoiser.sample_rate
        return enhanced

    def _score(self, clean: Tensor, estimate: Tensor, names: Sequence[str]) -> Future[Scores]:
        """Return a future of the scores of ``[1, N]``, which other processes may compute."""
        if self._scoring is None:
            self._scoring = Scoring(self.metric_workers, self.device.type, distributed.local_world_size())
        return self._scoring.score(clean[0], estimate[0], self.denoiser.sample_rate, names)

    def _gather(self) -> None:
        """Set ``rows`` and ``real_time_factor`` from all processes; a file that two processes scored counts once."""
        for row in self._rows.values():
            row.update({key: result(value) for key, value in row.items() if isinstance(value, Future)})
        parts, taken, audio = zip(*distributed.gather((self._rows, self._taken, self._audio)), strict=True)
        rows = {index: row for part in parts for index, row in part.items()}
        self.rows = [rows[index] for index in sorted(rows)]
        self.real_time_factor = sum(taken) / sum(audio) if any(audio) else None
        self._rows, self._taken, self._audio = {}, 0.0, 0.0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.denoiser.net.parameters())
        if self.scheduler is None:
            return optimizer
        steps = {}
        if wants_total_steps(self.scheduler):
            steps["total_steps"] = total_steps(self.trainer, self.trainer.datamodule)  # type: ignore[attr-defined]
        schedule = self.scheduler(optimizer, **steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _without_offset(batch: Mapping[str, Any]) -> list[Tensor]:
    """Return noisy and clean ``[1, N]`` without their offsets (DC), as inference removes that of a recording."""
    return [batch[kind] - batch[kind].mean(dim=-1, keepdim=True) for kind in ("noisy", "clean")]


def _pad_with_zeros(weights: dict[str, Tensor], wanted: Mapping[str, Tensor], last: float) -> None:
    """Pad weights to the wanted shapes with zeros, which leaves the network's result as it was.

    The ``last`` share of its inputs is no feature of the head, and stays the last.
    """
    for name, value in weights.items():
        shape = wanted[name].shape if name in wanted else value.shape
        if value.ndim == len(shape) and all(own <= new for own, new in zip(value.shape, shape, strict=True)):
            padded = value.new_zeros(shape)
            padded[tuple(map(slice, value.shape))] = value
            if last and value.ndim > 1 and value.shape[1] < shape[1] and not name.endswith(".head.weight"):
                count = round(last * shape[1])
                padded[:, value.shape[1] - count :] = 0
                padded[:, -count:] = value[:, -count:]
            weights[name] = padded
