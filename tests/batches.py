"""Batches of voices in noise, and the transforms that change them, for the tests of augmentation."""

import torch

from conftest import make_noise, make_voice
from denoiser.data import transforms
from denoiser.data.augment import Augment, Transform
from denoiser.spectral import Spectral

RATE, N, KEY = 16_000, 8_000, (0, 1, 2, 0)
# In the order in which they are applied.
KINDS = "NoiseSpeed Speed Remix Shift SNR BandStop BandLimit Clip Gain Splice LevelChange Rumble".split()
TRANSFORMS = {kind.lower(): getattr(transforms, kind) for kind in KINDS}


def make_batch(rows: int = 6) -> dict[str, torch.Tensor]:
    """Return voices at several SNRs and levels, of 16 bit as in a store; the whole utterance is the crop."""
    gains = torch.linspace(0.1, 1, rows)[:, None]
    clean = torch.cat([make_voice(N / RATE, RATE, i) for i in range(rows)]) * gains
    noise = torch.cat([make_noise(N / RATE, RATE, i) for i in range(rows)]) * gains
    noise = 0.3 * noise * (1 + torch.arange(rows)[:, None])
    clean, noise = ((x * 32_768).round() / 32_768 for x in (clean, noise))
    return {"noisy": clean + noise, "clean": clean, "level": Spectral.level(clean + noise)}


def transform(name: str, **arguments) -> Transform:
    rate = {"sample_rate": RATE} if name in ("bandstop", "bandlimit", "splice", "levelchange", "rumble") else {}
    return TRANSFORMS[name](**rate, **arguments)


def build(settings: dict[str, dict]) -> Augment:
    return Augment([transform(name, **arguments) for name, arguments in settings.items()])


def power(x: torch.Tensor) -> torch.Tensor:
    return x.double().square().mean(-1)
