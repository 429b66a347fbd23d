"""Recipe of mixtures, and random choices by it. Lightning is not imported here: a spawned worker need not load it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import Dataset

from denoiser.data.augment import check_bounds
from denoiser.data.crops import Batch
from denoiser.data.mixture import responses, rooms
from denoiser.data.mixture.segments import Segments
from denoiser.errors import ConfigError, CorpusError

PEOPLE = (3, 8)  # voices of a babble
OTHERS = 3  # speakers, at least, beside the one who is heard, for a babble
VOICE_SPREAD = 3.0  # dB, at most, that the voices of a babble differ from their mean
QUIETER = 10.0  # dB, at most, of each further noise of a mixture
COEFFICIENT = 3 / 8  # of a random filter, at most
LOW_EDGE = (50.0, 400.0)  # Hz, of a narrow channel
HIGH_EDGE = (2_800.0, 0.45)  # Hz, and share of the sample rate
OPEN = (1e-6, 1e9)  # Hz: a channel that passes all
NOISELESS = 80.0  # dB

SPANS = {"snr": (-200, 200), "level": (-200, 200)}  # two numbers, lowest and highest, within these
SHARES = ("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant")
LIMITS = {**SPANS, **dict.fromkeys(SHARES, (0, 1)), "highpass": (0, 300), "noises": (1, 100)}


@dataclass(frozen=True)
class Recipe:
    """Ranges and probabilities of mixtures, explained in ``conf/data/mixture.yaml``; ConfigError if one is wrong.

    ``highpass`` is for the rumble that recordings of speech have below any voice: it cannot be told from noise.
    Mixtures beyond full scale are scaled down as a whole, so ``level`` is that of the others.
    """

    snr: tuple[float, float] = (-5.0, 20.0)
    noises: int = 2
    babble: float = 0.1
    generated: float = 0.1
    highpass: float = 0.0
    filtered: float = 0.5
    narrow: float = 0.1
    speechless: float = 0.02
    noiseless: float = 0.03
    level: tuple[float, float] = (-40.0, -10.0)
    reverberant: float = 0.5
    target: str = "early"

    def __post_init__(self) -> None:
        for name, limits in LIMITS.items():
            value, is_span = getattr(self, name), name in SPANS
            try:
                check_bounds(f"data.mix.{name}={value}", value if is_span else [value], limits, 1 + is_span)
            except ValueError as error:
                raise ConfigError(str(error)) from error
        if self.babble + self.generated > 1:
            raise ConfigError(f"data.mix: babble={self.babble} and generated={self.generated} are over 1 together")
        if self.target not in rooms.TARGET_SECONDS:
            raise ConfigError(f"data.mix.target={self.target}: expected {', '.join(rooms.TARGET_SECONDS)}")


@cache
def crop_length(length: int, sample_rate: int, in_rooms: bool) -> int:
    """Return the samples of a crop whose last ``length`` become a mixture; filters and rooms sound of those before.

    The size has no prime factor above 5: a Fourier transform of another takes up to four times as long.
    """
    size = length + round((rooms.SECONDS if in_rooms else responses.SECONDS) * sample_rate)
    # A power of 30 is a multiple of every such number, and of no other.
    while pow(30, 64, size):
        size += 1
    return size


class NoiseCrop(NamedTuple):
    """Place of a noise; one shorter than the mixture is repeated after ``period`` samples from ``shift`` on, else 0."""

    row: int
    offset: int
    period: int
    shift: int
    gain: float  # dB


@dataclass(frozen=True)
class Draw:
    """One mixture: ``length`` samples of a segment of speech, from ``start`` in its row, and what is done to them."""

    segment: int
    start: int
    length: int
    noises: list[NoiseCrop]
    kinds: list[str]  # names of the noises; a babble is one kind and several crops
    snr: float  # dB
    loudness: float  # dBFS
    speechless: bool
    filters: NDArray[np.float64]  # [2, 4], for speech and noise, of responses.microphone
    band: tuple[float, float]  # Hz
    room: int  # -1 for none


@dataclass(eq=False, repr=False)
class Mixtures(Dataset[Batch]):
    """Batches of crops and random choices, as :func:`~denoiser.data.mixture.mix.mix` takes them.

    An item is (epoch, index). An epoch is the speech once, by hours: an utterance is as many items as it has lengths
    of a crop (one at least), each around another part of it. Raises CorpusError if there is nothing to mix with.

    ``material`` are ``speech``, and where there are any the ``noise`` that was recorded and the ``generated``. Without
    a ``length`` in samples mixtures are whole utterances, which come one by one. ``rooms`` are the bandwidths in Hz of
    those to draw from.
    Parts of the split with other ``stream`` numbers repeat no draws. With ``read=False`` a batch has ``rows`` and
    ``offsets`` in place of ``crops``.
    """

    material: Mapping[str, Segments]
    recipe: Recipe
    length: int | None = None
    rooms: Sequence[float] = ()
    seed: int = 0
    stream: int = 0
    read: bool = True

    def __post_init__(self) -> None:
        self.speech, recipe = self.material["speech"], self.recipe
        self.sample_rate = self.speech.collection.sample_rate
        counts = [max(1, round(size / self.length)) if self.length else 1 for size in self.speech.lengths]
        self.items = [(i, part, count) for i, count in enumerate(counts) for part in range(count)]
        shares = {"noise": 1 - recipe.babble - recipe.generated, "generated": recipe.generated}
        shares = {kind: share for kind, share in shares.items() if share and kind in self.material}
        if recipe.babble and len(np.unique(self.speech.groups)) > OTHERS:
            shares["babble"] = recipe.babble
        if not shares:
            raise CorpusError("nothing to mix speech with: give data.noise=FOLDER, or data.mix.generated above 0")
        self.kinds = list(shares)
        edges = np.cumsum(list(shares.values()))
        self.edges = edges[:-1] / edges[-1]

    def __len__(self) -> int:
        return len(self.items)

    def __getitems__(self, items: Sequence[tuple[int, int]]) -> Batch:
        """Return the items of one batch, which torch's DataLoader asks for at once."""
        return {**self.batch([self.draw(*item) for item in items]), "drawn": tuple(items[0])}

    def draw(self, epoch: int, index: int) -> Draw:
        """Make all random choices of one mixture; they follow from (seed, epoch, index) and the stream."""
        rng = np.random.default_rng([self.seed, epoch, index, self.stream + 1])
        recipe = self.recipe
        segment, part, parts = self.items[index]
        length = int(self.speech.lengths[segment]) if self.length is None else self.length
        start = self.speech.place(rng, segment, length, (part / parts, (part + 1) / parts))
        kinds, noises = self._draw_noises(rng, segment, length)
        band, filters = OPEN, np.zeros((2, 4))
        if rng.random() < recipe.narrow:
            top = HIGH_EDGE[1] * self.sample_rate
            low, high = (np.exp(rng.uniform(*np.log(edge))) for edge in (LOW_EDGE, (min(HIGH_EDGE[0], top), top)))
            band = (low, high)
        if rng.random() < recipe.filtered:
            filters = rng.uniform(-COEFFICIENT, COEFFICIENT, (2, 4))
        snr, loudness = rng.uniform(*recipe.snr), rng.uniform(*recipe.level)
        speechless = rng.random() < recipe.speechless
        in_room = self.rooms and rng.random() < recipe.reverberant
        room = int(rng.integers(len(self.rooms))) if in_room else -1
        # Not for whole utterances, which are scored: there is nothing to gain on a clean one.
        if self.length is not None and rng.random() < recipe.noiseless:
            snr = NOISELESS
        return Draw(segment, start, length, noises, kinds, snr, loudness, speechless, filters, band, room)

    def _draw_noises(self, rng: Generator, segment: int, length: int) -> tuple[list[str], list[NoiseCrop]]:
        kinds: list[str] = []
        noises: list[NoiseCrop] = []
        for further in range(int(rng.integers(self.recipe.noises)) + 1):
            kind = self.kinds[int(np.searchsorted(self.edges, rng.random(), "right"))]
            gain = -rng.uniform(0, QUIETER) if further else 0.0
            if kind != "babble":
                source = self.material[kind]
                index = int(rng.integers(len(source)))
                kinds.append(source.name(index))
                noises.append(self._draw_crop(rng, source, index, length, gain))
                continue
            kinds.append(kind)
            people = int(rng.integers(*PEOPLE, endpoint=True))
            for _ in range(people):
                other = self.speech.random_other_speaker(rng, segment)
                voice_gain = gain - 10 * np.log10(people) + rng.uniform(-VOICE_SPREAD, VOICE_SPREAD)
                noises.append(self._draw_crop(rng, self.speech, other, length, voice_gain))
        return kinds, noises

    def _draw_crop(self, rng: Generator, source: Segments, index: int, length: int, gain: float) -> NoiseCrop:
        row, size = int(source.rows[index]), int(source.lengths[index])
        if size < length:
            return NoiseCrop(row, int(source.starts[index]), period=size, shift=int(rng.integers(size)), gain=gain)
        before = crop_length(length, self.sample_rate, bool(self.rooms)) - length
        return NoiseCrop(row, source.place(rng, index, length) - before, period=0, shift=0, gain=gain)

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Return the crops of some draws of one length, and all else :func:`~denoiser.data.mixture.mix.mix` takes."""
        speech, length = self.speech, draws[0].length
        size = crop_length(length, self.sample_rate, bool(self.rooms))
        segments = np.array([d.segment for d in draws])
        begins = np.array([d.start for d in draws]) - (size - length)
        counts = [len(d.noises) for d in draws]
        noises = chain.from_iterable(d.noises for d in draws)
        row, offset, period, shift, gain = (np.array(column) for column in zip(*noises, strict=True))
        (short,) = np.nonzero(period)
        # A room that was recorded at a lower rate takes from the speech what lies above.
        room_known = [self.rooms[d.room] if d.room >= 0 else np.inf for d in draws]
        speech_known = np.minimum(speech.bandwidths[segments], room_known)
        # Silence is known at every frequency.
        speech_known = np.where([d.speechless for d in draws], np.inf, speech_known)
        # Speech that lies above all noise would teach that whatever is high is speech.
        noise_known = np.maximum.reduceat(speech.collection.bandwidths[row], np.cumsum([0, *counts[:-1]]))
        arrays = {
            "first": speech.starts[segments] - begins,
            "last": speech.stops[segments] - begins,
            "power": speech.power[segments],
            "active": speech.active_power[segments],
            "bandwidth": np.stack([speech_known, noise_known], axis=1),
            "owner": np.repeat(np.arange(len(draws)), counts),
            "gain": gain,
            "short": short,
            "period": period[short],
            "shift": shift[short],
            "highpass": np.full(len(draws), float(self.recipe.highpass)),
        }
        for name in ("snr", "loudness", "speechless", "filters", "band", "room"):
            arrays[name] = np.array([getattr(draw, name) for draw in draws])
        batch: Batch = {}
        for key, array in arrays.items():
            dtype = np.float32 if array.dtype.kind == "f" else np.int64
            batch[key] = torch.from_numpy(array.astype(dtype))
        rows = np.concatenate([speech.rows[segments], row])
        offsets = np.concatenate([begins, offset])
        if self.read:
            return {**batch, "crops": speech.collection.gather(rows, offsets, size)}
        return {**batch, "rows": torch.from_numpy(rows), "offsets": torch.from_numpy(offsets)}
