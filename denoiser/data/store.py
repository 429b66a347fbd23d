"""Store of a prepared corpus: 16-bit sound at one rate, mapped from the disk or in the memory of a device."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoiser.errors import ConfigError, CorpusError

VERSION = 4  # of the format; a store of another version is prepared again
FULL_SCALE = 32_768.0
CHUNK = 1 << 24  # samples copied to the device at once
SHARE = 0.5  # of a GPU's free memory that a corpus may take by default; training needs the rest


def is_complete(folder: Path) -> bool:
    """Return True if there is a store whose maps have as many samples as its index says."""
    try:
        index = json.loads((folder / "index.json").read_text())
        samples = max(1, sum(utterance["length"] for utterance in index["utterances"]))
        return all((folder / f"{track}.i16").stat().st_size == 2 * samples for track in index["tracks"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Store:
    """A prepared corpus on disk, for reading. It can be forked and pickled: the maps open on first use.

    Tracks are simultaneous: ``("noisy", "clean")``, or ``("speech",)`` alone. Rows are utterances in the order of
    ``names``, with ``starts`` and ``lengths`` in samples, ``levels``, the RMS of the first track, full scale at 1, and
    ``bandwidths`` in Hz, above which a track holds nothing.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        utterances = index["utterances"]
        self.folder = folder
        self.sample_rate: int = index["sample_rate"]
        self.tracks: tuple[str, ...] = tuple(index["tracks"])
        self.names: list[str] = [utterance["name"] for utterance in utterances]
        self.rows = {name: row for row, name in enumerate(self.names)}
        self.starts = np.array([utterance["start"] for utterance in utterances], np.int64)
        self.lengths = np.array([utterance["length"] for utterance in utterances], np.int64)
        self.levels = np.array([utterance["level"] for utterance in utterances], np.float32)
        self.bandwidths = np.array([utterance["bandwidth"] for utterance in utterances], np.float32)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "maps"}

    @cached_property
    def maps(self) -> tuple[NDArray[np.int16], ...]:
        """Samples of each track, one utterance after the other."""
        paths = [self.folder / f"{track}.i16" for track in self.tracks]
        try:
            # Plain arrays, as a slice of a memmap costs ten times a slice of an array.
            return tuple(np.asarray(np.memmap(path, np.int16, mode="r")) for path in paths)
        except (OSError, ValueError) as error:
            raise CorpusError(f"{self.folder}: gone or damaged ({error}); the next start prepares it anew") from error

    @property
    def size(self) -> int:
        """Size of all samples in bytes."""
        return 2 * len(self.tracks) * int(self.lengths.sum())

    def read(self, name: str) -> tuple[Tensor, ...]:
        """Return a whole utterance, float32 ``[N]`` per track."""
        row = self.rows[name]
        return tuple(to_float(self.gather([row], np.array([0]), int(self.lengths[row]))[:, 0]))

    def gather(self, rows: Sequence[int] | NDArray[np.int64], offsets: NDArray[np.int64], length: int) -> Tensor:
        """Return crops int16 ``[tracks, B, length]``, each from an offset in a row on, with zeros beyond its ends."""
        rows = np.asarray(rows)
        skips = np.clip(-offsets, 0, length)
        firsts = self.starts[rows] + offsets + skips
        counts = np.clip(self.lengths[rows] - offsets - skips, 0, length - skips)
        crops = np.zeros((len(self.tracks), len(rows), length), np.int16)
        order = np.argsort(firsts)  # as they lie on the disk
        for samples, out in zip(self.maps, crops, strict=True):
            for i in order:
                out[i, skips[i] : skips[i] + counts[i]] = samples[firsts[i] : firsts[i] + counts[i]]
        return torch.from_numpy(crops)


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

    ``choice`` is ``auto`` for a GPU with enough of them, ``cpu``, or ``gpu``: ConfigError where that is impossible.
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


def to_float(samples: Tensor) -> Tensor:
    """Convert int16 to float32, with full scale at 1."""
    return samples.float() / FULL_SCALE
