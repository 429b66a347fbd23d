"""The prepared corpus: sound at one rate, 16 bit, in a memory map a track, with an index.

Files were read and resampled once (:mod:`denoiser.data.preparation`); training reads crops where they lie.
"""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoiser.errors import CorpusError

VERSION = 2  # of the format; a store of another is prepared anew
FULL_SCALE = 32_768.0
CHUNK = 1 << 24  # samples copied to a device at once


@dataclass(frozen=True)
class Utterance:
    """Where one lies in the maps; ``level`` is the RMS of its first track (the noisy), full scale at 1.

    ``checksum`` is the CRC-32 of its samples, one track after the other; None in a store from before there was one.
    """

    name: str
    start: int
    length: int
    level: float
    checksum: int | None = None


def is_whole(folder: Path) -> bool:
    """Whether there is a store whose maps hold as many samples as its index says."""
    try:
        index = json.loads((folder / "index.json").read_text())
        samples = max(1, sum(utterance["length"] for utterance in index["utterances"]))
        return all((folder / f"{track}.i16").stat().st_size == 2 * samples for track in index["tracks"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def checksums(maps: Sequence[Path], starts: Sequence[int]) -> list[int]:
    """The CRC-32 of each utterance; ``starts`` are where they begin, and the end of the last."""
    tracks = [np.memmap(path, np.int16, mode="r") for path in maps]
    found = []
    for first, last in itertools.pairwise(starts):
        value = 0
        for track in tracks:
            value = zlib.crc32(track[first:last].data, value)
        found.append(value)
    return found


class Store:
    """A prepared corpus on disk, opened for reading. Safe to fork and to pickle: maps open on first use.

    ``tracks`` names what is heard at the same time: ``("noisy", "clean")``, or ``("speech",)`` alone. Rows are
    utterances in the order of ``names``; ``starts``, ``lengths`` (samples) and ``levels`` are theirs.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.folder = folder
        self.sample_rate: int = index["sample_rate"]
        self.tracks: tuple[str, ...] = tuple(index["tracks"])
        self.utterances = {u["name"]: Utterance(**u) for u in index["utterances"]}
        self.names = list(self.utterances)
        self.rows = {name: row for row, name in enumerate(self.names)}
        self.starts = np.array([u.start for u in self.utterances.values()], np.int64)
        self.lengths = np.array([u.length for u in self.utterances.values()], np.int64)
        self.levels = np.array([u.level for u in self.utterances.values()], np.float32)
        self._maps: tuple[NDArray[np.int16], ...] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": None}

    @property
    def maps(self) -> tuple[NDArray[np.int16], ...]:
        """The samples of each track, all utterances one after another."""
        if self._maps is None:
            paths = (self.folder / f"{track}.i16" for track in self.tracks)
            try:
                # As plain arrays: a slice of a memmap costs ten times a slice of an array.
                self._maps = tuple(np.asarray(np.memmap(path, np.int16, mode="r")) for path in paths)
            except (OSError, ValueError) as error:
                raise CorpusError(
                    f"{self.folder}: the prepared corpus is gone or damaged ({error}); the next start prepares it anew"
                ) from error
        return self._maps

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return 2 * len(self.tracks) * int(self.lengths.sum())

    @property
    def seconds(self) -> float:
        return int(self.lengths.sum()) / self.sample_rate

    def read(self, name: str, start: int = 0, length: int | None = None) -> tuple[Tensor, ...]:
        """float32 ``[length]`` a track, from sample ``start`` of one utterance, zeros beyond its end.

        Raises CorpusError where all of it is read, and is not what was prepared.
        """
        row = self.rows[name]
        full = start == 0 and length in (None, int(self.lengths[row]))
        length = int(self.lengths[row]) - start if length is None else length
        samples = self.gather([row], np.array([start]), length)[:, 0]
        kept = self.utterances[name].checksum
        if full and kept is not None and zlib.crc32(samples.numpy().data) != kept:
            raise CorpusError(
                f"{name}: was prepared well and is damaged now, in {self.folder} (checksum); delete that folder, "
                "and it is prepared again at the next start"
            )
        return tuple(to_float(samples))

    def gather(self, rows: Sequence[int] | NDArray[np.int64], offsets: NDArray[np.int64], length: int) -> Tensor:
        """int16 ``[tracks, B, length]``: of each of B ``rows`` what begins at its offset, zeros beyond its ends.

        Read in the order they lie on the disk.
        """
        rows = np.asarray(rows)
        skips = np.clip(-offsets, 0, length)
        firsts = self.starts[rows] + offsets + skips
        counts = np.clip(self.lengths[rows] - offsets - skips, 0, length - skips)
        crops = np.zeros((len(self.tracks), len(rows), length), np.int16)
        order = np.argsort(firsts)
        for samples, out in zip(self.maps, crops, strict=True):
            for i in order:
                out[i, skips[i] : skips[i] + counts[i]] = samples[firsts[i] : firsts[i] + counts[i]]
        return torch.from_numpy(crops)


class Resident:
    """The samples of stores on a device, as int16 (``Store.size`` bytes), where crops of them are gathered.

    Several stores, of equally many tracks, are one after another, and their rows numbered through.
    """

    def __init__(self, stores: Sequence[Store], device: torch.device) -> None:
        bases = np.cumsum([0, *(len(store.maps[0]) for store in stores)])
        self.samples = torch.empty(len(stores[0].tracks), int(bases[-1]), dtype=torch.int16, device=device)
        for store, base in zip(stores, bases.tolist(), strict=False):
            for samples, here in zip(store.maps, self.samples[:, base : base + len(store.maps[0])], strict=True):
                for first in range(0, len(samples), CHUNK):  # never the whole corpus in the memory of the machine
                    here[first : first + CHUNK] = torch.from_numpy(samples[first : first + CHUNK].copy())
        starts = np.concatenate([store.starts + base for store, base in zip(stores, bases, strict=False)])
        self.starts = torch.from_numpy(starts).to(device)
        self.lengths = torch.from_numpy(np.concatenate([store.lengths for store in stores])).to(device)

    def gather(self, rows: Tensor, offsets: Tensor, length: int) -> Tensor:
        """What :meth:`Store.gather` gives, on the device: int64 ``[B]``, ``[B]`` → int16 ``[tracks, B, length]``."""
        places = offsets[:, None] + torch.arange(length, device=offsets.device)
        inside = (places >= 0) & (places < self.lengths[rows, None])
        places += self.starts[rows, None]
        crops = self.samples[:, places.clamp_(0, self.samples.shape[1] - 1)]
        return torch.where(inside, crops, 0)


def to_float(samples: Tensor) -> Tensor:
    """int16 → float32, full scale at 1."""
    return samples.float() / FULL_SCALE
