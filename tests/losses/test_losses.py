from __future__ import annotations

import pytest
import torch
from conftest import make_noise, make_voice

from denoiser import losses
from denoiser.errors import ConfigError
from denoiser.evaluation import metrics
from denoiser.losses import LOSSES
from denoiser.spectral import Spectral, Spectrum

SUM = {"terms": {"compressed": {"weight": 0.5}, "mrstft": {"weight": 2.0, "windows": [256]}}}


def spectra() -> tuple[Spectrum, Spectrum]:
    clean = make_voice(0.5, 16_000)
    noisy = clean + make_noise(0.5, 16_000)
    spectral, level = Spectral(peak=20.0), Spectral.level(noisy)
    return spectral(noisy, level, center=False), spectral(clean, level, center=False)


@pytest.mark.parametrize("name", LOSSES)
def test_the_truth_is_the_minimum_and_nearer_is_less(name):
    noisy, clean = spectra()
    loss = losses.build(name, **(SUM if name == "sum" else {}))
    between = Spectrum(noisy.spectral, linear=(noisy.linear + clean.linear) / 2)
    values = [float(loss(estimate, clean, noisy)) for estimate in (clean, between, noisy)]
    assert values[0] < values[1] < values[2]
    if name != "si_sdr":
        assert values[0] == pytest.approx(0, abs=1e-5)


def test_magnitude_losses_do_not_see_the_phase_and_complex_ones_do():
    noisy, clean = spectra()
    turned = Spectrum(clean.spectral, magnitude=clean.magnitude, phase=noisy)
    seen = {name for name in LOSSES if name != "sum" and float(losses.build(name)(turned, clean, noisy)) > 1e-4}
    assert seen >= {"compressed", "mrstft"}
    assert not seen & {"huber", "l1", "mse"}


def test_si_sdr_is_that_of_the_metric():
    noisy, clean = spectra()
    x, s = noisy.waveform - noisy.waveform.mean(), clean.waveform - clean.waveform.mean()
    target = (x * s).sum() / s.square().sum() * s
    expected = -torch.log10(target.square().sum() / (x - target).square().sum())
    assert float(losses.build("si_sdr")(noisy, clean, noisy)) == pytest.approx(float(expected), abs=1e-4)


def test_a_sum_is_the_weighted_sum():
    noisy, clean = spectra()
    parts = losses.build("compressed"), losses.build("mrstft", windows=[256])
    expected = 0.5 * parts[0](noisy, clean, noisy) + 2 * parts[1](noisy, clean, noisy)
    assert float(losses.build("sum", **SUM)(noisy, clean, noisy)) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"compressed": 0.5}, r"loss.terms.compressed=0.5: expected its settings, as \{weight: 0.5\}"),
        ({"compressed": {"weight": 0}}, "no term has a weight; there are: compressed"),
        ({}, "no term has a weight; there are: none"),
        ({"compressed": None}, "no term has a weight; there are: compressed"),
    ],
)
def test_a_sum_of_nothing_is_one_line(terms, message):
    with pytest.raises(ConfigError, match=message):
        losses.build("sum", terms=terms)


def test_a_term_that_is_none_is_left_out():
    noisy, clean = spectra()
    left = losses.build("sum", terms={"compressed": {"weight": 2}, "mrstft": None})(noisy, clean, noisy)
    assert float(left) == pytest.approx(2 * float(losses.build("compressed")(noisy, clean, noisy)))


def test_a_weight_of_nought_leaves_a_term_out():
    noisy, clean = spectra()
    whole = losses.build("compressed")(noisy, clean, noisy)
    weights = {"magnitude": 1.0, "complex": 0.3, "consistency": 0.3, "waveform": 0.05}
    alone = [
        losses.build("compressed", **{**dict.fromkeys(weights, 0), n: w})(noisy, clean, noisy)
        for n, w in weights.items()
    ]
    assert float(whole) == pytest.approx(float(sum(alone)))
    with pytest.raises(ConfigError, match="one above 0"):
        losses.build("compressed", **dict.fromkeys(weights, 0))


def test_pmsqe_ranks_as_pesq_does():
    voice, rate = make_voice(3.0, 16_000), 16_000
    noise = make_noise(3.0, rate) * voice.norm() / make_noise(3.0, rate).norm()
    spectral, loss = Spectral(peak=20.0), losses.build("pmsqe")
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
    loss = losses.build("pmsqe")
    assert float(loss(more, clean, noisy)) > float(loss(less, clean, noisy)) > 0.01


@pytest.mark.parametrize("name", ["compressed", "mrstft", "pmsqe", "si_sdr"])
def test_silence_has_a_finite_gradient(name):
    noisy, clean = spectra()
    spectral = noisy.spectral
    silent = Spectrum(spectral, linear=torch.zeros_like(clean.linear))
    magnitude = torch.full_like(noisy.magnitude, -1.0, requires_grad=True)
    for target in (clean, silent):
        losses.build(name)(Spectrum(spectral, magnitude=magnitude, phase=noisy), target, noisy).backward()
        assert torch.isfinite(magnitude.grad).all()
