"""The training of a denoiser: one shared step, its optimiser, and the scores of whole utterances."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from denoiser import distributed
from denoiser.evaluation import metrics
from denoiser.evaluation.metrics import check_names, missing_package
from denoiser.evaluation.scoring import Scores, Scoring, result
from denoiser.inference.denoiser import Denoiser
from denoiser.training.components import MakeOptimizer
from denoiser.training.schedules import build_schedule

LOSS_SECONDS = 30  # of a validation file that its loss is taken over: the network sees that at once


class DenoisingModule(LightningModule):
    """Training of a :class:`Denoiser` on the spectra of crops; validation by the enhanced files.

    Args:
        denoiser: network, head and spectral representation.
        loss: module of (estimate, clean, noisy), each a :class:`~denoiser.spectral.Spectrum`.
        optimizer: called with the parameters of the network.
        scheduler: called with the optimizer and, where it has that argument, ``total_steps``; None for none.
        metrics: names of those computed on whole utterances, in validation and in the test.
        seed: dropout is drawn from (seed, epoch, batch), so that a resumed training repeats the uninterrupted one.
        metric_workers: processes that score while the network goes on; None for 0 on a CPU and up to 8 for a GPU.
        settings: plain values that every checkpoint carries as ``hyper_parameters``: ``model`` and ``spectral``, from
            which the denoiser is rebuilt, and all else that a resumed run has to agree with.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        loss: nn.Module,
        optimizer: MakeOptimizer,
        scheduler: Callable[..., Any] | None = None,
        metrics: Sequence[str] = ("pesq", "stoi", "si_sdr"),
        seed: int = 0,
        metric_workers: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_names(metrics)
        # Plain values only: torch.load(weights_only=True) reads no others.
        self.save_hyperparameters(dict(settings or {}), logger=False)
        self.denoiser = denoiser
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.metric_names = list(metrics)
        self.val_metric_names = [name for name in metrics if not missing_package(name)]
        self.seed = seed
        self.metric_workers = metric_workers
        self._scoring: Scoring | None = None
        # Of the last validation or test, once it has ended: of every file, in order.
        self.rows: list[dict[str, Any]] = []
        self.real_time_factor: float | None = None  # of that one: seconds it took to enhance a second

    def on_fit_start(self) -> None:
        spectral = self.denoiser.spectral
        if not float(spectral.peak) > 0:
            device = spectral.window.device
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            if self.global_rank == 0:
                spectral.fit((w.to(device), level.to(device)) for w, level in data.calibration())
            spectral.peak.fill_(distributed.broadcast(float(spectral.peak)))

    def step(self, batch: dict[str, Any]) -> Tensor:
        """The loss of a batch of spectra ``[B, F, T]``, ``noisy`` and ``clean``."""
        noisy, clean = batch["noisy"], batch["clean"]
        estimate = self.denoiser.estimate(noisy)
        with torch.autocast(self.device.type, enabled=False):
            return self.loss(estimate, clean, noisy)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        sequence = np.random.SeedSequence([self.seed, self.current_epoch, batch_idx, self.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss, size = self.step(batch), batch["noisy"].shape[0]
        if distributed.world() > 1:  # gradients are averaged over processes, whose shares of a last batch differ
            shares = self.trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
            loss, size = loss * shares.weight(batch_idx), shares.size(batch_idx)
        self.log("train/loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        noisy, clean, level = batch["noisy"], batch["clean"], batch["level"]
        spectral = self.denoiser.spectral
        start = noisy[:, : LOSS_SECONDS * spectral.sample_rate], clean[:, : LOSS_SECONDS * spectral.sample_rate]
        spectra = {name: spectral(w, level) for name, w in zip(("noisy", "clean"), start, strict=True)}
        loss = self.step(spectra)
        if loss.isfinite():
            enhanced = self._enhance(noisy)
            scores = self._score(clean, enhanced, self.val_metric_names)
        else:  # there is no sound of it; at its end the validation is found to have diverged
            scores = Future()
            scores.set_result(dict.fromkeys(self.val_metric_names, math.nan))
        self._keep(batch, {"loss": float(loss), "scores": scores})

    def _enhance(self, noisy: Tensor) -> Tensor:
        """What the denoiser makes of ``[1, N]``, and how long it took."""
        begin = time.perf_counter()
        enhanced = self.denoiser.enhance(noisy, self.denoiser.sample_rate)
        if enhanced.is_cuda:
            torch.cuda.synchronize(enhanced.device)
        self._times.append((time.perf_counter() - begin, noisy.shape[-1] / self.denoiser.sample_rate))
        return enhanced

    def _score(self, clean: Tensor, estimate: Tensor, names: Sequence[str]) -> Future[Scores]:
        if self._scoring is None:
            self._scoring = Scoring(self.metric_workers, self.device.type, distributed.here())
        return self._scoring.score(clean[0], estimate[0], self.denoiser.sample_rate, names)

    def _keep(self, batch: dict[str, Any], row: dict[str, Any]) -> None:
        self._rows[int(batch["index"])] = row

    def _begin(self) -> None:
        self._rows: dict[int, dict[str, Any]] = {}
        self._times: list[tuple[float, float]] = []

    def _gather(self) -> None:
        """Rows and times of all processes; a file that two of them had counts once."""
        for row in self._rows.values():
            row.update({key: result(value) for key, value in row.items() if isinstance(value, Future)})
        rows: dict[int, dict[str, Any]] = {}
        times: list[tuple[float, float]] = []
        for more, others in distributed.gather((self._rows, self._times)):
            rows, times = {**rows, **more}, times + others
        self.rows = [rows[index] for index in sorted(rows)]
        self.real_time_factor = sum(s for s, _ in times) / sum(audio for _, audio in times) if times else None

    def teardown(self, stage: str) -> None:
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None

    def on_validation_epoch_start(self) -> None:
        self._begin()

    def on_validation_epoch_end(self) -> None:
        self._gather()
        losses = [row["loss"] for row in self.rows]
        means = {"loss": sum(losses) / len(losses), **metrics.mean([r["scores"] for r in self.rows])} if losses else {}
        self.log_dict({f"val/{k}": v for k, v in means.items()}, prog_bar=True)

    def on_test_epoch_start(self) -> None:
        self._begin()

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        noisy, clean = batch["noisy"], batch["clean"]
        row: dict[str, Any] = {"name": batch["name"][0]}
        for kind, estimate in (("noisy", noisy), ("enhanced", self._enhance(noisy))):
            row[kind] = self._score(clean, estimate, self.metric_names)
        self._keep(batch, row)

    def on_test_epoch_end(self) -> None:
        self._gather()
        means = metrics.mean([row["enhanced"] for row in self.rows])
        self.log_dict({f"test/{k}": v for k, v in means.items()})

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.denoiser.net.parameters())
        if self.scheduler is None:
            return optimizer
        schedule = build_schedule(self.scheduler, optimizer, self.trainer.estimated_stepping_batches)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
