"""Prepared corpus → batches: waveform crops from the workers, scaled magnitude patches made on the device."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from denoiser.audio import replacing
from denoiser.data import facts, pairs, synthetic
from denoiser.data.store import Store, prepare
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral

Batch = dict[str, Any]


class Crops(Dataset[Batch]):
    """Crops of ``length`` samples. An item is named by (epoch, index): its place follows from the seed alone."""

    def __init__(self, store: Store, names: Sequence[str], length: int, seed: int) -> None:
        self.store, self.names, self.length, self.seed = store, list(names), length, seed

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: tuple[int, int]) -> Batch:
        epoch, index = item
        utterance = self.store.utterances[self.names[index]]
        room = max(0, utterance.length - self.length)
        start = int(np.random.default_rng([self.seed, epoch, index]).integers(room + 1))
        noisy, clean = self.store.read(utterance.name, start, self.length)
        return {"noisy": noisy, "clean": clean, "level": torch.tensor([utterance.level])}


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
        }


class EpochSampler(Sampler[tuple[int, int]]):
    """Every index once an epoch, as (epoch, index), in an order that follows from (seed, epoch).

    Lightning calls ``set_epoch``; with ``shuffle=False`` every epoch is epoch 0, in order.
    """

    def __init__(self, source: Sized, seed: int, shuffle: bool) -> None:
        self.source, self.seed, self.shuffle = source, seed, shuffle
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch if self.shuffle else 0

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order: Sequence[int] = range(len(self.source))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.source)).tolist()
        return iter([(self.epoch, index) for index in order])


class PairedData(LightningDataModule):
    """Noisy and clean files, paired, prepared once, split by speaker, and served as batches.

    In training a batch is ``{"noisy": [B, 1, F, frames], "noise": [B, 1, F, frames]}``, scaled (contract of
    :class:`~denoiser.spectral.Spectral`); in validation and test it is one whole utterance as waveforms,
    ``{"noisy": [1, N], "clean": [1, N], "level": [1, 1], "name": [str]}``.

    Args:
        spectral: the representation, shared with the network that is trained.
        root: folder of the corpus.
        layout: ``vctk_demand`` or ``folders``.
        cache: where prepared corpora are kept.
        batch_size: crops per batch.
        frames: length of a patch.
        workers: processes that read crops; 0 reads in the training process, which is fast enough for a
            memory map.
        val_limit: validate on at most this many utterances, evenly spaced; null for all.
        shuffle: False serves the same crops in the same order every epoch.
        seed: of order and crops.
    """

    def __init__(
        self,
        spectral: Spectral,
        root: str,
        layout: str = "vctk_demand",
        cache: str = "data/prepared",
        batch_size: int = 16,
        frames: int = 256,
        workers: int = 0,
        val_limit: int | None = 64,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if layout not in pairs.LAYOUTS:
            raise ConfigError(f"data.layout={layout} is unknown; there are: {', '.join(pairs.LAYOUTS)}")
        if batch_size < 1 or frames < 1 or workers < 0:
            raise ConfigError(
                f"data: batch_size={batch_size}, frames={frames}, workers={workers}; expected at least 1, 1 and 0"
            )
        self.spectral = spectral
        self.root, self.layout, self.cache = Path(root).expanduser(), layout, Path(cache).expanduser()
        self.batch_size, self.frames, self.workers = batch_size, frames, workers
        self.val_limit, self.shuffle, self.seed = val_limit, shuffle, seed
        self.rule = ""
        self.names: dict[str, list[str]] = {}  # of each split, once set up
        self._stores: tuple[Store, Store] | None = None

    def prepare_data(self) -> None:
        """Find, check and prepare the corpus; CorpusError, one for all that is wrong with it."""
        if self._stores is None:
            self._stores = self._open()

    def setup(self, stage: str | None = None) -> None:
        if self.names:
            return
        self.store, self.test_store = self._stores or self._open()  # only the first rank has prepared them
        names = list(self.store.utterances)
        held_out = pairs.LAYOUTS[self.layout](self.root).held_out
        if self.test_store is self.store:  # no test split of its own: hold one out first, then validate on others
            if len(names) < 3:
                raise CorpusError(
                    f"data.root={self.root}: {len(names)} pairs; training, validation and test need three"
                )
            names, test, test_rule = pairs.split(names)
            self.rule = f"test: {test_rule}; "
        else:
            test = list(self.test_store.utterances)
        train, val, rule = pairs.split(names, held_out)
        self.rule += f"validation: {rule}"
        self.names = {"train": train, "val": val, "test": test}
        self.logs = facts.read_logs(self.root)
        self._facts = facts.gather(test, self.logs)

    def _open(self) -> tuple[Store, Store]:
        folders = pairs.LAYOUTS[self.layout](self.root)
        matched = [pairs.match(*side) for side in (folders.train, folders.test) if side]
        problems = [problem for _, found in matched for problem in found]
        stores = prepare([side for side, _ in matched], self.spectral.sample_rate, self.cache, problems=problems)
        return stores[0], stores[-1]

    def facts(self, name: str) -> dict[str, Any]:
        """What is known of a test utterance: any of ``noise_type``, ``snr_db``, ``speaker``."""
        return self._facts.get(name, {})

    def write_split(self, path: Path) -> None:
        """Write who trains, who validates, who tests, and by which rule, as JSON."""
        with replacing(path) as partial:
            partial.write_text(json.dumps({"rule": self.rule, **self.names}, indent=1))

    def same_split(self, path: Path) -> bool:
        """Whether the split written there, if any, is of these same utterances."""
        if not path.is_file():
            return True
        written = json.loads(path.read_text())
        return all(written.get(part) == names for part, names in self.names.items())

    def describe(self) -> str:
        counts = ", ".join(f"{part} {len(names)}" for part, names in self.names.items())
        noises = f"; noise types and SNRs from {self.logs}" if self.logs.files else ""
        return f"{self.root}: {counts} utterances at {self.spectral.sample_rate} Hz; {self.rule}{noises}"

    def train_dataloader(self) -> DataLoader[Batch]:
        crops = Crops(self.store, self.names["train"], self.spectral.samples(self.frames), self.seed)
        return DataLoader(
            crops,
            batch_size=self.batch_size,
            sampler=EpochSampler(crops, self.seed, self.shuffle),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        names = self.names["val"]
        if self.val_limit is not None and self.val_limit < len(names):
            names = [names[i * len(names) // self.val_limit] for i in range(self.val_limit)]
        return DataLoader(Utterances(self.store, names))

    def test_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Utterances(self.test_store, self.names["test"]))

    def calibration(self, limit: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Up to ``limit`` whole training utterances, evenly spaced: noisy ``[N]`` and its level ``[1]``."""
        names = self.names["train"]
        for name in names[:: -(-len(names) // limit)]:
            yield self.store.read(name)[0], torch.tensor([self.store.utterances[name].level])

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return self.patches(batch) if self.trainer is not None and self.trainer.training else batch

    @torch.no_grad()
    def patches(self, batch: Batch) -> Batch:
        """Waveform crops ``[B, N]`` → scaled magnitude of the noisy and scaled noise, ``[B, 1, F, frames]``."""
        noisy, noise = self.spectral.input_and_target(batch["noisy"], batch["clean"], batch["level"], center=False)
        return {"noisy": noisy[:, None].clamp(max=1), "noise": noise[:, None]}


class SyntheticData(PairedData):
    """The embedded corpus: written to ``root`` on first use, then treated like any other.

    Args:
        minutes: of training audio.
        test_minutes: of test audio.
        corpus_seed: of the corpus, apart from the training's seed so that seeds are compared on one corpus.
        options: of :class:`PairedData`.
    """

    def __init__(
        self,
        spectral: Spectral,
        root: str,
        minutes: float = 10.0,
        test_minutes: float = 1.0,
        corpus_seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(spectral, root, **options)
        self.minutes, self.test_minutes, self.corpus_seed = minutes, test_minutes, corpus_seed

    def prepare_data(self) -> None:
        synthetic.write_corpus(self.root, minutes=self.minutes, test_minutes=self.test_minutes, seed=self.corpus_seed)
        super().prepare_data()
