"""Parts of prepared recordings to draw crops from: where sound is in them, and how loud it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from denoiser.data.mixture.mix import ACTIVE, FRAME
from denoiser.data.split import Cut
from denoiser.data.store import FULL_SCALE, Store
from denoiser.filesystem import atomic_write

LONGEST = 10.0  # s of speech taken for one utterance; a longer file is several
SHORTEST = 0.1  # s; a shorter sound, repeated, is a tone
BLOCK = 3000  # frames, a minute, whose power is computed at once

Ints = NDArray[np.int64]


class Collection:
    """Several stores of one track read as one: their rows are numbered through.

    ``prefixes`` are put before the names of each store's rows.
    """

    def __init__(self, stores: Sequence[Store], prefixes: Sequence[str]) -> None:
        self.stores = list(stores)
        self.sample_rate = stores[0].sample_rate
        self.frame = self.sample_rate // FRAME  # samples
        self.names = [prefix + name for store, prefix in zip(stores, prefixes, strict=True) for name in store.names]
        self.lengths = np.concatenate([store.lengths for store in stores])
        self.firsts = np.cumsum([0, *(len(store.names) for store in stores)])  # row of each store, and of none
        self.frames = np.cumsum([0, *-(-self.lengths // self.frame)])  # first of each row, and of none
        self.powers = np.concatenate([_powers(store, self.frame) for store in stores])
        loudest = np.maximum.reduceat(self.powers, self.frames[:-1])
        floor = np.maximum(ACTIVE * loudest, FULL_SCALE**-2)  # below a step of 16 bits is silence
        self.active = np.flatnonzero(self.powers >= np.repeat(floor, np.diff(self.frames)))  # frames

    def local(self, rows: Ints) -> Iterator[tuple[int, Ints, Ints]]:
        """Each store that has some of these rows: its number, where they are in ``rows``, and what it calls them."""
        numbers = np.searchsorted(self.firsts, rows, "right") - 1
        for number in np.unique(numbers):
            (where,) = np.nonzero(numbers == number)
            yield int(number), where, rows[where] - self.firsts[number]

    def gather(self, rows: Ints, offsets: Ints, length: int) -> Tensor:
        """int16 ``[R, length]``: of each row what begins at its offset, zeros beyond its ends."""
        crops = torch.empty(len(rows), length, dtype=torch.int16)
        for number, where, local in self.local(rows):
            crops[torch.from_numpy(where)] = self.stores[number].gather(local, offsets[where], length)[0]
        return crops


def _powers(store: Store, frame: int) -> NDArray[np.float32]:
    """Mean power of every frame of every row, a row's last one shorter; kept beside the samples."""
    path = store.folder / f"power{frame}.npy"
    if path.is_file():
        return np.load(path)
    powers = []
    for start, length in zip(store.starts, store.lengths, strict=True):
        for first in range(0, length, BLOCK * frame):
            samples = store.maps[0][start + first : start + min(length, first + BLOCK * frame)].astype(np.float32)
            sums = np.add.reduceat(samples**2, np.arange(0, len(samples), frame))
            sizes = np.minimum(frame, len(samples) - np.arange(0, len(samples), frame))
            powers.append(sums / sizes / np.float32(FULL_SCALE) ** 2)
    found = np.concatenate(powers)
    with (
        contextlib.suppress(OSError),
        atomic_write(path) as partial,
        open(partial, "wb") as file,
    ):  # or compute it again
        np.save(file, found)
    return found


class Segments:
    """Parts of a collection's rows, each with some sound in it, to draw crops from.

    Attributes:
        rows, starts, stops: where they are, in samples of the row.
        groups: a number for each speaker or recording; segments are sorted by it.
        power, active: mean power of all of a segment, and of its active frames (within 40 dB of its row's loudest).
    """

    def __init__(
        self, collection: Collection, cuts: Sequence[Cut], groups: Mapping[int, str], longest: float | None = None
    ) -> None:
        """``cuts`` are of rows, ``groups`` theirs; what is longer than ``longest`` seconds becomes equal parts."""
        self.collection = collection
        numbers = {group: i for i, group in enumerate(sorted(set(groups.values())))}
        found = []
        for row, *shares in sorted(cuts, key=lambda cut: (numbers[groups[cut[0]]], cut)):
            first, end = collection.frames[row], collection.frames[row + 1]
            a, b = (first + round(share * (end - first)) for share in shares)
            pieces = 1 if longest is None else max(1, -(-(b - a) // int(longest * FRAME)))
            edges = np.linspace(a, b, pieces + 1).astype(int)
            for a, b in pairwise(edges):
                low, high = np.searchsorted(collection.active, (a, b))
                if high > low and b - a >= SHORTEST * FRAME:
                    found.append((row, numbers[groups[row]], a, b, low, high))
        self.rows, self.groups, firsts, ends, self._low, self._high = np.array(found, np.int64).reshape(-1, 6).T
        before = collection.frames[self.rows]
        self.starts = (firsts - before) * collection.frame
        self.stops = np.minimum((ends - before) * collection.frame, collection.lengths[self.rows])
        powers, active = collection.powers, collection.active
        self.power = np.array([powers[a:b].mean() for a, b in zip(firsts, ends, strict=True)])
        self.active = np.array([powers[active[a:b]].mean() for a, b in zip(self._low, self._high, strict=True)])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Ints:
        return self.stops - self.starts

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / self.collection.sample_rate

    def name(self, index: int) -> str:
        """Its row's, without extension, and where it begins in it, unless it is all of it."""
        row, start, stop = self.rows[index], self.starts[index], self.stops[index]
        whole = start == 0 and stop == self.collection.lengths[row]
        name = PurePosixPath(self.collection.names[row]).with_suffix("").as_posix()
        return name if whole else f"{name}_{start / self.collection.sample_rate:.1f}s"

    def place(self, rng: Generator, index: int, length: int, share: tuple[float, float] = (0.0, 1.0)) -> int:
        """Where in its row a crop of ``length`` begins that has one of the segment's active frames, anywhere in it.

        So a crop is never of silence alone. The frame is drawn from a ``share`` of them, in the order of time. A
        crop of a shorter segment begins before it.
        """
        count = self._high[index] - self._low[index]
        active = self.collection.active[self._low[index] + int(rng.uniform(*share) * count)]
        frame = (active - self.collection.frames[self.rows[index]]) * self.collection.frame
        first = frame - int(rng.random() * (max(length - self.collection.frame, 0) + 1))
        room = self.stops[index] - self.starts[index] - length
        return int(np.clip(first, self.starts[index] + min(room, 0), self.starts[index] + max(room, 0)))

    def stranger(self, rng: Generator, index: int) -> int:
        """A segment of another group than this one's."""
        first, last = np.searchsorted(self.groups, (self.groups[index], self.groups[index] + 1))
        drawn = int(rng.integers(len(self) - (last - first)))
        return drawn if drawn < first else drawn + int(last - first)
