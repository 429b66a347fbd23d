"""A small untrained network, and a voice in noise to enhance with it."""

from __future__ import annotations

import torch
from conftest import MODEL, make_noise, make_voice

from denoiser import Denoiser, models
from denoiser.spectral import Spectral


def build(**model) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(models.build(**(model or MODEL)), Spectral(peak=5.0)).eval()


def noisy_voice(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    return make_voice(seconds, rate, seed) + make_noise(seconds, rate, seed)
