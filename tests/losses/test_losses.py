import math
import sys

import pytest
import torch

from conftest import make_loss, make_noise, make_voice, spectra
from denoiser.errors import ConfigError
from denoiser.evaluation import dnsmos, metrics
from denoiser.losses import (
    Compressed,
    Dnsmos,
    MultiResolution,
    Pmsqe,
    SiSdr,
    Stoi,
    UpperSdr,
    WeightedSum,
    sees_phase,
)
from denoiser.losses.dnsmos import rating_network
from denoiser.losses.pmsqe import _bands
from denoiser.spectral import Spectral, Spectrum

NAMES = ["huber", "l1", "mse", "compressed", "mrstft", "si_sdr", "sum", "perceptual"]  # of conf/loss


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_least_for_the_clean_spectrum_and_smaller_for_a_nearer_estimate(name):
    noisy, clean = spectra()
    loss = make_loss(name)
    between = Spectrum(noisy.spectral, linear=(noisy.linear + clean.linear) / 2)
    values = [float(loss(estimate, clean, noisy)) for estimate in (clean, between, noisy)]
    assert values[0] < values[1] < values[2]
    if name not in ("si_sdr", "perceptual"):
        assert values[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_says_so_does_not_depend_on_the_phase_of_the_estimate(name):
    noisy, clean = spectra()
    loss = make_loss(name)
    turned = Spectrum(clean.spectral, magnitude=clean.magnitude, phase=noisy)
    difference = float(loss(turned, clean, noisy)) - float(loss(clean, clean, noisy))
    assert sees_phase(loss) == (name not in ("huber", "l1", "mse"))
    assert (difference > 1e-4) == sees_phase(loss)


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_shorter_than_the_windows_of_a_loss_has_one(name):
    noisy = (make_voice(0.5, 16_000) + make_noise(0.5, 16_000))[:, 4_000:4_300]
    spectral, level = Spectral(peak=20.0), Spectral.level(noisy)
    noisy, clean = spectral.spectra(noisy, 0.5 * noisy, level).values()
    magnitude = noisy.magnitude.clone().requires_grad_()
    loss = make_loss(name)(Spectrum(spectral, magnitude=magnitude, phase=noisy), clean, noisy)
    loss.backward()
    assert loss.isfinite()
    assert magnitude.grad.isfinite().all()


def test_a_loss_that_was_first_computed_in_inference_mode_can_be_trained_with():
    _bands.cache_clear()
    noisy, clean = spectra()
    with torch.inference_mode():
        Pmsqe()(noisy, clean, noisy)
    magnitude = noisy.magnitude.clone().requires_grad_()
    Pmsqe()(Spectrum(noisy.spectral, magnitude=magnitude, phase=noisy), clean, noisy).backward()
    assert magnitude.grad.abs().sum() > 0


def test_si_sdr_is_that_of_the_metric():
    noisy, clean = spectra()
    x, s = noisy.waveform - noisy.waveform.mean(), clean.waveform - clean.waveform.mean()
    target = (x * s).sum() / s.square().sum() * s
    expected = -torch.log10(target.square().sum() / (x - target).square().sum())
    assert float(SiSdr()(noisy, clean, noisy)) == pytest.approx(float(expected), abs=1e-4)


def test_the_ratio_of_the_bands_is_that_of_the_sound_above_them_and_leaves_out_crops_without_speech_there():
    spectral = Spectral(48_000, 1530, 765, bands=32, peak=3.0)
    torch.manual_seed(0)
    clean = torch.randn(2, 48_000)
    noisy = clean + 0.5 * torch.randn(2, 48_000)
    clean[1] = 0
    spectra = spectral.spectra(noisy, clean, torch.ones(2, 1))
    loss = UpperSdr()
    # Untouched, the ratio is that of the noise: 20 log10(1 / 0.5) dB; at half the amplitude it is that of both errors.
    untouched = float(loss(spectra["noisy"], spectra["clean"], spectra["noisy"]))
    assert untouched == pytest.approx(-0.602, abs=0.02)
    halved = Spectrum(spectral, linear=spectra["noisy"].linear / 2)
    both = 0.5**2 + (0.5 * 0.5) ** 2
    assert float(loss(halved, spectra["clean"], spectra["noisy"])) == pytest.approx(math.log10(both), abs=0.02)
    without_bands = Spectral(peak=3.0).spectra(noisy, clean, torch.ones(2, 1))
    assert float(loss(without_bands["noisy"], without_bands["clean"], without_bands["noisy"])) == 0


def test_bands_beyond_the_bandwidth_count_neither_in_the_ratio_of_the_bands_nor_in_its_mean():
    spectral = Spectral(48_000, 1530, 765, bands=32, peak=3.0)
    torch.manual_seed(0)
    clean = torch.randn(2, 48_000)
    noisy = clean + 0.5 * torch.randn(2, 48_000)
    loss = UpperSdr()

    def value(rows: slice, hertz: list[float]) -> float:
        both = spectral.spectra(noisy[rows], clean[rows], torch.ones(len(hertz), 1))
        estimate = both["noisy"].up_to(torch.tensor(hertz), both["clean"])
        return float(loss(estimate, both["clean"], both["noisy"]))

    known = value(slice(1), [24_000.0])
    assert value(slice(2), [24_000.0, 8_000.0]) == pytest.approx(known)
    assert value(slice(1), [8_000.0]) == 0
    # Of white noise each band has the same ratio.
    assert value(slice(1), [16_000.0]) == pytest.approx(known, abs=0.02)


def test_a_sum_is_the_weighted_sum_of_the_terms_that_are_not_none():
    noisy, clean = spectra()
    parts = Compressed(), MultiResolution([256])
    expected = 0.5 * parts[0](noisy, clean, noisy) + 2 * parts[1](noisy, clean, noisy)
    terms = {"first": {"weight": 0.5, "loss": parts[0]}, "second": {"weight": 2.0, "loss": parts[1]}, "third": None}
    assert float(WeightedSum(terms)(noisy, clean, noisy)) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"compressed": {"weight": 1}}, r"loss.terms.compressed: expected its weight and its loss"),
        ({"compressed": {"weight": 0, "loss": Compressed()}}, "no term has a weight; there are: compressed"),
        ({}, "no term has a weight; there are: none"),
    ],
)
def test_a_sum_without_a_term_is_refused_in_one_line(terms, message):
    with pytest.raises(ConfigError, match=message):
        WeightedSum(terms)


