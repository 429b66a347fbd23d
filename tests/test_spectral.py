"""The spectral representation: exact inverse, independence of loudness, scale, refused settings."""

import pytest
import torch

from conftest import make_noise, make_voice
from denoiser.errors import ConfigError
from denoiser.spectral import Spectral

SETTINGS = {16_000: {}, 8_000: {"n_fft": 254, "hop": 64}, 48_000: {"n_fft": 1534, "hop": 384}}


def fitted(rate: int = 16_000) -> Spectral:
    spectral = Spectral(rate, **SETTINGS[rate])
    noisy = make_voice(1.0, rate) + make_noise(1.0, rate)
    spectral.fit([(noisy[0], Spectral.level(noisy[0]))])
    return spectral


def round_trip_decibels(spectral: Spectral, waveform: torch.Tensor) -> float:
    level = torch.full((*waveform.shape[:-1], 1), 0.1)
    spectrum = spectral(waveform, level)
    back = spectral.inverse(spectrum.magnitude, spectrum.phase, level, waveform.shape[-1])
    return float(10 * torch.log10(waveform.square().sum() / (back - waveform).square().sum()))


@pytest.mark.parametrize("rate", SETTINGS)
def test_a_waveform_of_any_length_survives_the_round_trip(rate):
    spectral = fitted(rate)
    waveform = make_voice(1.0, rate)[0] + make_noise(1.0, rate)[0]
    hop, n_fft = spectral.hop, spectral.n_fft
    for length in (1, 2, hop - 1, hop, hop + 1, n_fft - 1, n_fft, n_fft + 1, 5 * hop - 1, rate - 7, rate):
        assert round_trip_decibels(spectral, waveform[:length]) > 100, length


def test_magnitudes_of_the_training_set_fill_the_range():
    spectral = fitted()
    noisy = make_voice(1.0, 16_000) + make_noise(1.0, 16_000)
    magnitude = spectral(noisy, spectral.level(noisy)).magnitude
    assert 0.0002 < (magnitude > 1).float().mean() < 0.005  # one in a thousand, of a sample
    assert magnitude.min() == pytest.approx(-1, abs=0.2)
    assert magnitude.min() >= -1
    assert magnitude.shape == (1, 256, 126)


def test_loudness_does_not_matter_and_silence_is_silent():
    spectral, noisy = fitted(), make_voice(1.0, 16_000) + make_noise(1.0, 16_000)
    loud = spectral(noisy, spectral.level(noisy)).magnitude
    quiet = spectral(0.001 * noisy, spectral.level(0.001 * noisy)).magnitude
    # Near zero, the slope of the compression makes rounding of the samples larger.
    assert torch.allclose(loud, quiet, atol=1e-4)
    silence = torch.zeros(1, 1000)
    spectrum = spectral(silence, spectral.level(silence))
    assert (spectrum.magnitude == -1).all()
    assert not spectral.inverse(spectrum.magnitude + 0.5, spectrum.phase, spectral.level(silence), 1000).any()


def test_a_training_patch_depends_on_its_own_samples_only():
    spectral = fitted()
    waveform = torch.randn(spectral.samples(256))
    level = spectral.level(waveform)
    patch = spectral(waveform, level, center=False).magnitude
    assert patch.shape == (256, 256)
    longer = torch.cat([torch.randn(4 * 128), waveform, torch.randn(4 * 128)])
    assert torch.allclose(spectral(longer, level, center=False).magnitude[:, 4:-4], patch, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hop": 400}, "hop"),
        ({"hop": 4}, "1/64"),
        ({"n_fft": 20_000}, "n_fft"),
        ({"sample_rate": 10}, "sample rate"),
        ({"power": 2}, "power"),
        ({"power": "0.3"}, "numbers"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Spectral(**settings)


def test_a_silent_training_set_is_refused():
    with pytest.raises(ConfigError, match="silent"):
        Spectral().fit([(torch.zeros(1000), torch.zeros(1))])
