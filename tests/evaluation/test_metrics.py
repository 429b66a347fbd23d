"""Metrics: known values, silence, long recordings."""

import math

import numpy as np
import pytest
import torch

from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.evaluation import composite, dnsmos, metrics
from denoiser.evaluation.metrics import METRICS
from denoiser.settings import mode_of

ALL = tuple(name for name in METRICS if name not in dnsmos.NAMES)
VOICE, NOISE = make_voice(2.0, 16_000)[0], make_noise(2.0, 16_000)[0]


@pytest.mark.parametrize(
    ("rate", "llr", "wss", "seg_snr"), [(8_000, 0.900916, 32.783167, 3.358081), (16_000, 1.398728, 22.902501, 3.240151)]
)
def test_the_parts_of_the_composites_are_those_of_another_program(rate, llr, wss, seg_snr):
    # sonusai 1.2.1, which is not installed here.
    voice = make_voice(2.0, rate)[0]
    clean, noisy = voice + 0.01 * make_noise(2.0, rate, 1)[0], voice + 0.3 * make_noise(2.0, rate, 2)[0]
    assert composite.llr(clean, noisy, rate) == pytest.approx(llr, rel=1e-5)
    assert composite.wss(clean, noisy, rate) == pytest.approx(wss, rel=1e-5)
    assert composite.seg_snr(clean, noisy, rate) == pytest.approx(seg_snr, rel=1e-5)


def test_lsd_of_a_gain_is_the_gain():
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    assert composite.lsd(noise, 2 * noise, 16_000) == pytest.approx(20 * math.log10(2), abs=0.05)
    # Its range is 50 dB.
    assert 30 < composite.lsd(noise, 1e-9 * noise, 16_000) < 50


def test_frames_do_not_depend_on_the_block_they_are_computed_in(monkeypatch):
    measures = (composite.llr, composite.wss, composite.seg_snr, composite.lsd)
    whole = [measure(VOICE + 0.01 * NOISE, VOICE + NOISE, 16_000) for measure in measures]
    monkeypatch.setattr(composite, "BLOCK", 7)
    assert [measure(VOICE + 0.01 * NOISE, VOICE + NOISE, 16_000) for measure in measures] == pytest.approx(whole)


def test_a_composite_is_its_formula_within_its_range():
    found = metrics.score(VOICE, VOICE + 0.1 * NOISE, 16_000, ALL)
    pesq, llr, wss, snr = (found[name] for name in ("pesq", "llr", "wss", "seg_snr"))
    assert found["csig"] == pytest.approx(max(1, 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss))
    assert found["cbak"] == pytest.approx(1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * snr)
    assert found["covl"] == pytest.approx(max(1, 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss))
    assert metrics.score(NOISE + VOICE, NOISE + VOICE, 16_000, ["csig", "covl"]) == {"csig": 5, "covl": 5}
    assert metrics.score(VOICE, 30 * NOISE, 16_000, ["csig", "covl"]) == {"csig": 1, "covl": 1}


def test_clean_against_clean_is_the_best_of_each():
    # The noise of a room fills the pauses: see the next test.
    clean = VOICE + 1e-3 * make_noise(2.0, 16_000, 1)[0]
    best = metrics.score(clean, clean, 16_000, ALL)
    worse = metrics.score(clean, clean + 0.3 * NOISE, 16_000, ALL)
    known = {"pesq": 4.64, "pesq_nb": 4.55, "stoi": 1, "estoi": 1, "si_sdr": 100, "seg_snr": 35, "csig": 5, "cbak": 5,
             "covl": 5, "llr": 0, "wss": 0, "lsd": 0}  # fmt: skip
    assert best == pytest.approx(known, abs=0.01)
    for name, value in worse.items():
        assert (best[name] > value) == (mode_of(name) == "max"), name


def test_a_pause_of_digital_silence_counts_as_its_authors_count_it():
    voice = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * (torch.arange(16_000) < 8_000)
    assert metrics.score(voice, voice, 16_000, ["seg_snr", "llr"]) == {"seg_snr": pytest.approx(12.5, abs=1), "llr": 0}


