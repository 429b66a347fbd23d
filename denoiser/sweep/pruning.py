"""Early end of runs that are far behind the others of their sweep."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from denoiser.errors import ConfigError, PrunedError

CURVE = "monitor.csv"  # in a run's folder: epoch, value


class MedianPruner(Callback):
    """The median stopping rule (Golovin et al., "Google Vizier", KDD 2017, section 3.2.1), between runs of one sweep.

    After a validation, a run ends by PrunedError if its best value so far is worse than the median, over the other
    runs in its sweep's folder that came as far, of the mean of their values so far. Curves are files beside the
    checkpoints, so it holds between processes and machines that share the folder, and over a restart.

    Args:
        monitor: the metric to compare.
        mode: ``max`` if higher is better, ``min`` otherwise.
        first_epoch: no run ends before the end of this epoch, counted from 1.
        runs: number of other runs that must have come as far.
    """

    def __init__(self, monitor: str, mode: str = "max", first_epoch: int = 5, runs: int = 4) -> None:
        if mode not in ("max", "min"):
            raise ConfigError(f"pruning: mode={mode}: expected max or min")
        if first_epoch < 1 or runs < 1:
            raise ConfigError(f"pruning: first_epoch={first_epoch}, runs={runs}: expected 1 or more")
        self.monitor, self.mode, self.first_epoch, self.runs = monitor, mode, first_epoch, runs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        folder, epoch = Path(trainer.default_root_dir), trainer.current_epoch + 1
        if trainer.is_global_zero:
            with open(folder / CURVE, "a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([epoch, float(trainer.callback_metrics[self.monitor])])
        found = self._judge(folder, epoch) if trainer.is_global_zero and epoch >= self.first_epoch else None
        # All processes end together, or the others would wait for the first.
        found = trainer.strategy.broadcast(found)
        if found and epoch != trainer.max_epochs:
            best, median, others = found
            raise PrunedError(
                f"after epoch {epoch} its best {self.monitor}, {best:.4g}, is worse than the median of the {others} "
                f"other runs of the sweep that came as far, {median:.4g}",
                best,
            )

    def _judge(self, folder: Path, epoch: int) -> tuple[float, float, int] | None:
        own = [value for e, value in read_curve(folder / CURVE).items() if e <= epoch and math.isfinite(value)]
        others = [read_curve(path) for path in sorted(folder.parent.glob(f"*/{CURVE}")) if path.parent != folder]
        averages = averages_until(others, epoch)
        if not own or len(averages) < self.runs:
            return None
        best, median = (max if self.mode == "max" else min)(own), statistics.median(averages)
        worse = best < median if self.mode == "max" else best > median
        return (best, median, len(averages)) if worse else None


def averages_until(curves: Sequence[Mapping[int, float]], epoch: int) -> list[float]:
    """Return the mean of the finite values up to ``epoch`` of each curve that reaches it."""
    reached = [curve for curve in curves if max(curve, default=0) >= epoch]
    values = [[v for e, v in curve.items() if e <= epoch and math.isfinite(v)] for curve in reached]
    return [statistics.fmean(v) for v in values if v]


def read_curve(path: Path) -> dict[int, float]:
    """Read ``{epoch: value}``, the last value of each epoch; skips a line that another process is still writing."""
    found = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.reader(file):
            try:
                epoch, value = row
                found[int(epoch)] = float(value)
            except ValueError:
                continue
    return found
