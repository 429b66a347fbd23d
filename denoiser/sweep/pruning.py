"""Early end of runs that are far behind the others of their sweep."""

import math
import statistics
from contextlib import suppress
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from denoiser.errors import PrunedError

CURVE = "monitor.csv"  # in a run's folder: epoch, value


class MedianPruner(Callback):
    """The median stopping rule (Golovin et al., "Google Vizier", KDD 2017, section 3.2.1), between runs of one sweep.

    After a validation, a run ends by PrunedError if its best value so far is worse than the median, over the other
    runs that came as far, of the mean of their values so far. No run ends before the end of ``first_epoch``, counted
    from 1, and before ``runs`` others have come as far. Curves are files, which processes and machines share.
    """

    def __init__(self, monitor: str, mode: str = "max", first_epoch: int = 5, runs: int = 4) -> None:
        self.monitor, self.mode, self.first_epoch, self.runs = monitor, mode, first_epoch, runs

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        # A run of a sweep is one process.
        folder, epoch = Path(trainer.default_root_dir), trainer.current_epoch + 1
        with open(folder / CURVE, "a", encoding="utf-8") as file:
            file.write(f"{epoch},{float(trainer.callback_metrics[self.monitor])}\n")
        is_over = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if epoch < self.first_epoch or is_over:
            return
        own = read_values(folder / CURVE, epoch)
        others = [read_values(path, epoch) for path in folder.parent.glob(f"*/{CURVE}") if path.parent != folder]
        averages = [statistics.fmean(values) for values in others if values]
        if not own or len(averages) < max(1, self.runs):
            return
        better = max if self.mode == "max" else min
        best, median = better(own), statistics.median(averages)
        if better(best, median) != best:
            place = f"the median of the {len(averages)} other runs of the sweep that came as far, {median:.4g}"
            error = PrunedError(f"after epoch {epoch} its best {self.monitor}, {best:.4g}, is worse than {place}")
            error.best = best
            raise error


def read_values(path: Path, until: int) -> list[float]:
    """Return the finite values of a curve up to an epoch, the last of each; none of a curve that does not reach it."""
    curve = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        # Another process may still be writing its line.
        with suppress(ValueError):
            epoch, value = line.split(",")
            curve[int(epoch)] = float(value)
    if max(curve, default=0) < until:
        return []
    return [value for epoch, value in curve.items() if epoch <= until and math.isfinite(value)]
