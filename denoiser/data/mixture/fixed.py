"""Fixed mixtures of whole utterances, for validation and test."""

from pathlib import PurePosixPath
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from denoiser.data.crops import Batch
from denoiser.data.mixture.draw import Draw, Mixtures
from denoiser.data.mixture.mix import mix
from denoiser.data.store import to_float
from denoiser.spectral import Spectral


class FixedMixtures(Dataset[Batch]):
    """Whole utterances in noise, the same in every epoch.

    Args:
        mixtures: of whole utterances.
        rooms: impulse responses ``[rooms, 2, H]``, or None.
        limit: at most so many, evenly spaced; None for all.
    """

    def __init__(self, mixtures: Mixtures, rooms: Tensor | None, limit: int | None = None) -> None:
        self.mixtures, self.rooms = mixtures, rooms
        count = len(mixtures) if limit is None else min(limit, len(mixtures))
        self.indices = [i * len(mixtures) // count for i in range(count)]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        draw = self.mixtures.draw(0, self.indices[index])
        batch = self.mixtures.batch([draw])
        batch["crops"] = to_float(batch["crops"])
        mixed = mix(batch, draw.length, self.mixtures.sample_rate, self.rooms)
        noisy, clean = mixed["noisy"][0], mixed["clean"][0]
        level = Spectral.level(noisy)
        return {"noisy": noisy, "clean": clean, "level": level, "name": self._name(draw), "index": index}

    @property
    def names(self) -> list[str]:
        """Names of the mixtures, in order; two of them may have one name."""
        return [self._name(self.mixtures.draw(0, index)) for index in self.indices]

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """The folder or kind of the first and loudest noise, and the ratio to the nearest 5 dB, by name."""
        found = {}
        for index in self.indices:
            draw = self.mixtures.draw(0, index)
            kind = PurePosixPath(draw.kinds[0])
            found[self._name(draw)] = {
                "noise_type": kind.parent.name or kind.stem,
                "snr_db": float(5 * round(draw.snr / 5)),
            }
        return found

    def _name(self, draw: Draw) -> str:
        speech = self.mixtures.speech.name(draw.segment)
        noises = "_and_".join(PurePosixPath(kind).stem for kind in draw.kinds)
        return f"{speech}_in_{noises}_{draw.snr:.0f}dB"
