"""Arithmetic without complex numbers: the same results."""

import pytest
import torch

from conftest import make_noise
from denoiser import Denoiser
from denoiser.export.complex import RealArithmetic, dft
from denoiser.export.step import Step
from denoiser.models.heads import HEADS
from denoiser.spectral import Spectral

BANDS = {"sample_rate": 48_000, "n_fft": 1530, "hop": 384, "bands": 32, "level_seconds": 0.1}


@pytest.mark.parametrize("size", [2, 254, 510, 1530])
def test_the_transform_in_two_steps_is_that_of_torch(size):
    values = torch.randn(3, 4, size)
    expected = torch.fft.fft(values.double())
    result = dft(values)
    assert torch.allclose(result.real, expected.real.float(), atol=1e-4)
    assert torch.allclose(result.imag, expected.imag.float(), atol=1e-4)


@pytest.mark.parametrize("settings", [{}, BANDS], ids=["16k", "48k_bands"])
def test_a_spectrum_and_its_inverse_are_those_of_complex_numbers(settings):
    spectral, noise = Spectral(peak=5.0, **settings), make_noise(0.3, 16_000)
    expected = spectral.stft(noise)
    with RealArithmetic():
        stft = spectral.stft(noise)
        level = spectral.levels(stft, torch.ones(1, 1)).expand(-1, stft.shape[-1])
        noisy = spectral.normalise(stft, level)
        waveform = spectral.inverse(noisy.magnitude, noisy.phase, level, noise.shape[-1], noisy=noisy)
    assert torch.allclose(torch.complex(stft.real, stft.imag), expected, atol=1e-4)
    assert torch.allclose(waveform, noise, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("settings", [{"level_seconds": 0.1}, BANDS], ids=["16k", "48k_bands"])
def test_every_head_gives_the_same_sound(head, settings):
    torch.manual_seed(0)
    model = {"name": "unet", "depth": 2, "width": 2, "head": {"name": head}}
    denoiser = Denoiser.build(model, {"peak": 5.0, **settings}).eval()
    noise = make_noise(0.4, 16_000)[:, : denoiser.spectral.hop * 16]
    noise = noise - noise.mean()
    with torch.no_grad():
        enhanced = Step(denoiser)(noise)
    assert torch.allclose(enhanced, denoiser.enhance(noise, denoiser.sample_rate), atol=1e-5)
    assert enhanced.std() > 1e-3