def test_si_sdr_is_that_of_torchmetrics_and_ignores_loudness():
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

    expected = float(scale_invariant_signal_distortion_ratio((VOICE + NOISE).double(), VOICE.double()))
    for gain in (1.0, -1.0, 1e-2, 1e-12, 1e9):
        assert metrics.si_sdr(VOICE, gain * (VOICE + NOISE), 16_000) == pytest.approx(expected, abs=1e-3)
        assert metrics.si_sdr(gain * VOICE, VOICE + NOISE, 16_000) == pytest.approx(expected, abs=1e-3)
    # Not infinite, which would make every mean infinite.
    assert metrics.si_sdr(VOICE, 0.5 * VOICE, 16_000) == 100
    assert metrics.si_sdr(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 16_000) == -100


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_silent_estimate_of_speech_counts_as_the_worst(rate):
    voice, silence = make_voice(2.0, rate)[0], torch.zeros(2 * rate)
    found = metrics.score(voice, silence, rate, ALL)
    lowest = {"si_sdr": -100, "pesq": 0.999, "pesq_nb": 0.999, "csig": 1, "covl": 1}
    assert {name: found[name] for name in lowest} == pytest.approx(lowest)
    assert not any(map(math.isnan, found.values()))
    # Here it is the clean recording that defines nothing.
    assert all(math.isnan(value) for value in metrics.score(silence, voice, rate, ALL).values())
    assert math.isnan(metrics.score(voice[: rate // 10], silence[: rate // 10], rate)["pesq"])


@pytest.mark.parametrize("samples", [1, 3_000, 16_000])
def test_silence_and_scraps_do_not_stop_a_run(samples):
    silence, noise = torch.zeros(samples), torch.randn(samples, generator=torch.Generator().manual_seed(0))
    assert all(math.isnan(value) for value in metrics.score(silence, noise, 16_000, ALL).values())
    for estimate in (silence, noise, 1e-20 * noise, torch.full_like(noise, 1e9)):
        for rate in (8_000, 44_100):
            found = metrics.score(noise, estimate, rate, ALL)
            assert set(found) == set(ALL)
            assert not any(map(math.isinf, found.values()))
    broken = noise.clone()
    broken[0] = math.nan
    assert metrics.score(noise, broken, 16_000) == pytest.approx(
        metrics.score(noise, torch.zeros_like(noise), 16_000), nan_ok=True
    )
    assert metrics.score(noise, broken, 16_000)["si_sdr"] == -metrics.LIMIT


def test_a_mean_leaves_out_undefined_values_and_ignores_order():
    rows = [{"pesq": value} for value in (0.1, 2.7, 1e-9, 3.3, math.nan, 1.4)]
    assert metrics.mean(rows) == metrics.mean(rows[::-1])
    assert metrics.mean(rows)["pesq"] == pytest.approx(1.5, abs=1e-6)
    assert math.isnan(metrics.mean(rows[4:5])["pesq"])


def test_other_rates_are_scored():
    voice = make_voice(2.0, 48_000)[0]
    telephone = make_voice(2.0, 8_000)[0]
    assert metrics.score(telephone, telephone, 8_000)["pesq"] > 4.4
    noisy = voice + 0.05 * make_noise(2.0, 48_000)[0]
    at_16k = [audio.resample(w, 48_000, 16_000) for w in (voice, noisy)]
    names = ["pesq", "csig", "cbak", "covl", "seg_snr"]
    assert metrics.score(voice, noisy, 48_000, names) == metrics.score(*at_16k, 16_000, names)


def test_a_long_recording_scores_as_its_pieces_do():
    # 80 bursts with pauses: as a whole, the package writes beyond a table of 50, and the process ends without a word.
    clean = make_noise(48.0, 16_000)[0] * (torch.arange(80 * 9_600) % 9_600 < 4_800)
    noisy, names = clean + 0.05 * make_noise(48.0, 16_000, 1)[0], ["pesq", "pesq_nb"]
    thirds = zip(clean.split(16 * 16_000), noisy.split(16 * 16_000), strict=True)
    expected = metrics.mean([metrics.score(x, y, 16_000, names) for x, y in thirds])
    assert metrics.score(clean, noisy, 16_000, names) == pytest.approx(expected)
    assert 1 < expected["pesq"] < expected["pesq_nb"] < 4.5


def test_estoi_gives_the_same_twice_and_leaves_the_generator_of_others_alone():
    # Its second half is digital silence, which the metric fills with noise.
    estimate = VOICE * (torch.arange(len(VOICE)) < 16_000)
    np.random.seed(7)
    first = metrics.stoi(VOICE, estimate, 16_000, extended=True)
    drawn = np.random.standard_normal()
    assert metrics.stoi(VOICE, estimate, 16_000, extended=True) == first
    np.random.seed(7)
    assert np.random.standard_normal() == drawn
