"""Training without pairs: clean speech from one folder and noises from another, mixed as they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from denoiser.data import split
from denoiser.data.crops import Batch, Utterances
from denoiser.data.datamodule import PairedData, whole
from denoiser.data.metadata import gather, read_logs
from denoiser.data.mixture import folders, rooms
from denoiser.data.mixture.draw import OTHERS, Fixed, Mixtures, reach
from denoiser.data.mixture.mix import Recipe, mix
from denoiser.data.mixture.segments import LONGEST, SHORTEST, Collection, Segments
from denoiser.data.preparation import clips, paired, prepare
from denoiser.data.split import PARTS, divide, hashed
from denoiser.data.store import Store, to_float
from denoiser.data.synthesis.generated import write_noises
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral

ROOMS = {"train": 200, "val": 40, "test": 40}  # that are simulated
MOST = 1000  # files of rooms in memory, 64 kB a channel at 16 kHz
ALIKE = 10  # files of rooms of which validation and test have their own
KINDS = ("speech", "noise", "generated")


class MixtureData(PairedData):
    """Mixtures of clean speech and noises, from folders of any nesting, in files of any rate and length.

    Training draws them anew every epoch, and mixes them on its device; an epoch is the speech once. Validation and
    test mixtures are whole utterances (of a file longer than 10 s, parts of it), always the same, of speakers and noise
    recordings that are not trained on: a tenth of either for each. Where there are fewer than four, files are held
    out, or each is cut in time; :meth:`describe` says so.

    Args:
        spectral: the representation, shared with the network that is trained.
        speech: folder of clean speech, or several.
        noise: folder of noises, or several; null for babble and generated noises alone.
        rooms: folder of room impulse responses, or several, or ``simulated``; null for none.
        test_root: a corpus of true pairs to test on, VCTK-DEMAND or a folder with noisy/ and clean/ (or test/noisy and
            test/clean). Its speakers are not trained on, where they are known by name. Null for held-out mixtures.
        speaker: regular expression that finds the speaker in a file's path; null for
            :func:`~denoiser.data.mixture.segments.speaker`'s own.
        recording: the same for what a noise was cut from, :func:`~denoiser.data.mixture.segments.recording`.
        mix: arguments of :class:`~denoiser.data.mixture.mix.Recipe`.
        corpus_seed: of validation and test mixtures, apart from the training's seed so that seeds are compared on
            the same ones.
        test_limit: test on at most this many mixtures, evenly spaced; null for all.
        options: of :class:`PairedData`.
    """

    def __init__(
        self,
        spectral: Spectral,
        speech: folders.Paths,
        noise: folders.Paths | None = None,
        rooms: folders.Paths | None = None,
        test_root: str | None = None,
        speaker: str | None = None,
        recording: str | None = None,
        mix: Mapping[str, Any] | None = None,
        corpus_seed: int = 0,
        test_limit: int | None = 200,
        **options: Any,
    ) -> None:
        self.speech, self.noise = folders.listed("speech", speech), folders.listed("noise", noise)
        if not self.speech:
            raise ConfigError("data.speech missing; give it as data.speech=FOLDER, a folder of clean speech")
        super().__init__(spectral, str(self.speech[0]), "folders", **options)
        self.simulated = rooms == "simulated"
        self.rooms = [] if self.simulated else folders.listed("rooms", rooms)
        self.test_root = None if test_root is None else Path(test_root).expanduser()
        self.speaker, self.recording, self.recipe = speaker, recording, Recipe(**(mix or {}))
        self.corpus_seed, self.test_limit = corpus_seed, test_limit
        self.material: dict[str, dict[str, Segments]] = {}  # speech, noise, generated of each part, once set up
        self.responses: dict[str, Tensor] = {}  # of the rooms of each part, [rooms, 2, H], once set up
        self._prepared: dict[str, list[Store]] = {}
        self._mixed_facts: dict[str, dict[str, Any]] | None = None

    def prepare_data(self) -> None:
        """Find, check and prepare speech and noise; CorpusError, one for all that is wrong with them."""
        if self._prepared:
            return
        folders.check_apart(self.speech, self.noise)
        problems: list[str] = []
        found = [(kind, folders.one_track(kind, path)) for kind in ("speech", "noise") for path in getattr(self, kind)]
        if self.recipe.generated:
            found.append(("generated", clips("noise", write_noises(self.cache, self.spectral.sample_rate))))
        if self.test_root:
            matched, problems = folders.test_pairs(self.test_root)
            found.append(("tests", paired(matched)))
        corpora = [corpus for _, corpus in found]
        stores = prepare(corpora, self.spectral.sample_rate, self.cache, problems=problems)
        for (kind, _), store in zip(found, stores, strict=True):
            self._prepared.setdefault(kind, []).append(store)

    @property
    def sources(self) -> list[Store]:
        return [store for kind in KINDS for store in self._prepared.get(kind, [])]

    def setup(self, stage: str | None = None) -> None:
        if self.names:
            return
        self.prepare_data()  # only the first rank has done so
        prefixes = {
            "speech": folders.prefixes(self.speech),
            "noise": folders.prefixes(self.noise),
            "generated": ["generated/"],
        }
        collection = Collection(self.sources, [p for kind in KINDS if kind in self._prepared for p in prefixes[kind]])
        counts = [sum(len(store.names) for store in self._prepared.get(kind, [])) for kind in KINDS]
        ends = np.cumsum([0, *counts]).tolist()
        rows = {kind: range(a, b) for kind, a, b in zip(KINDS, ends, ends[1:], strict=False)}

        tests = self._prepared.get("tests")
        parts = PARTS[:2] if tests else PARTS
        voices = {row: split.speaker(collection.names[row], self.speaker) for row in rows["speech"]}
        if tests:
            heard = {split.known_speaker(name) for name in tests[0].names} - {None}
            voices = {r: v for r, v in voices.items() if split.known_speaker(collection.names[r]) not in heard}
            known = f"its {len(heard)} speakers known by name not in training" if heard else "its speakers unknown"
            self.rule = f"test: the pairs of {self.test_root}, {known}"
            self.names["test"] = tests[0].names
        origins = {row: split.recording(collection.names[row], self.recording) for row in rows["noise"]}
        self.material = {part: {} for part in parts}
        self._divide(collection, "speech", voices, "speaker", LONGEST)
        self._divide(collection, "noise", origins, "recording")
        made = {row: collection.names[row].split("/")[1] for row in rows["generated"]}  # the part it was made for
        for part in parts if made else ():
            cuts = [(row, 0.0, 1.0) for row in made if made[row] == part]
            self.material[part]["generated"] = Segments(collection, cuts, made)
        self._furnish(parts)

    def _divide(
        self, collection: Collection, kind: str, groups: Mapping[int, str], what: str, longest: float | None = None
    ) -> None:
        """Give each part its share of the rows that ``groups`` has."""
        if not groups:
            if kind == "speech":
                raise CorpusError(f"data.speech={self.speech[0]}: all of its speakers are those of data.test_root")
            return
        rows = list(groups)
        names = [collection.names[row] for row in rows]
        cuts, rule = divide(names, list(groups.values()), collection.lengths[rows].tolist(), list(self.material), what)
        self.rule += f"{'; ' if self.rule else ''}{kind}: {rule}"
        for part, chosen in cuts.items():
            found = Segments(collection, [(rows[i], a, b) for i, a, b in chosen], groups, longest)
            if not len(found):
                raise CorpusError(f"data.{kind}: no sound of {SHORTEST} s or more in {part}'s share ({rule})")
            self.material[part][kind] = found
            label = part if kind == "speech" else f"{part} {kind}"
            self.names[label] = [names[i] + ("" if b - a == 1 else f" {a:.0%} to {b:.0%}") for i, a, b in chosen]

    def _furnish(self, parts: Sequence[str]) -> None:
        """Give each part its rooms."""
        rate = self.spectral.sample_rate
        if self.simulated:
            found = {part: rooms.simulated(ROOMS[part], rate, [PARTS.index(part) + 1]) for part in parts}
        elif self.rooms:
            files = sorted(
                (f for path in self.rooms for f in folders.sound_files("rooms", path)), key=lambda f: hashed(f.name)
            )
            held = len(files) // ALIKE
            shares = dict(zip(PARTS, (files[2 * held :][:MOST], files[:held], files[held : 2 * held]), strict=True))
            found = {part: rooms.measured(shares[part] if held else files, rate) for part in parts}
            self.rule += f"; rooms: {f'{held} of {len(files)} files' if held else 'the same'} for each part"
        else:
            return
        self.responses = {
            part: torch.stack([bank, rooms.kept(bank, self.recipe.target, rate)], dim=1) for part, bank in found.items()
        }

    def describe(self) -> str:
        shares = []
        for part, material in self.material.items():
            speech = material["speech"]
            noise = f", noise {_hours(material['noise'].seconds)}" if "noise" in material else ""
            shares.append(f"{part} {_hours(speech.seconds)} of {len(set(speech.groups.tolist()))} speakers{noise}")
        without = [part for part in self.material if self.recipe.babble and "babble" not in self.mixtures(part).kinds]
        few = f"; no babble in {', '.join(without)}: it takes {OTHERS + 1} speakers" if without else ""
        where = ", ".join(map(str, self.speech))
        return f"{where}: {'; '.join(shares)}; {self.spectral.sample_rate} Hz; {self.rule}{few}"

    def mixtures(self, part: str, length: int | None = None, read: bool = True) -> Mixtures:
        """Of one part of the split, ``length`` samples each or whole utterances."""
        seed = self.seed if length else self.corpus_seed
        rooms = len(self.responses.get(part, ()))
        return Mixtures(self.material[part], self.recipe, length, rooms, seed, PARTS.index(part), read)

    def training_set(self, read: bool) -> Mixtures:
        return self.mixtures("train", self.spectral.samples(self.frames), read)

    def facts(self, name: str) -> dict[str, Any]:
        """Return facts of a validation or test mixture: ``noise_type`` of its first noise, ``snr_db`` to the nearest 5.

        Of a pair of ``test_root``, what :meth:`PairedData.facts` says.
        """
        if self._mixed_facts is None:
            logs = None if self.test_root is None else read_logs(self.test_root)
            tests = self._test_set().facts if logs is None else gather(self.names["test"], logs)
            self._mixed_facts = {**self._validation_set().facts, **tests}
        return self._mixed_facts.get(name, {})

    def _test_set(self) -> Fixed:
        return Fixed(self.mixtures("test"), self.responses.get("test"), self.test_limit)

    def _validation_set(self) -> Fixed:
        return Fixed(self.mixtures("val"), self.responses.get("val"), self.val_limit)

    def val_dataloader(self) -> DataLoader[Batch]:
        return whole(self._validation_set())

    def test_dataloader(self) -> DataLoader[Batch]:
        if tests := self._prepared.get("tests"):
            return whole(Utterances(tests[0], tests[0].names))
        return whole(self._test_set())

    def calibration(self, limit: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Up to ``limit`` training mixtures of the first epoch, evenly spaced, in batches: noisy and level."""
        dataset = self.training_set(read=True)
        chosen = range(0, len(dataset), -(-len(dataset) // limit))
        for first in range(0, len(chosen), self.batch_size):
            batch = dataset.__getitems__([(0, index) for index in chosen[first : first + self.batch_size]])
            mixed = self._mix(batch, batch["crops"])
            yield mixed["noisy"], mixed["level"]

    def waveforms(self, batch: Batch) -> Batch:
        """A training batch as the loader gives it, on any device → the mixtures, waveforms ``[B, N]``."""
        if self.resident is None:
            return self._mix(batch, batch["crops"])
        size = reach(self.spectral.samples(self.frames), self.spectral.sample_rate, bool(self.responses))
        return self._mix(batch, self.resident.gather(batch["rows"], batch["offsets"], size)[0])

    @torch.no_grad()
    def _mix(self, batch: Batch, crops: Tensor) -> Batch:
        bank = self.responses.get("train")
        if bank is not None and bank.device != crops.device:
            bank = self.responses["train"] = bank.to(crops.device)
        length, rate = self.spectral.samples(self.frames), self.spectral.sample_rate
        return mix({**batch, "crops": to_float(crops)}, length, rate, bank)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
