import pytest
import torch

from denoiser import audio
from denoiser.inference.level import RunningLevel, measure_level
from denoiser.spectral import Spectral
from untrained import noisy_voice


def test_the_level_of_a_recording_in_pieces_is_that_of_the_whole(denoiser):
    noisy = noisy_voice(2.0, 16_000, channels=2) * torch.tensor([[1.0], [0.01]]) + 0.3
    running = RunningLevel()
    for piece in noisy.split(777, dim=-1):
        running.add(piece)
    measured = measure_level(lambda: noisy.split(5_000, dim=-1), 16_000, 16_000)
    for level in (running.level, measured, denoiser.level(noisy.numpy(), 16_000)):
        assert torch.allclose(level.rms, Spectral.level(noisy), rtol=1e-5)
        assert torch.allclose(level.mean, noisy.mean(-1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_at_another_rate_the_level_is_that_of_the_resampled_recording_without_its_offset(rate):
    noisy = noisy_voice(2.0, rate, channels=2)
    noisy = noisy - noisy.mean(-1, keepdim=True)
    level = measure_level(lambda: (noisy + 0.3).split(5_000, dim=-1), rate, 16_000)
    assert torch.allclose(level.rms, Spectral.level(audio.resample(noisy, rate, 16_000)), rtol=1e-4)
    assert torch.allclose(level.mean, torch.full((2, 1), 0.3), atol=1e-6)
