"""Augmentation of training batches on their device; random numbers are drawn on the CPU, the same for any device."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from denoiser.spectral import Spectral

STREAM = 1  # of random numbers: crops and mixtures have the same keys, without it
Pair = tuple[Tensor, Tensor]  # noise and clean, [B, N]
Range = tuple[float, float]


@dataclass(kw_only=True)
class Transform(ABC):
    """Random change of noise and clean speech, made by :meth:`change`; noisy is their sum before and after.

    Transforms are applied in the order of ``place``. Each draws from a stream of its own, so that adding or removing
    one does not alter what those of other places draw. A row is changed with a ``probability``, or stays exactly as it
    is.
    """

    place: ClassVar[int]
    keeps_level: ClassVar[bool] = False  # of the whole utterance
    takes_others: ClassVar[bool] = False  # from any row, chosen or not: all of them are given to :meth:`change`
    # Lowest and highest value of each setting; of two that are one range, both names.
    limits: ClassVar[Mapping[str, Range]] = {}

    probability: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(getattr(self, "place", None), int):
            raise ValueError("it states no place: give its class one that no other has, 12 or more (before, it was 10)")
        for names, limits in {"probability": (0, 1), **self.limits}.items():
            values = [getattr(self, name) for name in names.split(", ")]
            is_range = isinstance(getattr(type(self), names, None), tuple)
            check_bounds(names, values[0] if is_range else values, limits, 2 if is_range else len(values))

    @torch.no_grad()
    def __call__(
        self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change some rows of noise and clean ``[B, N]``, and the level ``[B, 1]`` of the whole noisy utterances."""
        rows = self._choose(rng, noise)
        if not len(rows):
            return noise, clean, level
        if self.takes_others:
            new_noise, new_clean = (side[rows] for side in self.change(noise, clean, level, rng))
        else:
            new_noise, new_clean = self.change(noise[rows], clean[rows], level[rows], rng)
        if not self.keeps_level:
            new_level = changed_level(level[rows], clean[rows] + noise[rows], new_clean + new_noise)
            level = level.index_copy(0, rows, new_level)
        return noise.index_copy(0, rows, new_noise), clean.index_copy(0, rows, new_clean), level

    @abstractmethod
    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        """Return changed noise and clean of the rows that are given; never in place."""

    def bandwidth_after(self, bandwidth: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the bandwidths ``[B, 2]`` of speech and noise, Hz, after a call with a generator of this state."""
        rows = self._choose(rng, bandwidth)
        if not len(rows):
            return bandwidth
        if self.takes_others:
            return bandwidth.index_copy(0, rows, self.change_bandwidth(bandwidth, rng)[rows])
        return bandwidth.index_copy(0, rows, self.change_bandwidth(bandwidth[rows], rng))

    def change_bandwidth(self, bandwidth: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the bandwidths of the rows that are given after :meth:`change`, which draws the same."""
        return bandwidth

    def _choose(self, rng: np.random.Generator, like: Tensor) -> Tensor:
        return to_device(np.flatnonzero(rng.random(len(like)) < self.probability), like.device)


class Augment:
    """Transforms applied one after the other, in the order of their places; without any, a batch stays as it is."""

    def __init__(self, transforms: Sequence[Transform] = ()) -> None:
        self.transforms = sorted(transforms, key=lambda transform: transform.place)
        places = [transform.place for transform in self.transforms]
        self.streams: list[list[int]] = []
        for index, place in enumerate(places):
            again = places[:index].count(place)
            # The first of a place draws the same as if it were the only one.
            self.streams.append([place, STREAM, again] if again else [place, STREAM])

    def __call__(self, batch: Mapping[str, Any], key: Sequence[int]) -> dict[str, Any]:
        """Return an augmented copy of ``{"noisy": [B, N], "clean": [B, N], "level": [B, 1], ...}``; drawn by key.

        ``bandwidth`` ``[B, 2]``, of speech and noise, follows what comes in: speech without a band must not teach that
        this band is noise, nor noise without one that it is speech.
        """
        if not self.transforms:
            return dict(batch)
        noise, clean, level = batch["noisy"] - batch["clean"], batch["clean"], batch["level"]
        changed = dict(batch)
        for transform, own in zip(self.transforms, self.streams, strict=True):
            stream = [*key, *own]
            noise, clean, level = transform(noise, clean, level, np.random.default_rng(stream))
            if "bandwidth" in batch:
                changed["bandwidth"] = transform.bandwidth_after(changed["bandwidth"], np.random.default_rng(stream))
        return {**changed, "noisy": clean + noise, "clean": clean, "level": level}


def changed_level(level: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Estimate the level ``[B, 1]`` of utterances of which a crop ``before`` became ``after``, both ``[B, N]``.

    The power of the utterance outside of the crop is assumed to stay. So a crop never becomes louder, relative to the
    level, than it was. A crop of 2 s of 8 s with another's noise tells the level to 0.6 dB (LibriSpeech).
    """
    old_power, new_power = Spectral.level(before).square(), Spectral.level(after).square()
    rest = (level.square() - old_power).clamp(min=0)
    return level * ((rest + new_power) / nonzero(rest + old_power)).sqrt()


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Send numbers drawn on the CPU to a device; from pinned memory, as the copy would otherwise wait for a GPU."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def column(values: np.ndarray, like: Tensor) -> Tensor:
    """Return one number per row as ``[B, 1]``, with the device and type of ``like``."""
    return to_device(values.astype(np.float32)[:, None], like.device).to(like.dtype)


def uniform(rng: np.random.Generator, limits: Range, like: Tensor) -> Tensor:
    """Draw a number between two limits for each row of ``like``: ``[B, 1]``, with its device and type."""
    return column(rng.uniform(*limits, len(like)), like)


def log_uniform(rng: np.random.Generator, limits: Range, like: Tensor) -> Tensor:
    """Draw numbers as :func:`uniform`, small ones as often as large ones."""
    low, high = np.log(limits)
    return column(np.exp(rng.uniform(low, high, len(like))), like)


def nonzero(divisor: Tensor) -> Tensor:
    """Replace zeros by ones."""
    return torch.where(divisor > 0, divisor, 1.0)


def check_bounds(name: str, values: Any, limits: Range, count: int = 2) -> None:
    """Raise ValueError unless the values are ``count`` numbers within the limits, in ascending order."""
    low, high = limits
    is_right = isinstance(values, Sequence) and all(isinstance(value, int | float) for value in values)
    is_right = is_right and len(values) == count and [*values] == sorted(values)
    if not is_right or not all(low <= value <= high for value in values):
        expected = "a number" if count == 1 else "two numbers, the lower first,"
        raise ValueError(f"{name}: expected {expected} from {low:g} to {high:g}")
