from __future__ import annotations

import math

import pytest
import torch
from conftest import SHARED, make_noise, make_voice, needs_recordings

from denoiser import audio, metrics, report
from denoiser.errors import ConfigError

pytest.importorskip("pesq")
pytest.importorskip("pystoi")


@needs_recordings
def test_the_untouched_noisy_test_files_score_what_is_known():
    rows = []
    corpus = SHARED / "vctk_demand_mini"
    for path in sorted((corpus / "noisy_testset_wav").glob("*.wav")):
        noisy, clean = (
            audio.resample(audio.read(p)[0][0], 48_000, 16_000)
            for p in (path, corpus / "clean_testset_wav" / path.name)
        )
        rows.append(metrics.score(clean, noisy, 16_000))
    mean = metrics.mean(rows)
    assert len(rows) == 24
    assert mean["pesq"] == pytest.approx(1.66, abs=0.02)
    assert mean["stoi"] == pytest.approx(0.876, abs=0.002)
    assert mean["si_sdr"] == pytest.approx(4.55, abs=0.05)


def test_clean_against_clean_is_the_maximum():
    voice = make_voice(2.0, 16_000)[0]
    best = metrics.score(voice, voice, 16_000)
    worse = metrics.score(voice, voice + 0.3 * make_noise(2.0, 16_000)[0], 16_000)
    assert best["pesq"] == pytest.approx(4.64, abs=0.01)
    assert best["stoi"] == pytest.approx(1.0, abs=1e-3)
    assert all(best[name] > worse[name] for name in best)


def test_si_sdr_does_not_hear_loudness():
    voice, noise = make_voice(1.0, 16_000)[0], make_noise(1.0, 16_000)[0]
    loud, quiet = (metrics.si_sdr(voice, gain * (voice + noise), 16_000) for gain in (1.0, 0.01))
    assert loud == pytest.approx(quiet, abs=1e-3)
    expected = 10 * math.log10(voice.square().sum() / noise.square().sum())
    assert loud == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("samples", [100, 16_000])
def test_silence_is_not_defined_and_does_not_stop_a_run(samples):
    silent = metrics.score(torch.zeros(samples), torch.zeros(samples), 16_000)
    assert all(math.isnan(value) for value in silent.values())
    mean = metrics.mean([silent, {"pesq": 2.0, "stoi": 0.5, "si_sdr": 3.0}])
    assert mean == {"pesq": 2.0, "stoi": 0.5, "si_sdr": 3.0}


def test_other_rates_are_scored():
    voice = make_voice(2.0, 48_000)[0]
    assert metrics.score(voice, voice, 48_000)["pesq"] == pytest.approx(4.64, abs=0.01)
    telephone = make_voice(2.0, 8_000)[0]
    assert metrics.score(telephone, telephone, 8_000)["pesq"] > 4.4


def test_unknown_metrics_are_refused():
    with pytest.raises(ConfigError, match="loudness"):
        metrics.check_names(["pesq", "loudness"])


def test_scores_are_written_with_what_was_left_out(tmp_path):
    rows = [
        {"name": "a", "noisy": {"pesq": 1.0, "si_sdr": 2.0}, "enhanced": {"pesq": 2.0, "si_sdr": 8.0}},
        {"name": "b", "noisy": {"pesq": 3.0, "si_sdr": 4.0}, "enhanced": {"pesq": math.nan, "si_sdr": 6.0}},
    ]
    summary = report.write_scores(rows, tmp_path, seed=3)
    assert summary["noisy"] == {"pesq": 1.0, "si_sdr": 3.0}  # b counts on neither side for PESQ
    assert summary["enhanced"] == {"pesq": 2.0, "si_sdr": 7.0}
    assert summary["undefined"] == {"pesq": 1}
    assert (tmp_path / "scores.csv").read_text().splitlines()[0] == (
        "name,noisy_pesq,noisy_si_sdr,enhanced_pesq,enhanced_si_sdr"
    )
    text = report.scores_table(summary)
    assert "+4.00" in text
    assert "PESQ: not defined for 1 of 2 files" in text