def test_a_weight_of_zero_leaves_a_term_of_the_compressed_loss_out():
    noisy, clean = spectra()
    whole = Compressed()(noisy, clean, noisy)
    weights = {"magnitude": 1.0, "complex": 0.3, "consistency": 0.3, "waveform": 0.05}
    none = dict.fromkeys(weights, 0)
    alone = [Compressed(**{**none, name: weight})(noisy, clean, noisy) for name, weight in weights.items()]
    assert float(whole) == pytest.approx(float(sum(alone)))
    with pytest.raises(ConfigError, match="one above 0"):
        Compressed(**none)


def test_pmsqe_ranks_as_pesq_does():
    voice, rate = make_voice(3.0, 16_000), 16_000
    noise = make_noise(3.0, rate) * voice.norm() / make_noise(3.0, rate).norm()
    spectral, loss = Spectral(peak=20.0), Pmsqe()
    versions = [voice + gain * noise for gain in (1.0, 0.5, 0.2, 0.05)]
    versions += [0.1 * version for version in versions]  # the level of neither counts
    clean = spectral(voice, Spectral.level(voice), center=False)
    lost = [float(loss(spectral(v, Spectral.level(v), center=False), clean, clean)) for v in versions]
    pesq = [metrics.score(voice[0], v[0], rate, ("pesq",))["pesq"] for v in versions]
    assert lost[:4] == sorted(lost[:4], reverse=True)
    assert pesq[:4] == sorted(pesq[:4])
    assert lost[4:] == pytest.approx(lost[:4], rel=0.01)


def test_pmsqe_minds_what_is_added_more_than_what_is_missing():
    noisy, clean = spectra()
    band = torch.zeros(clean.linear.shape[-2], 1)
    band[60:120] = 1  # of 256: 2 to 4 kHz
    more, less = (Spectrum(clean.spectral, linear=clean.linear * (1 + gain * band)) for gain in (2.0, -0.67))
    loss = Pmsqe()
    assert float(loss(more, clean, noisy)) > float(loss(less, clean, noisy)) > 0.01


