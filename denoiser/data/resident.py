"""The prepared corpus in the memory of the training device."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from denoiser.data.store import Store
from denoiser.errors import ConfigError

CHUNK = 1 << 24  # samples copied to the device at once
SHARE = 0.5  # of a GPU's free memory that a corpus may take by default; training needs the rest


class Resident:
    """Samples of stores on a device, int16 ``[tracks, N]``; their rows are numbered one store after the other."""

    def __init__(self, stores: Sequence[Store], device: torch.device) -> None:
        lengths = [len(store.maps[0]) for store in stores]
        bases = np.cumsum([0, *lengths]).tolist()
        self.samples = torch.empty(len(stores[0].tracks), bases[-1], dtype=torch.int16, device=device)
        for store, base in zip(stores, bases, strict=False):
            for samples, target in zip(store.maps, self.samples, strict=True):
                # In chunks, as the machine's memory may not hold the whole corpus.
                for first in range(0, len(samples), CHUNK):
                    chunk = torch.from_numpy(samples[first : first + CHUNK].copy())
                    target[base + first : base + first + len(chunk)] = chunk
        starts = np.concatenate([store.starts + base for store, base in zip(stores, bases, strict=False)])
        self.starts = torch.from_numpy(starts).to(device)
        self.lengths = torch.from_numpy(np.concatenate([store.lengths for store in stores])).to(device)

    def gather(self, rows: Tensor, offsets: Tensor, length: int) -> Tensor:
        """Return crops int16 ``[tracks, B, length]`` as :meth:`Store.gather`; rows and offsets are int64 ``[B]``."""
        places = offsets[:, None] + torch.arange(length, device=offsets.device)
        inside = (places >= 0) & (places < self.lengths[rows, None])
        places += self.starts[rows, None]
        crops = self.samples[:, places.clamp_(0, self.samples.shape[1] - 1)]
        return torch.where(inside, crops, 0)


def fits(device: torch.device, choice: str, size: int, free: int | None = None) -> bool:
    """Return True if a corpus of ``size`` bytes is to live on the training device, which has ``free`` bytes.

    ``choice`` is ``auto`` for a GPU with enough of them, ``cpu`` for never, ``gpu`` for always. Raises ConfigError if
    ``gpu`` is impossible.
    """
    if device.type != "cuda" and choice == "gpu":
        raise ConfigError("data.device=gpu: this training runs on the CPU; use data.device=auto")
    if device.type != "cuda" or choice == "cpu":
        return False
    free = torch.cuda.mem_get_info(device)[0] if free is None else free
    if choice == "gpu" and size > free:
        sizes = f"the corpus takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free on {device}"
        raise ConfigError(f"data.device=gpu: {sizes}; use data.device=auto")
    return choice == "gpu" or size < SHARE * free
