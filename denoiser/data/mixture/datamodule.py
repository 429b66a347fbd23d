"""Data module for training without pairs: clean speech from one folder and noises from another, mixed on the fly."""

import math
from collections.abc import Iterator, Mapping
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from denoiser.data import pairs, split
from denoiser.data.crops import Batch, Utterances
from denoiser.data.datamodule import PairedData, check_whole
from denoiser.data.metadata import gather, read_logs
from denoiser.data.mixture import rooms
from denoiser.data.mixture.draw import OTHERS, Mixtures, Recipe, crop_length
from denoiser.data.mixture.mix import FixedMixtures, mix
from denoiser.data.mixture.segments import LONGEST, SHORTEST, Collection, Segments
from denoiser.data.preparation import prepare
from denoiser.data.split import PARTS, divide, hashed
from denoiser.data.store import Store
from denoiser.data.synthesis.generated import write_noises
from denoiser.distributed import say
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral

SIMULATED = {"train": 200, "val": 40, "test": 40}  # rooms
MOST_ROOMS = 1000  # places in memory, 64 kB a channel at 16 kHz
HELD_OUT_ROOMS = 10  # of so many places, validation and test have one each of their own
KINDS = ("speech", "noise", "generated")


class MixtureData(PairedData):
    """Mixtures of clean speech and noises, from folders of any nesting, in files of any rate and length.

    Training draws them anew every epoch, and mixes them on its device; an epoch is the speech once. Validation and
    test mixtures are whole utterances (of a file longer than 10 s, parts of it), always the same, of speakers and noise
    recordings that are not trained on. Speakers of ``test_root`` that are known by name are not trained on either.

    Arguments are the settings explained in ``conf/data/mixture.yaml``: ``mix`` those of
    :class:`~denoiser.data.mixture.draw.Recipe`, ``speaker`` and ``recording`` the patterns of
    :mod:`denoiser.data.split`, ``options`` those of :class:`PairedData`.
    """

    def __init__(
        self,
        spectral: Spectral,
        speech: pairs.Paths,
        noise: pairs.Paths | None = None,
        rooms: pairs.Paths | None = None,
        test_root: str | None = None,
        speaker: str | None = None,
        recording: str | None = None,
        mix: Mapping[str, Any] | None = None,
        corpus_seed: int = 0,
        test_limit: int | None = 200,
        **options: Any,
    ) -> None:
        self.speech, self.noise = pairs.listed(speech), pairs.listed(noise)
        if not self.speech:
            raise ConfigError("data.speech missing; give it as data.speech=FOLDER, a folder of clean speech")
        super().__init__(spectral, self.speech[0], "folders", **options)
        check_whole("corpus_seed", corpus_seed, 0)
        check_whole("test_limit", test_limit, 1, optional=True)
        self.rooms = rooms
        self.test_root = None if test_root is None else Path(test_root).expanduser()
        self.speaker, self.recording = speaker, recording
        self.recipe = Recipe(**(mix or {}))
        self.corpus_seed, self.test_limit = corpus_seed, test_limit
        # Once set up, of each part of the split: segments of each kind, impulse responses [rooms, 2, H], and their
        # bandwidths in Hz.
        self.material: dict[str, dict[str, Segments]] = {}
        self.room_responses: dict[str, Tensor] = {}
        self.room_bandwidths: dict[str, list[float]] = {}
        self._prepared: dict[str, list[Store]] = {}

    def prepare_data(self) -> None:
        """Find, check and prepare speech and noise; CorpusError, one for all that is wrong with them."""
        if self._prepared:
            return
        for noise, speech in product(self.noise, self.speech):
            if noise.resolve().is_relative_to(speech.resolve()):
                raise CorpusError(f"data.noise={noise}: lies in data.speech={speech}; name folders that lie apart")
            # The speech of validation and test speakers would be noise to train on.
            if speech.resolve().is_relative_to(noise.resolve()):
                raise CorpusError(f"data.noise={noise}: holds data.speech={speech}; name folders that lie apart")
        problems: list[str] = []
        rate = self.spectral.sample_rate
        corpora: dict[str, list[pairs.Corpus]] = {kind: [] for kind in (*KINDS, "tests")}
        corpora["speech"] = [pairs.one_track("speech", path) for path in self.speech]
        corpora["noise"] = [pairs.one_track("noise", path) for path in self.noise]
        if self.recipe.generated:
            corpora["generated"] = [pairs.one_track("noise", write_noises(self.cache, rate))]
        if self.test_root:
            matched, problems = pairs.test_pairs(self.test_root, self.pair)
            corpora["tests"] = [matched]
        stores = iter(prepare([*chain.from_iterable(corpora.values())], rate, self.cache, problems))
        self._prepared = {kind: [next(stores) for _ in group] for kind, group in corpora.items()}

    def setup(self, stage: str | None = None) -> None:
        if self.names:
            return
        self.prepare_data()  # only the first rank has done so
        prefixes = [*pairs.prefixes(self.speech), *pairs.prefixes(self.noise)]
        prefixes += ["generated/" for _ in self._prepared["generated"]]
        self.sources = [store for kind in KINDS for store in self._prepared[kind]]
        self.collection = Collection(self.sources, prefixes)
        rows = enumerate(self.collection.names)
        names: dict[str, dict[int, str]] = {}
        for kind in KINDS:
            count = sum(len(store.names) for store in self._prepared[kind])
            names[kind] = self._with_sound(kind, dict(islice(rows, count)))

        tests = self._prepared["tests"]
        self.material = {part: {} for part in (PARTS[:2] if tests else PARTS)}
        speakers = {row: split.speaker(name, self.speaker) for row, name in names["speech"].items()}
        if tests:
            self.names["test"] = tests[0].names
            self.utterances["test"] = Utterances(tests[0], tests[0].names)
            tested = {split.known_speaker(name) for name in tests[0].names} - {None}
            self.rule = f"test: the pairs of {self.test_root}, its {len(tested)} known speakers not in training; "
            known = {row: split.known_speaker(name) for row, name in names["speech"].items()}
            speakers = {row: who for row, who in speakers.items() if known[row] not in tested}
            if not speakers:
                raise CorpusError(f"data.speech={self.speech[0]}: all of its speakers are those of data.test_root")
        self.rule += self._divide("speech", speakers, "speaker", LONGEST)
        if self.noise:
            recordings = {row: split.recording(name, self.recording) for row, name in names["noise"].items()}
            self.rule += "; " + self._divide("noise", recordings, "recording")
        if names["generated"]:
            # A generated noise is made for one part, whose name is its folder.
            made_for = {row: name.split("/")[1] for row, name in names["generated"].items()}
            for part, material in self.material.items():
                cuts = [(row, 0.0, 1.0) for row, made in made_for.items() if made == part]
                material["generated"] = Segments(self.collection, cuts, made_for)
        self._open_rooms()
        without = [part for part in self.material if "babble" not in self.mixtures(part).kinds]
        if self.recipe.babble and without:
            self.rule += f"; no babble in {', '.join(without)}: it takes {OTHERS + 1} speakers"
        self.logs = read_logs(self.test_root) if self.test_root else {}
        self._facts = gather(self.names["test"], self.logs) if tests else {}
        for part, limit in (("val", self.val_limit), ("test", self.test_limit)):
            if part in self.material:
                mixtures = FixedMixtures(self.mixtures(part), self.room_responses.get(part), limit)
                self.utterances[part] = mixtures
                self._facts |= mixtures.facts

    def _with_sound(self, kind: str, names: dict[int, str]) -> dict[int, str]:
        """Return the rows that can be mixed, and say how many are left out. Raises CorpusError if all of them are."""
        has_sound = self.collection.has_sound()
        silent = [name for row, name in names.items() if not has_sound[row]]
        if silent:
            found = f"{len(silent)} of {len(names)} files without a sound of {SHORTEST} s or more, first {silent[0]}"
            if len(silent) == len(names):
                raise CorpusError(f"data.{kind}: {found}")
            say(f"warning: data.{kind}: left out {found}")
        return {row: name for row, name in names.items() if has_sound[row]}

    def _divide(self, kind: str, groups: Mapping[int, str], what: str, longest: float = math.inf) -> str:
        """Divide rows among the parts by their ``groups``, each the ``what`` of a row; returns the rule."""
        rows, labels = list(groups), list(groups.values())
        names = [self.collection.names[row] for row in rows]
        cuts, rule = divide(names, labels, self.collection.lengths[rows].tolist(), list(self.material), what)
        for part, chosen in cuts.items():
            found = Segments(self.collection, [(rows[i], a, b) for i, a, b in chosen], groups, longest)
            if not len(found):
                share = f"{part}'s share of {', '.join(names)}"
                raise CorpusError(f"data.{kind}: no sound of {SHORTEST} s or more in {share} ({rule})")
            self.material[part][kind] = found
            label = part if kind == "speech" else f"{part} {kind}"
            self.names[label] = [names[i] + ("" if b - a == 1 else f" {a:.0%} to {b:.0%}") for i, a, b in chosen]
        return f"{kind}: {rule}"

    def _open_rooms(self) -> None:
        if not self.rooms:
            return
        rate = self.spectral.sample_rate
        if self.rooms == "simulated":
            counts = {part: SIMULATED[part] for part in self.material}
            found = {part: rooms.simulated(count, rate, [PARTS.index(part) + 1]) for part, count in counts.items()}
            self.room_bandwidths = {part: [rate / 2] * count for part, count in counts.items()}
        else:
            files = [file for path in pairs.listed(self.rooms) for file in pairs.sound_files("rooms", path)]
            places: dict[Path, list[Path]] = {}
            for file in files:
                places.setdefault(split.place(file), []).append(file)
            order = sorted(places, key=lambda place: hashed(place.name))
            held = len(order) // HELD_OUT_ROOMS
            shares = {"train": order[2 * held :][:MOST_ROOMS], "val": order[:held], "test": order[held : 2 * held]}
            found = {}
            for part in self.material:
                chosen = [file for place in shares[part] or order for file in places[place]]
                found[part], self.room_bandwidths[part] = rooms.measured(chosen, rate)
            what = "files" if len(order) == len(files) else f"places, in {len(files)} files,"
            self.fixed_rule = f"rooms: {held or 'all'} of {len(order)} {what} for each part"
            self.rule += f"; {self.fixed_rule}"
        for part, responses in found.items():
            target = rooms.target_part(responses, self.recipe.target, rate)
            self.room_responses[part] = torch.stack([responses, target], dim=1)

    def mixtures(self, part: str, length: int | None = None, read: bool = True) -> Mixtures:
        """Return the mixtures of one part of the split, ``length`` samples each or whole utterances."""
        seed = self.seed if length else self.corpus_seed
        rooms = self.room_bandwidths.get(part, ())
        return Mixtures(self.material[part], self.recipe, length, rooms, seed, PARTS.index(part), read)

    def training_set(self, read: bool) -> Mixtures:
        return self.mixtures("train", self.spectral.samples(self.frames), read)

    def calibration(self, limit: int = 512) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield up to ``limit`` training mixtures of the first epoch, evenly spaced, in batches: noisy and level."""
        dataset = self.training_set(read=True)
        items = [(0, index) for index in range(0, len(dataset), -(-len(dataset) // limit))]
        for first in range(0, len(items), self.batch_size):
            mixed = self.waveforms(dataset.__getitems__(items[first : first + self.batch_size]))
            yield mixed["noisy"], mixed["level"]

    @torch.no_grad()
    def waveforms(self, batch: Batch) -> Batch:
        """Mix a training batch as the loader gives it, on any device: waveforms ``[B, N]``."""
        length, rate = self.spectral.samples(self.frames), self.spectral.sample_rate
        responses = self.room_responses.get("train")
        if self.resident and "crops" not in batch:
            size = crop_length(length, rate, responses is not None)
            batch = {**batch, "crops": self.resident.gather(batch["rows"], batch["offsets"], size)[0]}
        if responses is not None:
            responses = self.room_responses["train"] = responses.to(batch["crops"].device)
        return mix(batch, length, rate, responses)
