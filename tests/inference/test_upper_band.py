import pytest
import torch

from conftest import unbounded
from denoiser import Denoiser
from denoiser.inference.options import Options
from untrained import Answer, build, centred


def answering(share: float) -> Denoiser:
    """Return a denoiser that takes this share of every bin for noise."""
    return unbounded(Answer(lambda magnitude: share * (magnitude + 1) / 2), peak=50.0)


def energy_above(waveform: torch.Tensor, rate: int, hertz: float) -> float:
    spectrum = torch.fft.rfft(waveform * torch.hann_window(waveform.shape[-1])).abs().square()
    return float(spectrum[..., int(hertz / rate * waveform.shape[-1]) :].sum())


@pytest.mark.parametrize("rate", [16_000, 22_050, 48_000])
def test_all_bands_are_turned_down_alike(rate):
    noisy = centred(1.0, rate)
    assert torch.allclose(answering(0.0).enhance(noisy, rate), noisy, atol=1e-4)
    # Half of the compressed magnitude; the band above the model's follows the one below.
    half = 0.5 ** (1 / 0.3)
    assert torch.allclose(answering(0.5).enhance(noisy, rate), half * noisy, atol=1e-4)
    assert answering(1.5).enhance(noisy, rate).abs().max() < 1e-5


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_no_bin_is_turned_down_by_more_than_asked(rate):
    noisy = centred(1.0, rate)
    enhanced = answering(1.5).enhance(noisy, rate, Options(max_attenuation_db=12))
    assert torch.allclose(enhanced, 10 ** (-12 / 20) * noisy, atol=1e-4)


@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_without_full_band_nothing_is_left_above_the_model_s_band(rate):
    noisy = centred(1.0, rate)
    cut = answering(0.0).enhance(noisy, rate, Options(full_band=False))
    assert energy_above(cut, rate, 9_000) < 1e-5 * energy_above(noisy, rate, 9_000)


def test_the_band_above_follows_the_gain_over_time():
    def late(magnitude):  # the second half of the recording is noise
        noise = (magnitude + 1) / 2
        noise[..., : noise.shape[-1] // 2] = 0
        return noise

    noisy = centred(2.0, 48_000)
    enhanced = unbounded(Answer(late)).enhance(noisy, 48_000)
    assert torch.allclose(enhanced[:, :46_000], noisy[:, :46_000], atol=1e-4)
    assert enhanced[:, 50_000:].abs().max() < 1e-5


def test_a_causal_network_keeps_the_band_above_too():
    causal, noisy = build(name="crn", stem=2, widths=[4, 8], hidden=8), centred(1.0, 48_000)
    kept, cut = (causal.enhance(noisy, 48_000, Options(full_band=full_band)) for full_band in (True, False))
    assert energy_above(kept, 48_000, 9_000) > 100 * energy_above(cut, 48_000, 9_000)
