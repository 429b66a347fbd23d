"""Shipped and older checkpoints: the same sound as before the rooms were rearranged, to -80 dB.

``tests/reference`` holds one checkpoint per kind of network and head, as version 0.1 wrote them, and what that version
made of :func:`recording` with each: every 71st sample, in 32 bits. This is how they were made, in a checkout
of commit f3196bc, with ``make_reference.py`` beside it that imports this file's functions::

    for name, (model, spectral) in KINDS.items():
        torch.manual_seed(0)
        denoiser = Denoiser.build(model, spectral)
        for norm in (layer for layer in denoiser.modules() if isinstance(layer, torch.nn.BatchNorm2d)):
            torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
        weights = {f"denoiser.{key}": value.clone() for key, value in denoiser.state_dict().items()}
        settings = {"model": model, "spectral": {k: v for k, v in spectral.items() if k != "peak"}, "seed": 0}
        torch.save({"hyper_parameters": settings, "state_dict": weights}, REFERENCE / f"{name}.ckpt")
    np.savez(REFERENCE / "enhanced.npz", **{name: enhanced(name) for name in [*KINDS, *SHIPPED]})
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from denoiser import Denoiser
from denoiser.checkpoint import SHIPPED

REFERENCE = Path(__file__).parent / "reference"
RATE = 44_100  # Hz; every network works at another, so that resampling is part of the comparison
STEP = 71  # one sample in 71 is stored, to keep the file small

UNET = {"name": "unet", "depth": 4, "width": 2, "max_width": 4}
CRN = {"stem": 8, "widths": [4, 8], "hidden": 4, "bins": 256}
SPECTRAL = {"sample_rate": 16_000, "peak": 5.0}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "noise": (UNET, SPECTRAL),
    "mask": ({**UNET, "stem": 4, "norm": "batch", "head": {"name": "mask", "limit": 1.2}}, SPECTRAL),
    "complex": ({**UNET, "residual": True, "gates": True, "head": {"name": "complex", "limit": 1.2}}, SPECTRAL),
    "phase": (
        {**UNET, "convolution": "separable", "time_levels": 0, "upsampling": "nearest", "head": {"name": "phase"}},
        {**SPECTRAL, "hop": 255},
    ),
    "filter": (
        {**UNET, "bottleneck": "attention", "reach": 32, "upsampling": "subpixel", "head": {"name": "filter"}},
        SPECTRAL,
    ),
    "gru": (
        {**UNET, "depth": 3, "bottleneck": "gru", "reach": 32},
        {"sample_rate": 8000, "n_fft": 254, "hop": 64, "peak": 5.0},
    ),
    "crn": ({"name": "crn", **CRN, "causal": True, "head": {"name": "filter"}}, SPECTRAL),
    "dualpath": ({"name": "dualpath", **CRN, "causal": False, "segment": 16, "head": {"name": "mask"}}, SPECTRAL),
}


def recording(seconds: float = 1.5) -> torch.Tensor:
    """Return two channels ``[2, N]`` at :data:`RATE`: a harmonic tone in syllables, and noise of another level each."""
    rng = np.random.default_rng(19)
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * (140 * time + 3 * np.sin(2 * np.pi * time))
    voice = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 30))
    voice = voice * np.clip(np.sin(2 * np.pi * 3 * time), 0, 1)
    noise = rng.standard_normal((2, time.size))
    return torch.from_numpy(0.1 * voice + np.array([[0.02], [0.1]]) * noise).float()


def enhanced(name: str) -> np.ndarray:
    """Return every 71st sample of :func:`recording`, enhanced on a CPU in 32 bits."""
    checkpoint = name if name in SHIPPED else REFERENCE / f"{name}.ckpt"
    denoiser = Denoiser.from_checkpoint(checkpoint, "cpu", precision="32")
    return denoiser.enhance(recording(), RATE)[:, ::STEP].numpy()


@pytest.mark.parametrize("name", [*KINDS, *SHIPPED])
def test_checkpoints_of_version_0_1_give_the_same_sound(name):
    with np.load(REFERENCE / "enhanced.npz") as stored:
        expected = stored[name]
    difference = enhanced(name) - expected
    assert np.square(difference).sum() < 1e-8 * np.square(expected).sum()
