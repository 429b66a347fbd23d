"""What a DataLoader serves from a store: batches of crops, whole utterances, and the order they come in.

Apart from the data module, so that a worker that is spawned need not import Lightning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from denoiser.data.store import Store

Batch = dict[str, Any]


class Crops(Dataset[Batch]):
    """Batches of crops of ``length`` samples. An item is (epoch, index): its place follows from it and the seed alone.

    A batch is ``{"crops": int16 [tracks, B, N], "level": [B, 1]}``, or with ``read=False`` only where its crops
    lie: ``{"rows": int64 [B], "offsets": int64 [B], "level": [B, 1]}``; and ``"drawn": (epoch, index)`` of its first
    item, which what else is drawn for it follows from.
    """

    def __init__(self, store: Store, names: Sequence[str], length: int, seed: int, read: bool = True) -> None:
        self.store, self.length, self.seed, self.read = store, length, seed, read
        self.rows = np.array([store.rows[name] for name in names], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def names_of(self, indices: Sequence[int]) -> list[str]:
        return [self.store.names[row] for row in self.rows[list(indices)]]

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """The items of one batch, which torch's DataLoader asks for at once."""
        rows = self.rows[[index for _, index in items]]
        room = np.maximum(self.store.lengths[rows] - self.length, 0)
        offsets = np.array(
            [np.random.default_rng([self.seed, *item]).integers(r + 1) for item, r in zip(items, room, strict=True)]
        )
        batch: Batch = {"level": torch.from_numpy(self.store.levels[rows])[:, None], "drawn": tuple(items[0])}
        if self.read:
            return {**batch, "crops": self.store.gather(rows, offsets, self.length)}
        return {**batch, "rows": torch.from_numpy(rows), "offsets": torch.from_numpy(offsets)}


class Utterances(Dataset[Batch]):
    """Whole utterances, by index."""

    def __init__(self, store: Store, names: Sequence[str]) -> None:
        self.store, self.names = store, list(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Batch:
        name = self.names[index]
        noisy, clean = self.store.read(name)
        return {
            "noisy": noisy,
            "clean": clean,
            "level": torch.tensor([self.store.utterances[name].level]),
            "name": name,
            "index": index,
        }


class Shares(Sampler[list[Any]]):
    """Of each batch of ``batch_size``, in the order of ``sampler``, what one of ``world`` processes takes: every
    ``world``-th item.

    All take as many batches. In a last one that has not an item for each, those without take its first, which
    then counts nothing: :meth:`weight`.
    """

    def __init__(self, sampler: Sampler[Any], batch_size: int, rank: int = 0, world: int = 1) -> None:
        self.sampler, self.batch_size, self.rank, self.world = sampler, batch_size, rank, world

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Any]]:
        items = list(self.sampler)
        for first in range(0, len(items), self.batch_size):
            batch = items[first : first + self.batch_size]
            yield batch[self.rank :: self.world] or batch[:1]

    def size(self, index: int) -> int:
        """Items of batch ``index``, of all processes."""
        return min(self.batch_size, len(self.sampler) - index * self.batch_size)  # type: ignore[arg-type]

    def weight(self, index: int) -> float:
        """The factor to this process's mean over batch ``index`` that makes the processes' mean that over items."""
        size = self.size(index)
        return len(range(self.rank, size, self.world)) * self.world / size


class EpochSampler(Sampler[tuple[int, int]]):
    """Every index once an epoch, as (epoch, index), in an order that follows from (seed, epoch).

    Lightning calls ``set_epoch``; with ``shuffle=False`` every epoch is epoch 0, in order. ``skip`` items are left out
    where the next iteration begins: those that an interrupted run has had.
    """

    def __init__(self, source: Sized, seed: int, shuffle: bool) -> None:
        self.source, self.seed, self.shuffle = source, seed, shuffle
        self.epoch = self.skip = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch if self.shuffle else 0

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order: Sequence[int] = range(len(self.source))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.source)).tolist()
        skip, self.skip = self.skip, 0
        return iter([(self.epoch, index) for index in order[skip:]])
