"""Datasets and samplers over a store. Lightning is not imported here: a spawned worker need not load it."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset, Sampler

from denoiser.data.store import Store

Batch = dict[str, Any]


class Crops(Dataset[Batch]):
    """Batches of crops of ``length`` samples. An item is (epoch, index); its offset follows from it and the seed.

    A batch is ``{"crops": int16 [tracks, B, N], "level": [B, 1], "bandwidth": [B, 2]}``, the last of clean and noise;
    with ``read=False`` the places of its crops, ``{"rows": int64 [B], "offsets": int64 [B], ...}``. Its ``"drawn"`` is
    the (epoch, index) of its first item, the key for anything else that is drawn for the batch.
    """

    def __init__(self, store: Store, names: Sequence[str], length: int, seed: int, read: bool = True) -> None:
        self.store, self.length, self.seed, self.read = store, length, seed, read
        self.rows = np.array([store.rows[name] for name in names], np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """Return the items of one batch, which torch's DataLoader asks for at once."""
        rows = self.rows[[index for _, index in items]]
        room = np.maximum(self.store.lengths[rows] - self.length, 0)
        generators = [np.random.default_rng([self.seed, *item]) for item in items]
        offsets = np.array([rng.integers(last + 1) for rng, last in zip(generators, room, strict=True)])
        batch: Batch = {
            "level": torch.from_numpy(self.store.levels[rows])[:, None],
            "bandwidth": torch.from_numpy(self.store.bandwidths[rows])[:, None].repeat(1, 2),
            "drawn": tuple(items[0]),
        }
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
        row = self.store.rows[name]
        level, bandwidth = torch.from_numpy(self.store.levels[[row]]), self.store.bandwidths[row]
        return {"noisy": noisy, "clean": clean, "level": level, "bandwidth": bandwidth, "name": name, "index": index}


def evenly(count: int, limit: int | None) -> list[int]:
    """Return the indices of at most ``limit`` of ``count`` items, evenly spaced."""
    chosen = count if limit is None else min(limit, count)
    return [i * count // chosen for i in range(chosen)]


class EpochSampler(Sampler[tuple[int, int]]):
    """Every index once per epoch, as (epoch, index), in an order that follows from (seed, epoch).

    Without ``shuffle`` every epoch is epoch 0, in order. The next iteration leaves out ``skip`` items.
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


class DistributedBatchSampler(BatchSampler):
    """Batch sampler for distributed training: every rank takes every ``world_size``-th item of the global batch.

    If the last batch has fewer items than ranks, the idle ranks repeat its first item with :meth:`weight` 0.
    ``batch_size`` is that of the global batch.
    """

    def __init__(self, sampler: Any, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(sampler, batch_size, drop_last=False)
        self.rank, self.world_size = rank, world_size

    def __iter__(self) -> Iterator[list[Any]]:
        for batch in super().__iter__():
            yield batch[self.rank :: self.world_size] or batch[:1]

    def size(self, index: int) -> int:
        """Return the number of items in global batch ``index``."""
        return min(self.batch_size, len(self.sampler) - index * self.batch_size)  # type: ignore[arg-type]

    def weight(self, index: int) -> float:
        """Return the factor for this rank's mean over batch ``index``; the mean over ranks is then that over items."""
        size = self.size(index)
        return len(range(self.rank, size, self.world_size)) * self.world_size / size
