"""Prepared corpus → batches: crops travel as 16 bit, or lie on the device; scaled magnitude patches are made there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from denoiser import distributed
from denoiser.data import metadata, pairs, vctk_demand
from denoiser.data.augment import Augment
from denoiser.data.crops import Batch, Crops, EpochSampler, Shares, Utterances
from denoiser.data.preparation import paired, prepare
from denoiser.data.store import Resident, Store, to_float
from denoiser.data.synthesis import corpus
from denoiser.errors import ConfigError, CorpusError
from denoiser.filesystem import atomic_write
from denoiser.spectral import Spectral

DEVICES = ("auto", "cpu", "gpu")
SHARE = 0.5  # of a GPU's free memory that a corpus may take unasked; training needs the rest


def whole(dataset: Dataset[Batch]) -> DataLoader[Batch]:
    """Utterances one by one: of several processes each takes every so many-th, and none is served twice.

    Only a process for which there is none takes the first all the same, to stay in step: ``index`` tells.
    """
    rank, world = distributed.rank(), distributed.world()
    if world == 1:
        return DataLoader(dataset)
    return DataLoader(dataset, sampler=range(rank, len(dataset), world) or [0])  # type: ignore[arg-type]


def lives_on(device: torch.device, choice: str, size: int, free: int | None = None) -> bool:
    """Whether a corpus of ``size`` bytes is to live on the training ``device``, of ``data.device=choice``.

    ``free`` is how many bytes are free there, asked of it unless given. Raises ConfigError where ``gpu`` cannot be.
    """
    if device.type != "cuda":
        if choice == "gpu":
            raise ConfigError("data.device=gpu: this training runs on the CPU; use data.device=auto")
        return False
    if choice == "cpu":
        return False
    free = torch.cuda.mem_get_info(device)[0] if free is None else free
    if choice == "gpu" and size > free:
        raise ConfigError(
            f"data.device=gpu: the corpus takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free on {device}; "
            "use data.device=auto"
        )
    return choice == "gpu" or size < SHARE * free


class PairedData(LightningDataModule):
    """Noisy and clean files, paired, prepared once, split by speaker, and served as batches.

    In training a batch is ``{"noisy": [B, F, frames], "clean": [B, F, frames]}``, each a
    :class:`~denoiser.spectral.Spectrum`; in validation and test it is one whole utterance as waveforms,
    ``{"noisy": [1, N], "clean": [1, N], "level": [1, 1], "name": [str], "index": [1]}``. Of several processes that
    train together (:mod:`denoiser.distributed`) each takes its share of every batch, and of the utterances.

    Args:
        spectral: the representation, shared with the network that is trained.
        root: folder of the corpus.
        layout: ``vctk_demand`` or ``folders``.
        download: fetch VCTK-DEMAND, with 28 speakers, to ``root``, unless it is there and whole.
        cache: where prepared corpora are kept.
        batch_size: crops per batch, of all processes together.
        frames: length of a patch.
        device: where the prepared training corpus lives: ``auto`` on the training GPU if it takes less than half of
            the memory that is free there, so that crops are cut where they are needed; else, and on a CPU, on the
            disk, in a memory map. ``cpu`` is always the latter, ``gpu`` the former or an error.
        workers: processes that read crops from the memory map; null: none for a CPU, up to 4 for a GPU.
        val_limit: validate on at most this many utterances, evenly spaced; null for all.
        shuffle: False serves the same crops in the same order every epoch.
        seed: of order, crops and augmentation.
        augment: what training batches go through; null for the corpus as it is.
        licence: of the corpus, in words, for the model card; null where it is not known.
    """

    def __init__(
        self,
        spectral: Spectral,
        root: str,
        layout: str = "vctk_demand",
        download: bool = False,
        cache: str = "data/prepared",
        batch_size: int = 16,
        frames: int = 256,
        device: str = "auto",
        workers: int | None = None,
        val_limit: int | None = 64,
        shuffle: bool = True,
        seed: int = 0,
        augment: Augment | None = None,
        licence: str | None = None,
    ) -> None:
        super().__init__()
        if layout not in pairs.LAYOUTS:
            raise ConfigError(f"data.layout={layout} is unknown; there are: {', '.join(pairs.LAYOUTS)}")
        if not isinstance(download, bool) or (download and layout != "vctk_demand"):
            raise ConfigError(f"data.download={download}: expected true or false, and true only for VCTK-DEMAND")
        if batch_size < 1 or frames < 1 or (workers or 0) < 0:
            raise ConfigError(
                f"data: batch_size={batch_size}, frames={frames}, workers={workers}; expected at least 1, 1 and 0"
            )
        if batch_size < distributed.world():
            raise ConfigError(
                f"data.batch_size={batch_size}: expected at least one for each of {distributed.world()} processes"
            )
        if device not in DEVICES:
            raise ConfigError(f"data.device={device}: expected {', '.join(DEVICES)}")
        self.spectral = spectral
        self.root, self.layout, self.cache = Path(root).expanduser(), layout, Path(cache).expanduser()
        self.download = download
        self.batch_size, self.frames, self.device, self.workers = batch_size, frames, device, workers
        self.val_limit, self.shuffle, self.seed = val_limit, shuffle, seed
        self.augment, self.licence = augment, licence
        self.rule = ""
        self.names: dict[str, list[str]] = {}  # of each split, once set up
        self.resident: Resident | None = None  # the training corpus on the training device, if it lives there
        self._stores: tuple[Store, Store] | None = None

    def teardown(self, stage: str | None = None) -> None:
        self.resident = None  # the test needs the memory

    def prepare_data(self) -> None:
        """Find, check and prepare the corpus; CorpusError, one for all that is wrong with it."""
        if self._stores is None:
            if self.download:
                vctk_demand.fetch(self.root)
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
        self.logs = metadata.read_logs(self.root)
        self._facts = {**metadata.gather(val, self.logs), **metadata.gather(test, self.logs)}

    def _open(self) -> tuple[Store, Store]:
        folders = pairs.LAYOUTS[self.layout](self.root)
        matched = [pairs.match(*side) for side in (folders.train, folders.test) if side]
        problems = [problem for _, found in matched for problem in found]
        corpora = [paired(side) for side, _ in matched]
        stores = prepare(corpora, self.spectral.sample_rate, self.cache, problems=problems)
        return stores[0], stores[-1]

    def facts(self, name: str) -> dict[str, Any]:
        """Return the known facts of a validation or test utterance: any of ``noise_type``, ``snr_db``, ``speaker``."""
        return self._facts.get(name, {})

    def write_split(self, path: Path) -> None:
        """Write who trains, who validates, who tests, and by which rule, as JSON."""
        with atomic_write(path) as partial:
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

    @property
    def sources(self) -> list[Store]:
        """What training reads."""
        return [self.store]

    def training_set(self, read: bool) -> Dataset[Batch]:
        """What the training loader draws batches from; with ``read=False`` only where their crops lie."""
        return Crops(self.store, self.names["train"], self.spectral.samples(self.frames), self.seed, read)

    def train_dataloader(self) -> DataLoader[Batch]:
        trainer, device = self.trainer, torch.device("cpu")
        if trainer is not None:
            device = trainer.strategy.root_device
        if self.resident is None and lives_on(device, self.device, sum(store.size for store in self.sources)):
            self.resident = Resident(self.sources, device)
        workers = self.workers
        if workers is None:  # a GPU is kept from waiting for the disk; a CPU has nothing to spare
            workers = 0 if self.resident or device.type == "cpu" else min(4, os.cpu_count() or 1)
        crops = self.training_set(read=self.resident is None)
        order = EpochSampler(crops, self.seed, self.shuffle)  # type: ignore[arg-type]
        batches: dict[str, Any] = {"batch_size": self.batch_size, "sampler": order}
        if distributed.world() > 1:
            batches = {"batch_sampler": Shares(order, self.batch_size, distributed.rank(), distributed.world())}
        return DataLoader(
            crops,
            **batches,
            num_workers=workers,
            collate_fn=default_convert,  # it comes as a batch
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        names = self.names["val"]
        if self.val_limit is not None and self.val_limit < len(names):
            names = [names[i * len(names) // self.val_limit] for i in range(self.val_limit)]
        return whole(Utterances(self.store, names))

    def test_dataloader(self) -> DataLoader[Batch]:
        return whole(Utterances(self.test_store, self.names["test"]))

    def calibration(self, limit: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Up to ``limit`` whole training utterances, evenly spaced: noisy ``[N]`` and its level ``[1]``."""
        names = self.names["train"]
        for name in names[:: -(-len(names) // limit)]:
            yield self.store.read(name)[0], torch.tensor([self.store.utterances[name].level])

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.patches(self.changed(batch))

    def changed(self, batch: Batch) -> Batch:
        """:meth:`waveforms` after the augmentation."""
        waveforms = self.waveforms(batch)
        return waveforms if self.augment is None else self.augment(waveforms, (self.seed, *batch["drawn"]))

    def waveforms(self, batch: Batch) -> Batch:
        """A training batch as the loader gives it, on any device → ``{track: float32 [B, N], "level": [B, 1]}``."""
        if self.resident is None:
            crops = batch["crops"]
        else:
            crops = self.resident.gather(batch["rows"], batch["offsets"], self.spectral.samples(self.frames))
        return {**dict(zip(self.store.tracks, to_float(crops), strict=True)), "level": batch["level"]}

    @torch.no_grad()
    def patches(self, batch: Batch) -> Batch:
        """Waveform crops ``[B, N]`` → their spectra ``[B, F, frames]``."""
        return {name: self.spectral(batch[name], batch["level"], center=False) for name in ("noisy", "clean")}


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
        if options.get("download"):
            raise ConfigError("data.download=true: the embedded corpus needs no download; leave it out")
        super().__init__(spectral, root, **options)
        self.minutes, self.test_minutes, self.corpus_seed = minutes, test_minutes, corpus_seed

    def prepare_data(self) -> None:
        corpus.write_corpus(self.root, minutes=self.minutes, test_minutes=self.test_minutes, seed=self.corpus_seed)
        super().prepare_data()
