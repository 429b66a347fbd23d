"""Sound of the shipped and of older checkpoints, compared with what commit f3196bc made of them.

``reference/enhanced.npz`` holds 0.3 s of a made voice in noise at 24 kHz, and its enhanced versions by ``small``,
``best`` and ``reference/causal.pt``, an untrained causal network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from denoiser import Denoiser, Options

REFERENCE = Path(__file__).parent / "reference"
RATE = 24_000
TOLERANCE_DB = -80


@pytest.mark.parametrize("name", ["small", "best", "causal"])
def test_a_checkpoint_sounds_as_it_did(name):
    stored = np.load(REFERENCE / "enhanced.npz")
    checkpoint = REFERENCE / "causal.pt" if name == "causal" else name
    denoiser = Denoiser.from_checkpoint(checkpoint, "cpu", "32")
    enhanced = denoiser.enhance(stored["noisy"], RATE, Options(dry=0.1, max_attenuation_db=30))
    difference = np.linalg.norm(enhanced - stored[name]) / np.linalg.norm(stored[name])
    assert 20 * np.log10(difference + 1e-12) < TOLERANCE_DB