@pytest.mark.parametrize("pause", [0.0, 1.0])  # seconds, which neither of the two compares
def test_the_loss_of_intelligibility_is_one_minus_stoi(pause):
    pytest.importorskip("pystoi", reason='needs pip install "denoiser[metrics]"')
    rate = 16_000
    voice = torch.cat([make_voice(3.0, rate), torch.zeros(1, round(pause * rate))], dim=1)
    noise = make_noise(3.0 + pause, rate)[:, : voice.shape[1]]
    spectral, loss = Spectral(peak=20.0), Stoi()
    clean = spectral(voice, Spectral.level(voice), center=False)
    for gain in (1.0, 0.3, 0.1, 0.03):
        version = voice + gain * noise
        lost = float(loss(spectral(version, Spectral.level(version), center=False), clean, clean))
        assert 1 - lost == pytest.approx(metrics.score(voice[0], version[0], rate, ("stoi",))["stoi"], abs=0.03)


@pytest.mark.parametrize("frames", [3, 40])  # shorter than a window, and than a segment
def test_sounds_too_short_for_stoi_are_left_out_of_its_mean(frames):
    noisy, clean = (spectrum.frames(slice(10, 10 + frames)) for spectrum in spectra())
    assert float(Stoi()(noisy, clean, noisy)) == 0


@pytest.mark.parametrize("loss", [Compressed(), MultiResolution(), Pmsqe(), SiSdr(), Stoi()])
def test_the_gradient_is_finite_where_the_estimate_or_the_target_is_silent(loss):
    noisy, clean = spectra()
    spectral = noisy.spectral
    silent = Spectrum(spectral, linear=torch.zeros_like(clean.linear))
    magnitude = torch.full_like(noisy.magnitude, -1.0, requires_grad=True)
    for target in (clean, silent):
        loss(Spectrum(spectral, magnitude=magnitude, phase=noisy), target, noisy).backward()
        assert torch.isfinite(magnitude.grad).all()


def test_a_file_without_speech_is_no_more_than_another_to_the_resolutions():
    noisy, clean = spectra()
    silent = Spectrum(noisy.spectral, linear=torch.zeros_like(clean.linear))
    loss = MultiResolution()
    assert float(loss(noisy, silent, noisy)) < 10 * float(loss(noisy, clean, noisy))
    assert float(loss(clean, silent, noisy)) > float(loss(silent, silent, noisy)) == 0


def test_dnsmos_rates_as_the_metric_does_and_less_noise_is_better():
    pytest.importorskip("speechmos", reason='needs pip install "denoiser[metrics]"')
    rate, seconds = dnsmos.RATE, dnsmos.WINDOW / dnsmos.RATE
    voice, noise = make_voice(seconds, rate)[0], make_noise(seconds, rate)[0]
    waveforms = torch.stack([voice + gain * noise for gain in (0.5, 0.1)])[..., : dnsmos.WINDOW].clamp(-1, 1)
    rated = rating_network(torch.device("cpu"))(waveforms)
    for index, waveform in enumerate(waveforms):
        found = {name: float(values[index]) for name, values in rated.items()}
        assert found == pytest.approx(dnsmos.ratings(waveform), abs=1e-3)
    noisy, clean = spectra()
    loss = Dnsmos()
    assert 1 < float(loss(clean, clean, noisy)) < float(loss(noisy, clean, noisy)) < 4
    silent = Spectrum(noisy.spectral, linear=torch.zeros_like(clean.linear))
    assert float(loss(noisy, silent, noisy)) == 0
    short_noisy, short_clean = (spectrum.frames(slice(10, 13)) for spectrum in (noisy, clean))
    assert 0 < float(loss(short_noisy, short_clean, short_noisy)) < 4


def test_dnsmos_without_its_weights_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    rating_network.cache_clear()
    with pytest.raises(ConfigError, match=r'pip install "denoiser\[metrics\]"'):
        Dnsmos()
