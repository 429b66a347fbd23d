"""Fixed mixtures of whole utterances, for validation and test."""

from pathlib import PurePosixPath

from torch import Tensor
from torch.utils.data import Dataset

from denoiser.data.crops import Batch
from denoiser.data.mixture.draw import Mixtures
from denoiser.data.mixture.mix import mix
from denoiser.data.store import to_float
from denoiser.spectral import Spectral


class FixedMixtures(Dataset[Batch]):
    """Whole utterances in noise, the same in every epoch: at most ``limit`` of the mixtures, evenly spaced.

    ``names`` are those of the mixtures, in order; two of them may have one. ``facts`` are, by name, the folder or kind
    of the first and loudest noise, and the SNR to the nearest 5 dB.
    """

    def __init__(self, mixtures: Mixtures, rooms: Tensor | None, limit: int | None = None) -> None:
        self.mixtures, self.rooms = mixtures, rooms
        count = len(mixtures) if limit is None else min(limit, len(mixtures))
        self.draws = [mixtures.draw(0, i * len(mixtures) // count) for i in range(count)]
        self.names: list[str] = []
        self.facts: dict[str, dict[str, str | float]] = {}
        for draw in self.draws:
            kinds = [PurePosixPath(kind) for kind in draw.kinds]
            noises = "_and_".join(kind.stem for kind in kinds)
            name = f"{mixtures.speech.name(draw.segment)}_in_{noises}_{draw.snr:.0f}dB"
            self.names.append(name)
            noise_type = kinds[0].parent.name or kinds[0].stem
            self.facts[name] = {"noise_type": noise_type, "snr_db": float(5 * round(draw.snr / 5))}

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> Batch:
        draw = self.draws[index]
        batch = self.mixtures.batch([draw])
        batch["crops"] = to_float(batch["crops"])
        mixed = mix(batch, draw.length, self.mixtures.sample_rate, self.rooms)
        noisy, clean = mixed["noisy"][0], mixed["clean"][0]
        level = Spectral.level(noisy)
        return {"noisy": noisy, "clean": clean, "level": level, "name": self.names[index], "index": index}
