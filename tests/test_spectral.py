"""The spectral representation: exact inverse, independence of loudness, scale, refused settings."""

import math

import pytest
import torch

from conftest import make_noise, make_voice
from denoiser.errors import ConfigError
from denoiser.spectral import Spectral

SETTINGS = {16_000: {}, 8_000: {"n_fft": 254, "hop": 64}, 48_000: {"n_fft": 1534, "hop": 384}}
BANDED = {"sample_rate": 48_000, "n_fft": 1530, "hop": 384, "peak": 5.0, "bands": 32}


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
        ({"shifts": 0}, "shifts, 1 to 16"),
        ({"two_levels": True}, "level_seconds above 0"),
        ({"two_levels": 1, "level_seconds": 2}, "two_levels true or false"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Spectral(**settings)


def test_a_soft_sound_after_a_loud_one_is_as_loud_at_its_own_level_and_soft_at_the_plain_one():
    spectral = Spectral(peak=5.0, level_seconds=2.0, two_levels=True)
    noise = torch.randn(1, 8 * 16_000)
    noise[:, 4 * 16_000 :] *= 0.1
    spectrum = spectral.spectra(noise, noise, torch.ones(1, 1))["noisy"]

    def softer(magnitude: torch.Tensor) -> float:
        # A second before and after the change.
        before, after = (magnitude[..., begin : begin + 50].mean() for begin in (350, 600))
        return float(after / before)

    assert softer(spectrum.magnitude + 1) == pytest.approx(1, abs=0.05)
    # A quarter of the 4 s around is loud, and the part itself softer by 20 dB.
    level_before, level_after = (0.75 + 0.25 * 0.01) ** 0.5, (0.25 + 0.75 * 0.01) ** 0.5
    assert softer(spectrum.plain) == pytest.approx((0.1 / level_after * level_before) ** 0.3, rel=0.1)


def test_a_silent_training_set_is_refused():
    with pytest.raises(ConfigError, match="silent"):
        Spectral().fit([(torch.zeros(1000), torch.zeros(1))])


def test_bands_that_are_kept_give_the_waveform_back():
    spectral = Spectral(**BANDED)
    waveform = torch.randn(2, 30_001)
    level = spectral.level(waveform)
    noisy = spectral(waveform, level)
    assert noisy.shape == (2, 256 + 32, 1 + math.ceil(30_001 / 384))
    back = spectral.inverse(noisy.magnitude, noisy.phase, level, 30_001, noisy=noisy)
    assert torch.allclose(back, waveform, atol=1e-4)


def test_a_gain_of_one_band_is_heard_there_alone_and_without_a_step():
    spectral = Spectral(**BANDED)
    waveform = torch.randn(1, 96_000)
    level = spectral.level(waveform)
    noisy = spectral(waveform, level)
    magnitude = noisy.magnitude.clone()
    magnitude[:, 256 + 10] = -1
    kept = spectral.all_bins(noisy.magnitude, noisy.phase, level, noisy)
    gains = (spectral.all_bins(magnitude, noisy.phase, level, noisy) / kept).abs()
    gains = gains[0, :, 5]
    (changed,) = torch.nonzero(gains < 0.999, as_tuple=True)
    hertz = changed * 48_000 / 1530
    assert 10_000 < hertz.min() < hertz.max() < 12_500
    assert gains.min() < 0.1
    assert gains.diff().abs().max() < 0.2


def test_bands_are_silent_in_a_recording_at_16_khz_and_its_bins_those_that_it_has_at_48_khz():
    full = Spectral(**BANDED)
    narrow = full.narrow()
    assert (narrow.sample_rate, narrow.n_fft, narrow.hop, narrow.bins) == (16_000, 510, 128, 288)
    time = torch.arange(48_000) / 48_000
    # A chirp up to 6 kHz, where resampling changes nothing.
    sound = torch.sin(2 * math.pi * 3_000 * time**2)[None]
    wide = full(sound, full.level(sound)).magnitude[..., 5:120]
    same = narrow(sound[:, ::3], narrow.level(sound[:, ::3])).magnitude[..., 5:120]
    loud = same[:, :200] > -0.5
    assert (wide[:, :200] - same[:, :200])[loud].abs().max() < 0.02
    assert (same[:, 256:] == -1).all()


def test_the_narrow_representation_follows_what_is_set_later_and_is_no_part_of_the_weights():
    full = Spectral(**BANDED)
    before = full.narrow().peak
    full.peak.mul_(2)
    full.causal = True
    assert full.narrow().peak == 2 * before
    assert full.narrow().causal
    assert list(full.state_dict()) == ["peak"]


def test_what_a_validation_made_can_be_trained_through():
    full = Spectral(**BANDED)
    with torch.inference_mode():
        full.narrow()
    signal = torch.ones(1, 2_000, requires_grad=True)
    full.narrow()(signal, torch.ones(1, 1), center=False).magnitude.sum().backward()
    assert signal.grad is not None


def test_bands_beyond_the_known_bandwidth_are_those_of_the_other_spectrum():
    spectral = Spectral(**BANDED)
    first, second = (spectral(torch.randn(2, 9_600), torch.ones(2, 1)) for _ in range(2))
    mixed = first.up_to(torch.tensor([8_000.0, 24_000.0]), second)
    assert torch.equal(mixed.magnitude[0, :256], first.magnitude[0, :256])
    assert torch.equal(mixed.magnitude[0, 256:], second.magnitude[0, 256:])
    assert torch.equal(mixed.magnitude[1], first.magnitude[1])


@pytest.mark.parametrize(
    "wrong", [{"bands": -1}, {"bands": 400}, {"bands": 2.5}, {"bands_from": 8_010}, {"n_fft": 1534}, {"bands_from": 0}]
)
def test_bands_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"bands|whole"):
        Spectral(**{**BANDED, **wrong})
