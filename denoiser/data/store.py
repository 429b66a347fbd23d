"""Store of a prepared corpus: 16-bit sound at one rate, one memory map per track, with an index."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoiser.errors import CorpusError

VERSION = 3  # of the format; a store of another version is prepared again
FULL_SCALE = 32_768.0


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
    ``names``, with ``starts`` and ``lengths`` in samples, and ``levels``: the RMS about the mean of the first track,
    the noisy, with full scale at 1.
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
            problem = f"the prepared corpus is gone or damaged ({error}); the next start prepares it anew"
            raise CorpusError(f"{self.folder}: {problem}") from error

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


def to_float(samples: Tensor) -> Tensor:
    """Convert int16 to float32, with full scale at 1."""
    return samples.float() / FULL_SCALE
