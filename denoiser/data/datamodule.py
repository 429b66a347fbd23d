"""Lightning data module of paired corpora: crops for training, whole utterances for validation and test."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from denoiser import distributed
from denoiser.data import metadata, pair_check, pairs, vctk_demand
from denoiser.data.augment import Augment
from denoiser.data.crops import Batch, Crops, DistributedBatchSampler, EpochSampler, Utterances, evenly
from denoiser.data.preparation import prepare
from denoiser.data.split import PARTS
from denoiser.data.store import Resident, Store, fits, to_float
from denoiser.errors import ConfigError, CorpusError, brief
from denoiser.filesystem import write_text
from denoiser.spectral import Spectral


@dataclass(eq=False, repr=False)
class PairedData(LightningDataModule):
    """Pairs of noisy and clean files, prepared once and split by speaker.

    In training a batch is ``{"noisy": [B, F, T], "clean": [B, F, T], "bandwidth": [B]}``, of which the first two are a
    :class:`~denoiser.spectral.Spectrum`, and the last says up to how many Hz clean and noise are known.
    In validation and test it is one whole utterance as waveforms, ``{"noisy": [1, N], "clean": [1, N],
    "level": [1, 1], "bandwidth": [1], "name": [str], "index": [1]}``. Every rank gets its share of each batch, and of
    the utterances.

    ``spectral`` is shared with the network that is trained. The other arguments are settings, explained in
    ``conf/data/default.yaml`` and ``conf/data/vctk_demand.yaml``.
    """

    spectral: Spectral
    root: Path
    layout: str = "vctk_demand"
    download: bool = False
    cache: Path = Path("data/prepared")
    batch_size: int = 16
    frames: int = 256
    device: str = "auto"
    workers: int | None = None
    val_limit: int | None = 64
    shuffle: bool = True
    seed: int = 0
    augment: Augment = field(default_factory=Augment)
    licence: str | None = None
    pair: str | None = None

    def __post_init__(self) -> None:
        super().__init__()
        if self.layout not in pairs.LAYOUTS:
            raise ConfigError(f"data.layout={self.layout} is unknown; there are: {', '.join(pairs.LAYOUTS)}")
        if not isinstance(self.download, bool) or (self.download and self.layout != "vctk_demand"):
            raise ConfigError(f"data.download={self.download}: expected true or false, and true only for VCTK-DEMAND")
        check_whole("batch_size", self.batch_size, 1)
        check_whole("frames", self.frames, 2)
        check_whole("seed", self.seed, 0)
        check_whole("workers", self.workers, 0, optional=True)
        check_whole("val_limit", self.val_limit, 1, optional=True)
        if self.device not in ("auto", "cpu", "gpu"):
            raise ConfigError(f"data.device={self.device}: expected auto, cpu, gpu")
        self.root, self.cache = Path(self.root).expanduser(), Path(self.cache).expanduser()
        self.names: dict[str, list[str]] = {}  # of the utterances by split, after setup
        self.rule = ""
        self.fixed_rule = ""  # the part of the rule that a resumed run must have had, as the names do not show it
        self.resident: Resident | None = None
        self.sources: list[Store] = []  # of what training reads
        self.utterances: dict[str, Dataset[Batch]] = {}  # of validation and test
        self._stores: dict[str, Store] = {}

    def teardown(self, stage: str | None = None) -> None:
        """Free the memory of the training device, which the test needs."""
        self.resident = None

    def prepare_data(self) -> None:
        """Find, check and prepare the corpus; raises one CorpusError for all its problems."""
        if self._stores:
            return
        if self.download:
            vctk_demand.fetch(self.root)
        folders = pairs.LAYOUTS[self.layout](self.root)
        sides = {"train": folders.train, "test": folders.test, "val": folders.val}
        without = {"train": folders.without}
        matched = {part: pairs.match(*side, self.pair, without.get(part, ())) for part, side in sides.items() if side}
        corpora, problems = zip(*matched.values(), strict=True)
        stores = prepare(corpora, self.spectral.sample_rate, self.cache, list(chain.from_iterable(problems)))
        self._stores = dict(zip(matched, stores, strict=True))

    def setup(self, stage: str | None = None) -> None:
        if self.names:
            return
        self.prepare_data()  # only the first rank has done so
        self.store = self._stores["train"]
        self.sources = [self.store]
        folders = pairs.LAYOUTS[self.layout](self.root)
        stores = {part: self._stores.get(part, self.store) for part in PARTS}
        train, val, test = (store.names for store in stores.values())
        if not folders.test:
            # A corpus without a test set: hold one out first, then validate on others.
            train, test, test_rule = pairs.split(train, part="test")
            self.rule = f"test: {test_rule}; "
        if folders.val:
            self.rule += f"validation: its own, {os.path.relpath(folders.val[0], self.root)}"
        else:
            train, val, rule = pairs.split(train, folders.held_out)
            self.rule += f"validation: {rule}"
        self.names = {"train": train, "val": val, "test": test}
        for part, store in self._stores.items():
            # A store of its own, whose maps close again.
            if odd := pair_check.find_faults(Store(store.folder), self.names[part], f"{self.root}, {part}"):
                distributed.say(f"warning: {odd}")
        limited = [val[index] for index in evenly(len(val), self.val_limit)]
        self.utterances = {"val": Utterances(stores["val"], limited), "test": Utterances(stores["test"], test)}
        self.logs = metadata.read_logs(self.root)
        self._facts = {**metadata.gather(val, self.logs), **metadata.gather(test, self.logs)}

    def facts(self, name: str) -> dict[str, Any]:
        """Return metadata of a validation or test utterance: any of ``noise_type``, ``snr_db``, ``speaker``."""
        return self._facts.get(name, {})

    def write_split(self, path: Path) -> None:
        """Write the names of each split, and the rule, as JSON."""
        write_text(path, json.dumps({"rule": self.rule, **self.names}, indent=1))

    def same_split(self, path: Path) -> bool:
        """Return True if the split written there has the same utterances and ``fixed_rule``, or if there is none.

        Raises CorpusError where what is there cannot be read.
        """
        if not path.is_file():
            return True
        try:
            written = json.loads(path.read_text())
            same_names = all(written.get(part, []) == names for part, names in self.names.items())
            return same_names and self.fixed_rule in str(written.get("rule"))
        except (OSError, ValueError, AttributeError) as error:
            remedy = "if the corpus is as it was, delete this file to resume without it"
            raise CorpusError(f"{path}: damaged ({brief(error)}); {remedy}") from error

    def describe(self) -> str:
        counts = ", ".join(f"{part} {len(names)}" for part, names in self.names.items())
        noises = f"; noise types and SNRs of {len(self.logs)} from log files" if self.logs else ""
        return f"{self.root}: {counts} utterances at {self.spectral.sample_rate} Hz; {self.rule}{noises}"

    def training_set(self, read: bool) -> Any:
        """Return the dataset of training batches; ``read`` as in :class:`Crops`."""
        return Crops(self.store, self.names["train"], self.spectral.samples(self.frames), self.seed, read)

    def train_dataloader(self) -> DataLoader[Batch]:
        trainer = self.trainer
        device = trainer.strategy.root_device if trainer else torch.device("cpu")
        if self.resident is None and fits(device, self.device, sum(store.size for store in self.sources)):
            self.resident = Resident(self.sources, device)
        workers = self.workers
        if workers is None:
            # A GPU must not wait for the disk, nor for the draws of mixtures, while a CPU has no core to spare.
            workers = 0 if device.type == "cpu" else min(2 if self.resident else 4, os.cpu_count() or 1)
        crops = self.training_set(read=self.resident is None)
        order = EpochSampler(crops, self.seed, self.shuffle)
        if trainer:
            # A training that is resumed in the middle of an epoch begins with the next batch.
            loop: Any = trainer.fit_loop
            progress = loop.epoch_loop.batch_progress
            order.set_epoch(loop.epoch_progress.current.processed)
            order.skip = 0 if progress.is_last_batch else progress.current.processed * self.batch_size
        return DataLoader(
            crops,
            batch_sampler=DistributedBatchSampler(order, self.batch_size, distributed.rank(), distributed.world_size()),
            num_workers=workers,
            worker_init_fn=distributed.leave_signals_to_parent,
            collate_fn=default_convert,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        return utterance_loader(self.utterances["val"])

    def test_dataloader(self) -> DataLoader[Batch]:
        return utterance_loader(self.utterances["test"])

    def calibration(self, limit: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield up to ``limit`` whole training utterances, evenly spaced: noisy ``[N]`` and its level ``[1]``."""
        names = self.names["train"]
        for name in names[:: -(-len(names) // limit)]:
            yield self.store.read(name)[0], torch.from_numpy(self.store.levels[[self.store.rows[name]]])

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if self.trainer is None or not self.trainer.training:
            return batch
        return self.patches(self.augment(self.waveforms(batch), (self.seed, *batch["drawn"])))

    def waveforms(self, batch: Batch) -> Batch:
        """Return ``{"noisy": [B, N], "clean": [B, N], "level": [B, 1], "bandwidth": [B, 2]}`` of a training batch."""
        if self.resident is None:
            crops = batch["crops"]
        else:
            crops = self.resident.gather(batch["rows"], batch["offsets"], self.spectral.samples(self.frames))
        noisy, clean = to_float(crops)
        return {"noisy": noisy, "clean": clean, "level": batch["level"], "bandwidth": batch["bandwidth"]}

    @torch.no_grad()
    def patches(self, batch: Batch) -> Batch:
        """Return the spectra ``[B, F, T]`` of waveform crops ``[B, N]``."""
        spectra = self.spectral.spectra(batch["noisy"], batch["clean"], batch["level"], center=False)
        return {**spectra, "bandwidth": batch["bandwidth"].amin(1)}


def check_whole(name: str, value: Any, low: int, optional: bool = False) -> None:
    """Raise ConfigError unless ``data.<name>`` is a whole number of ``low`` or more, or None where it is optional."""
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        expected = f"expected {'null, or ' if optional else ''}a whole number, {low} or more"
        raise ConfigError(f"data.{name}={value}: {expected}")


def utterance_loader(dataset: Dataset[Batch]) -> DataLoader[Batch]:
    """Return a loader of single utterances, of which every rank takes every ``world_size``-th one, or the first."""
    rank, world_size = distributed.rank(), distributed.world_size()
    if world_size == 1:
        return DataLoader(dataset)
    # A rank without an utterance stays in step; the index of the first one shows that it counts once.
    return DataLoader(dataset, sampler=range(rank, len(dataset), world_size) or [0])  # type: ignore[arg-type]
