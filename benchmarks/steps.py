"""How fast the steps of a training are, for speed.py: ``+callbacks.steps._target_=benchmarks.steps.Steps``."""

from __future__ import annotations

import json
import statistics
import time
from itertools import pairwise
from typing import Any

from pytorch_lightning import Callback

WARM = 2  # steps that do not count


class Steps(Callback):
    """Prints, at the end, the audio-seconds per second of the median step after the first two, data included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.ends.append(time.perf_counter())
        count, _, frames = batch["noisy"].shape
        self.audio = count * frames / pl_module.denoiser.spectral.frame_rate

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        ends = self.ends[WARM - 1 :]
        took = [after - before for before, after in pairwise(ends)]
        print(json.dumps({"audio_s_per_s": self.audio / statistics.median(took)}), flush=True)
