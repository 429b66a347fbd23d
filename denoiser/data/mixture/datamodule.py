"""Data module for training without pairs: clean speech from one folder and noises from another, mixed on the fly."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from denoiser.data import split
from denoiser.data.crops import Batch, Utterances
from denoiser.data.datamodule import PairedData, utterance_loader
from denoiser.data.metadata import gather, read_logs
from denoiser.data.mixture import folders, rooms
from denoiser.data.mixture.draw import OTHERS, Mixtures, crop_length
from denoiser.data.mixture.fixed import FixedMixtures
from denoiser.data.mixture.mix import mix
from denoiser.data.mixture.recipe import Recipe
from denoiser.data.mixture.segments import LONGEST, SHORTEST, Collection, Segments
from denoiser.data.preparation import clips, prepare
from denoiser.data.split import PARTS, divide, hashed
from denoiser.data.store import Store, to_float
from denoiser.data.synthesis.generated import write_noises
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral

SIMULATED = {"train": 200, "val": 40, "test": 40}  # rooms
MOST_ROOMS = 1000  # files in memory, 64 kB a channel at 16 kHz
HELD_OUT_ROOMS = 10  # of so many files, validation and test have one each of their own
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
        speaker: regular expression that finds the speaker in a file's path; null for the rules of
            :func:`denoiser.data.split.speaker`.
        recording: the same for the recording that a noise was cut from, :func:`denoiser.data.split.recording`.
        mix: arguments of :class:`~denoiser.data.mixture.recipe.Recipe`.
        corpus_seed: of validation and test mixtures. It is not the training's seed, so that runs with several seeds
            are compared on the same mixtures.
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
        self.speech = folders.listed("speech", speech)
        self.noise = folders.listed("noise", noise)
        if not self.speech:
            raise ConfigError("data.speech missing; give it as data.speech=FOLDER, a folder of clean speech")
        super().__init__(spectral, str(self.speech[0]), "folders", **options)
        self.simulated = rooms == "simulated"
        self.rooms = [] if self.simulated else folders.listed("rooms", rooms)
        self.test_root = None if test_root is None else Path(test_root).expanduser()
        self.speaker, self.recording = speaker, recording
        self.recipe = Recipe(**(mix or {}))
        self.corpus_seed, self.test_limit = corpus_seed, test_limit
        # Once set up, of each part of the split: segments of each kind, and impulse responses [rooms, 2, H].
        self.material: dict[str, dict[str, Segments]] = {}
        self.room_responses: dict[str, Tensor] = {}
        self._prepared: dict[str, list[Store]] = {}
        self._facts_by_name: dict[str, dict[str, Any]] | None = None

    def prepare_data(self) -> None:
        """Find, check and prepare speech and noise; CorpusError, one for all that is wrong with them."""
        if self._prepared:
            return
        folders.check_apart(self.speech, self.noise)
        problems: list[str] = []
        found = [("speech", folders.one_track("speech", path)) for path in self.speech]
        found += [("noise", folders.one_track("noise", path)) for path in self.noise]
        if self.recipe.generated:
            found.append(("generated", clips("noise", write_noises(self.cache, self.spectral.sample_rate))))
        if self.test_root:
            matched, problems = folders.test_pairs(self.test_root)
            found.append(("tests", matched))
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
        prefixes = folders.prefixes(self.speech) + folders.prefixes(self.noise)
        if "generated" in self._prepared:
            prefixes.append("generated/")
        collection = Collection(self.sources, prefixes)
        rows: dict[str, range] = {}
        first = 0
        for kind in KINDS:
            count = sum(len(store.names) for store in self._prepared.get(kind, []))
            rows[kind] = range(first, first + count)
            first += count

        tests = self._prepared.get("tests")
        parts = PARTS[:2] if tests else PARTS
        self.material = {part: {} for part in parts}
        speakers = {row: split.speaker(collection.names[row], self.speaker) for row in rows["speech"]}
        if tests:
            self.names["test"] = tests[0].names
            tested = {split.known_speaker(name) for name in tests[0].names} - {None}
            known = f"its {len(tested)} speakers known by name not in training" if tested else "its speakers unknown"
            self.rule = f"test: the pairs of {self.test_root}, {known}"
            speakers = {r: s for r, s in speakers.items() if split.known_speaker(collection.names[r]) not in tested}
        self._divide(collection, "speech", speakers, "speaker", LONGEST)
        recordings = {row: split.recording(collection.names[row], self.recording) for row in rows["noise"]}
        self._divide(collection, "noise", recordings, "recording")
        if rows["generated"]:
            # A generated noise is made for one part, whose name is its folder.
            made_for = {row: collection.names[row].split("/")[1] for row in rows["generated"]}
            for part in parts:
                cuts = [(row, 0.0, 1.0) for row in made_for if made_for[row] == part]
                self.material[part]["generated"] = Segments(collection, cuts, made_for)
        self._open_rooms(parts)

    def _divide(
        self, collection: Collection, kind: str, groups: Mapping[int, str], what: str, longest: float | None = None
    ) -> None:
        """Divide the rows of one kind among the parts; ``groups`` are the speakers or recordings of the rows."""
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

    def _open_rooms(self, parts: Sequence[str]) -> None:
        rate = self.spectral.sample_rate
        if self.simulated:
            found = {part: rooms.simulated(SIMULATED[part], rate, [PARTS.index(part) + 1]) for part in parts}
        elif self.rooms:
            files = [file for path in self.rooms for file in folders.sound_files("rooms", path)]
            files.sort(key=lambda file: hashed(file.name))
            held = len(files) // HELD_OUT_ROOMS
            shares = dict.fromkeys(PARTS, files)
            if held:
                shares = {"train": files[2 * held :][:MOST_ROOMS], "val": files[:held], "test": files[held : 2 * held]}
            found = {part: rooms.measured(shares[part], rate) for part in parts}
            self.rule += f"; rooms: {f'{held} of {len(files)} files' if held else 'the same'} for each part"
        else:
            return
        for part, responses in found.items():
            target = rooms.target_part(responses, self.recipe.target, rate)
            self.room_responses[part] = torch.stack([responses, target], dim=1)

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
        """Return the mixtures of one part of the split, ``length`` samples each or whole utterances."""
        seed = self.seed if length else self.corpus_seed
        rooms = len(self.room_responses.get(part, ()))
        return Mixtures(self.material[part], self.recipe, length, rooms, seed, PARTS.index(part), read)

    def training_set(self, read: bool) -> Mixtures:
        return self.mixtures("train", self.spectral.samples(self.frames), read)

    def fixed_mixtures(self, part: str, limit: int | None) -> FixedMixtures:
        """Return the whole utterances that validation or test use."""
        return FixedMixtures(self.mixtures(part), self.room_responses.get(part), limit)

    def facts(self, name: str) -> dict[str, Any]:
        """Return ``noise_type`` of the first noise and ``snr_db``, to the nearest 5, of a validation or test mixture.

        Of a pair of ``test_root``, the same as :meth:`PairedData.facts`.
        """
        if self._facts_by_name is None:
            if self.test_root is None:
                tests = self.fixed_mixtures("test", self.test_limit).facts
            else:
                tests = gather(self.names["test"], read_logs(self.test_root))
            self._facts_by_name = {**self.fixed_mixtures("val", self.val_limit).facts, **tests}
        return self._facts_by_name.get(name, {})

    def val_dataloader(self) -> DataLoader[Batch]:
        return utterance_loader(self.fixed_mixtures("val", self.val_limit))

    def test_dataloader(self) -> DataLoader[Batch]:
        if tests := self._prepared.get("tests"):
            return utterance_loader(Utterances(tests[0], tests[0].names))
        return utterance_loader(self.fixed_mixtures("test", self.test_limit))

    def calibration(self, limit: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield up to ``limit`` training mixtures of the first epoch, evenly spaced, in batches: noisy and level."""
        dataset = self.training_set(read=True)
        chosen = range(0, len(dataset), -(-len(dataset) // limit))
        for first in range(0, len(chosen), self.batch_size):
            batch = dataset.__getitems__([(0, index) for index in chosen[first : first + self.batch_size]])
            mixed = self._mix(batch, batch["crops"])
            yield mixed["noisy"], mixed["level"]

    def waveforms(self, batch: Batch) -> Batch:
        """Mix a training batch as the loader gives it, on any device: waveforms ``[B, N]``."""
        if self.resident is None:
            return self._mix(batch, batch["crops"])
        size = crop_length(self.spectral.samples(self.frames), self.spectral.sample_rate, bool(self.room_responses))
        return self._mix(batch, self.resident.gather(batch["rows"], batch["offsets"], size)[0])

    @torch.no_grad()
    def _mix(self, batch: Batch, crops: Tensor) -> Batch:
        responses = self.room_responses.get("train")
        if responses is not None and responses.device != crops.device:
            responses = self.room_responses["train"] = responses.to(crops.device)
        length, rate = self.spectral.samples(self.frames), self.spectral.sample_rate
        return mix({**batch, "crops": to_float(crops)}, length, rate, responses)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
