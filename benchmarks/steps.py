"""Speed of the steps of a training, for speed.py: ``+callbacks.steps._target_=benchmarks.steps.Steps``."""

import json
import statistics
import time
from itertools import pairwise
from typing import Any

import torch
from pytorch_lightning import Callback

WARM = 2  # steps that do not count


class Steps(Callback):
    """Prints, at the end, the audio-seconds per second of the median step after the first two, data included.

    A GPU works on while the next steps are asked for: there it is the mean, of a stretch that begins and ends idle.
    """

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if pl_module.device.type == "cuda" and len(self.ends) == WARM - 1:
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        count, _, frames = batch["noisy"].shape
        self.audio = count * frames / pl_module.denoiser.spectral.frame_rate

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        ends = self.ends[WARM - 1 :]
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
            step = (time.perf_counter() - ends[0]) / (len(ends) - 1)
        else:
            step = statistics.median(after - before for before, after in pairwise(ends))
        print(json.dumps({"audio_s_per_s": self.audio / step}), flush=True)
