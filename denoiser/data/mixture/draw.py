"""What of a mixture is drawn: who speaks, in which noises, how loud, through what.

All of it follows from (seed, epoch, index). Apart from the data module, so that a worker that is spawned need not
import Lightning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from denoiser.data.crops import Batch
from denoiser.data.mixture.mix import KERNEL, PEOPLE, Recipe, mix
from denoiser.data.mixture.rooms import SECONDS
from denoiser.data.mixture.segments import Segments
from denoiser.data.store import to_float
from denoiser.errors import CorpusError
from denoiser.spectral import Spectral

QUIETER = 10.0  # dB, at most, of each further noise of a mixture
BETWEEN = 3.0  # dB, at most, that the voices of a babble differ from their mean
OTHERS = 3  # speakers, at least, beside the one who is heard, for a babble
FILTER = 3 / 8  # of the coefficients of a random filter
LOW, HIGH = (50.0, 400.0), (2_800.0, 0.45)  # Hz, where a narrow channel begins and ends (0.45 of the sample rate)
NOISELESS = 80.0  # dB
OPEN = (1e-6, 1e9)  # Hz: a channel that passes all


@cache
def reach(length: int, sample_rate: int, rooms: bool) -> int:
    """Samples of a crop whose last ``length`` become a mixture: what filters and rooms still sound of comes before."""
    size = length + round((SECONDS if rooms else KERNEL) * sample_rate)
    while not _is_smooth(size):
        size += 1
    return size


def _is_smooth(size: int) -> bool:
    """Without a prime factor above 5: an FFT of another takes up to four times as long."""
    for prime in (2, 3, 5):
        while size % prime == 0:
            size //= prime
    return size == 1


@dataclass(frozen=True)
class Draw:
    """One mixture: ``length`` samples of a segment of speech, from ``start`` in its row, and what they go through.

    Each of ``noises`` is (row, offset of the crop, period or 0, shift, gain in dB); ``kinds`` say what they are.
    """

    segment: int
    start: int
    length: int
    noises: list[tuple[int, int, int, int, float]]
    kinds: list[str]
    snr: float
    loudness: float
    speechless: bool
    filters: NDArray[np.float64]
    band: tuple[float, float]
    room: int


class Mixtures(Dataset[Batch]):
    """Batches of what :func:`~denoiser.data.mixture.mix.mix` takes: crops, and all that is random in a mixture of them.

    An item is (epoch, index). An epoch is the speech once, by hours: an utterance is as many items as it has lengths
    of a crop (one at least), each around another part of it. Without ``length`` an item is a whole utterance.

    Args:
        material: ``speech``, and where there are any the ``noise`` that was recorded and the ``generated``.
        recipe: what mixtures are made of.
        length: samples of a mixture; None for whole utterances, which come one by one.
        rooms: how many there are to draw from.
        seed: of all draws.
        stream: a number for each part of the split, so that none repeats another's draws.
        read: False for a batch of ``rows`` and ``offsets`` in place of ``crops``.

    Raises CorpusError where the recipe leaves nothing to mix with.
    """

    def __init__(
        self,
        material: Mapping[str, Segments],
        recipe: Recipe,
        length: int | None = None,
        rooms: int = 0,
        seed: int = 0,
        stream: int = 0,
        read: bool = True,
    ) -> None:
        self.material, self.speech, self.recipe = material, material["speech"], recipe
        self.length, self.rooms, self.seed, self.stream, self.read = length, rooms, seed, stream, read
        counts = [1 if length is None else max(1, round(size / length)) for size in self.speech.lengths]
        self.items = [(i, part, count) for i, count in enumerate(counts) for part in range(count)]
        shares = {"noise": 1 - recipe.babble - recipe.generated, "generated": recipe.generated}
        shares = {kind: share for kind, share in shares.items() if share and kind in material}
        if recipe.babble and len(np.unique(self.speech.groups)) > OTHERS:
            shares["babble"] = recipe.babble
        if not shares:
            raise CorpusError(
                "nothing to mix speech with: give data.noise=FOLDER, or data.mix.generated above 0, or data.mix.babble "
                f"above 0 with more than {OTHERS} speakers in every part of the split"
            )
        self.kinds, edges = list(shares), np.cumsum(list(shares.values()))
        self.edges = edges[:-1] / edges[-1]

    def __len__(self) -> int:
        return len(self.items)

    def names_of(self, indices: Sequence[int]) -> list[str]:
        """Of the speech."""
        names, rows = self.speech.collection.names, self.speech.rows
        return [names[rows[self.items[index][0]]] for index in indices]

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """The items of one batch, which torch's DataLoader asks for at once."""
        return {**self.batch([self.draw(*item) for item in items]), "drawn": tuple(items[0])}

    def draw(self, epoch: int, index: int) -> Draw:
        """All that is random in one mixture."""
        rng = np.random.default_rng([self.seed, epoch, index, self.stream + 1])
        recipe, speech = self.recipe, self.speech
        i, part, parts = self.items[index]
        length = int(speech.lengths[i]) if self.length is None else self.length
        back = reach(length, self.speech.collection.sample_rate, self.rooms > 0) - length
        start = speech.place(rng, i, length, (part / parts, (part + 1) / parts))
        kinds, noises = [], []
        for further in range(int(rng.integers(recipe.noises)) + 1):
            kind = self.kinds[int(np.searchsorted(self.edges, rng.random(), "right"))]
            gain = -rng.uniform(0, QUIETER) if further else 0.0
            if kind == "babble":
                people = int(rng.integers(PEOPLE[0], PEOPLE[1] + 1))
                for _ in range(people):
                    other = speech.stranger(rng, i)
                    mine = gain - 10 * np.log10(people) + rng.uniform(-BETWEEN, BETWEEN)
                    noises.append((*_sounding(rng, speech, other, length, back), mine))
            else:
                source = self.material[kind]
                j = int(rng.integers(len(source)))
                noises.append((*_sounding(rng, source, j, length, back), gain))
                kind = source.name(j)
            kinds.append(kind)
        band, filters = OPEN, np.zeros((2, 4))
        if rng.random() < recipe.narrow:
            top = HIGH[1] * speech.collection.sample_rate
            low, high = (np.exp(rng.uniform(*np.log(edge))) for edge in (LOW, (min(HIGH[0], top), top)))
            band = (low, high)
        if rng.random() < recipe.filtered:
            filters = rng.uniform(-FILTER, FILTER, (2, 4))
        drawn = Draw(
            segment=i,
            start=start,
            length=length,
            noises=noises,
            kinds=kinds,
            snr=rng.uniform(*recipe.snr),
            loudness=rng.uniform(*recipe.level),
            speechless=rng.random() < recipe.speechless,
            filters=filters,
            band=band,
            room=int(rng.integers(self.rooms)) if self.rooms and rng.random() < recipe.reverberant else -1,
        )
        # Not of what is scored, whole utterances: there is nothing to gain on a clean one.
        if self.length is not None and rng.random() < recipe.noiseless:
            return replace(drawn, snr=NOISELESS)
        return drawn

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The crops of some draws of one length, and what else :func:`~.mixing.mix` takes."""
        speech, length = self.speech, draws[0].length
        size = reach(length, speech.collection.sample_rate, self.rooms > 0)
        segments = np.array([d.segment for d in draws])
        offsets = np.array([d.start for d in draws]) - (size - length)
        owner = [i for i, d in enumerate(draws) for _ in d.noises]
        noises = (noise for d in draws for noise in d.noises)
        row, offset, period, shift, gain = (np.array(column) for column in zip(*noises, strict=True))
        (short,) = np.nonzero(period)
        rows, places = np.concatenate([speech.rows[segments], row]), np.concatenate([offsets, offset])
        arrays = {
            "first": speech.starts[segments] - offsets,
            "last": speech.stops[segments] - offsets,
            "power": speech.power[segments],
            "active": speech.active[segments],
            "owner": np.array(owner),
            "gain": gain,
            "short": short,
            "period": period[short],
            "shift": shift[short],
            "snr": np.array([d.snr for d in draws]),
            "loudness": np.array([d.loudness for d in draws]),
            "speechless": np.array([float(d.speechless) for d in draws]),
            "highpass": np.full(len(draws), float(self.recipe.highpass)),
            "speech_filter": np.array([d.filters[0] for d in draws]),
            "noise_filter": np.array([d.filters[1] for d in draws]),
            "band": np.array([d.band for d in draws]),
            "room": np.array([d.room for d in draws]),
        }
        batch: Batch = {
            key: torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array.astype(np.int64))
            for key, array in arrays.items()
        }
        if self.read:
            return {**batch, "crops": speech.collection.gather(rows, places, size)}
        return {**batch, "rows": torch.from_numpy(rows), "offsets": torch.from_numpy(places)}


class Fixed(Dataset[Batch]):
    """Whole utterances in noise, always the same: of validation and test, as ``Utterances`` are of pairs.

    Args:
        mixtures: of whole utterances.
        responses: of the rooms, ``[rooms, 2, H]``, or None.
        limit: as many at most, evenly spaced; None for all.
    """

    def __init__(self, mixtures: Mixtures, responses: Tensor | None, limit: int | None = None) -> None:
        self.mixtures, self.responses = mixtures, responses
        count = len(mixtures) if limit is None else min(limit, len(mixtures))
        self.indices = [i * len(mixtures) // count for i in range(count)]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def names(self) -> list[str]:
        """Names of the mixtures, in order; two of them may have one name."""
        return [self._name(self.mixtures.draw(0, index)) for index in self.indices]

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """Of each name: the folder or kind of its first noise, the loudest, and the nearest 5 dB of its ratio."""
        draws = [self.mixtures.draw(0, index) for index in self.indices]
        return {
            self._name(draw): {
                "noise_type": PurePosixPath(draw.kinds[0]).parent.name or PurePosixPath(draw.kinds[0]).stem,
                "snr_db": float(5 * round(draw.snr / 5)),
            }
            for draw in draws
        }

    def _name(self, draw: Draw) -> str:
        speech = self.mixtures.speech.name(draw.segment)
        return f"{speech}_in_{'_and_'.join(PurePosixPath(kind).stem for kind in draw.kinds)}_{draw.snr:.0f}dB"

    def __getitem__(self, index: int) -> Batch:
        draw = self.mixtures.draw(0, self.indices[index])
        batch = self.mixtures.batch([draw])
        batch["crops"] = to_float(batch["crops"])
        mixed = mix(batch, draw.length, self.mixtures.speech.collection.sample_rate, self.responses)
        noisy, clean = mixed["noisy"][0], mixed["clean"][0]
        level = Spectral.level(noisy)
        return {"noisy": noisy, "clean": clean, "level": level, "name": self._name(draw), "index": index}


def _sounding(rng: Generator, source: Segments, index: int, length: int, back: int) -> tuple[int, int, int, int]:
    """A row, where the crop of it begins; of one shorter than ``length`` its period and how far in to begin, else 0."""
    size = int(source.lengths[index])
    if size < length:
        return int(source.rows[index]), int(source.starts[index]), size, int(rng.integers(size))
    return int(source.rows[index]), source.place(rng, index, length) - back, 0, 0
