"""Segments of prepared recordings to draw crops from, with the places and power of the sound in them."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from denoiser.data.activity import ACTIVE, FRAMES_PER_SECOND
from denoiser.data.split import Cut
from denoiser.data.store import FULL_SCALE, Store
from denoiser.filesystem import atomic_write

LONGEST = 10.0  # s of speech taken for one utterance; a longer file is several
SHORTEST = 0.1  # s; a shorter sound, repeated, is a tone
BLOCK = 3000  # frames, a minute, whose power is computed at once

Ints = NDArray[np.int64]


class Collection:
    """Several stores of one track, read as one: rows are numbered across stores, and names get ``prefixes``.

    ``powers`` are those of the frames of all rows, and ``active_frames`` the numbers of those that are not a pause.
    """

    def __init__(self, stores: Sequence[Store], prefixes: Sequence[str]) -> None:
        self.stores = list(stores)
        self.sample_rate = stores[0].sample_rate
        self.frame = self.sample_rate // FRAMES_PER_SECOND  # samples
        self.names = [prefix + name for store, prefix in zip(stores, prefixes, strict=True) for name in store.names]
        self.lengths = np.concatenate([store.lengths for store in stores])
        self.bandwidths = np.concatenate([store.bandwidths for store in stores])
        # First row of each store, and first frame of each row; at the end the number of all.
        self.first_rows = np.cumsum([0, *(len(store.names) for store in stores)])
        self.frames = np.cumsum([0, *-(-self.lengths // self.frame)])
        self.powers = np.concatenate([_frame_powers(store, self.frame) for store in stores])
        loudest = np.maximum.reduceat(self.powers, self.frames[:-1])
        floor = np.maximum(ACTIVE * loudest, FULL_SCALE**-2)  # below a step of 16 bits is silence
        self.active_frames = np.flatnonzero(self.powers >= np.repeat(floor, np.diff(self.frames)))

    def has_sound(self) -> NDArray[np.bool_]:
        """Return True for each row that :class:`Segments` can take: long enough, and not silent throughout."""
        active = np.diff(np.searchsorted(self.active_frames, self.frames))
        return (active > 0) & (np.diff(self.frames) >= SHORTEST * FRAMES_PER_SECOND)

    def gather(self, rows: Ints, offsets: Ints, length: int) -> Tensor:
        """Return int16 crops ``[R, length]``, each from its offset in its row on, with zeros beyond the row's ends."""
        crops = torch.empty(len(rows), length, dtype=torch.int16)
        numbers = np.searchsorted(self.first_rows, rows, "right") - 1
        for number in np.unique(numbers):
            (here,) = np.nonzero(numbers == number)
            local = rows[here] - self.first_rows[number]
            crops[torch.from_numpy(here)] = self.stores[number].gather(local, offsets[here], length)[0]
        return crops


def _frame_powers(store: Store, frame: int) -> NDArray[np.float64]:
    """Return the mean power of every frame of every row, a row's last one shorter; kept beside the samples."""
    path = store.folder / f"power{frame}.npy"
    if path.is_file():
        return np.load(path)
    found = []
    for start, length in zip(store.starts, store.lengths, strict=True):
        stop = start + length
        for first in range(start, stop, BLOCK * frame):
            samples = store.maps[0][first : min(first + BLOCK * frame, stop)].astype(np.float32)
            begins = np.arange(0, len(samples), frame)
            sizes = np.diff(begins, append=len(samples))
            found.append(np.add.reduceat(samples**2, begins) / sizes / FULL_SCALE**2)
    powers = np.concatenate(found)
    # Where the cache cannot be written they are computed again at the next start.
    with contextlib.suppress(OSError), atomic_write(path) as partial, open(partial, "wb") as file:
        np.save(file, powers)
    return powers


class Segments:
    """Parts of a collection's rows, each with some sound in it, to draw crops from.

    ``cuts`` longer than ``longest`` seconds become several equal segments. ``groups``, the speaker or recording of each
    row, become numbers, by which segments are sorted. ``starts``, ``stops`` and ``lengths`` are in samples of the row;
    ``power`` and ``active_power`` are mean powers of all of a segment, and of its active frames.
    """

    def __init__(
        self, collection: Collection, cuts: Sequence[Cut], groups: Mapping[int, str], longest: float = math.inf
    ) -> None:
        self.collection = collection
        numbers = {group: i for i, group in enumerate(sorted(set(groups.values())))}
        found = []
        for row, begin, end in sorted(cuts, key=lambda cut: (numbers[groups[cut[0]]], cut)):
            first, count = collection.frames[row], collection.frames[row + 1] - collection.frames[row]
            start, stop = first + round(begin * count), first + round(end * count)
            parts = max(1, math.ceil((stop - start) / (longest * FRAMES_PER_SECOND)))
            for a, b in pairwise(np.linspace(start, stop, parts + 1).astype(int)):
                low, high = np.searchsorted(collection.active_frames, (a, b))
                if high > low and b - a >= SHORTEST * FRAMES_PER_SECOND:
                    found.append((row, numbers[groups[row]], a, b, low, high))
        self.rows, self.groups, firsts, ends, self._low, self._high = np.array(found, np.int64).reshape(-1, 6).T
        before = collection.frames[self.rows]
        self.starts = (firsts - before) * collection.frame
        self.stops = np.minimum((ends - before) * collection.frame, collection.lengths[self.rows])
        self.lengths: Ints = self.stops - self.starts
        self.bandwidths = collection.bandwidths[self.rows]
        powers, active = collection.powers, collection.powers[collection.active_frames]
        self.power = np.array([powers[a:b].mean() for a, b in zip(firsts, ends, strict=True)])
        self.active_power = np.array([active[a:b].mean() for a, b in zip(self._low, self._high, strict=True)])

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """Return the name of the row without extension, and where the segment begins, unless it is the whole row."""
        row = self.rows[index]
        name = str(PurePosixPath(self.collection.names[row]).with_suffix(""))
        is_whole = self.lengths[index] == self.collection.lengths[row]
        return name if is_whole else f"{name}_{self.starts[index] / self.collection.sample_rate:.1f}s"

    def place(self, rng: Generator, index: int, length: int, share: tuple[float, float] = (0.0, 1.0)) -> int:
        """Return the sample of the row where a crop of ``length`` begins that has an active frame anywhere in it.

        The frame is one of a ``share`` of the segment's active frames. A crop of a shorter segment begins before it.
        """
        count = self._high[index] - self._low[index]
        active = self.collection.active_frames[self._low[index] + int(rng.uniform(*share) * count)]
        frame = (active - self.collection.frames[self.rows[index]]) * self.collection.frame
        first = frame - int(rng.random() * (max(length - self.collection.frame, 0) + 1))
        room = self.lengths[index] - length
        return int(np.clip(first, self.starts[index] + min(room, 0), self.starts[index] + max(room, 0)))

    def random_other_speaker(self, rng: Generator, index: int) -> int:
        """Return a random segment of another group than this one's."""
        first, last = np.searchsorted(self.groups, (self.groups[index], self.groups[index] + 1))
        drawn = int(rng.integers(len(self) - (last - first)))
        return drawn if drawn < first else drawn + int(last - first)
