"""Shipped and older checkpoints: the same sound as version 0.1 made of them, to -80 dB.

``tests/reference`` holds one checkpoint per kind of network and head, as version 0.1 wrote them, and what that version
made of :func:`recording` with each and with the shipped ones, in 32 bits: every 71st sample, to keep the file small.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from denoiser import Denoiser
from denoiser.checkpoint import SHIPPED

REFERENCE = Path(__file__).parent / "reference"
RATE = 44_100  # Hz; every network works at another, so that resampling is part of the comparison
NAMES = sorted({*np.load(REFERENCE / "enhanced.npz").files, *SHIPPED})


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
    return denoiser.enhance(recording(), RATE)[:, ::71].numpy()


@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_of_version_0_1_give_the_same_sound(name):
    with np.load(REFERENCE / "enhanced.npz") as stored:
        expected = stored[name]
    difference = enhanced(name) - expected
    assert np.square(difference).sum() < 1e-8 * np.square(expected).sum()
