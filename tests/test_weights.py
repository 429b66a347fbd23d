"""The weights that come with the package."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from conftest import ROOT, SHARED, make_noise, make_voice, needs_recordings

from denoiser import Denoiser, audio
from denoiser.checkpoint import SHIPPED, WEIGHTS
from denoiser.evaluation import metrics

RATE = 16_000


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request) -> Denoiser:
    return Denoiser.from_checkpoint(request.param, "cpu")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_small_and_have_a_card(name):
    assert (WEIGHTS / f"{name}.ckpt").stat().st_size < 10e6
    card = (WEIGHTS / f"{name}.md").read_text()
    assert "CC BY 4.0" in card
    assert f"experiment={name}" in card


def test_silence_stays_silence(shipped):
    assert not shipped.enhance(torch.zeros(1, 3 * RATE), RATE).any()


def test_a_voice_15_db_louder_or_softer_comes_out_the_same(shipped):
    noisy = make_voice(2, RATE) + 0.5 * make_noise(2, RATE)
    enhanced = shipped.enhance(noisy, RATE)
    for gain in (0.18, 5.6):  # bfloat16, where there is some, rounds each anew
        assert torch.allclose(shipped.enhance(gain * noisy, RATE) / gain, enhanced, atol=1e-3)


@pytest.mark.parametrize("name", SHIPPED)
def test_bfloat16_changes_the_sound_by_a_thousandth_of_it(name):
    narrow, exact = (Denoiser.from_checkpoint(name, "cpu", precision) for precision in ("bf16", "32"))
    noisy = make_voice(4, RATE) + 0.1 * make_noise(4, RATE)
    difference = narrow.enhance(noisy, RATE) - (enhanced := exact.enhance(noisy, RATE))
    assert 1e-5 < float(difference.norm() / enhanced.norm()) < 2e-3
    assert float(difference.abs().max()) < 2e-3 * float(enhanced.abs().max())


@pytest.mark.parametrize("name", SHIPPED)
def test_bfloat16_is_chosen_on_a_cpu_that_computes_it(name, monkeypatch):
    for there, expected in ((True, "bf16"), (False, "32")):
        monkeypatch.setattr("denoiser.inference.denoiser.cpu_has_bf16", lambda there=there: there)
        assert Denoiser.from_checkpoint(name, "cpu").precision == expected


def test_infer_needs_no_checkpoint(tmp_path):
    audio.write(tmp_path / "talk.wav", make_voice(1, RATE) + make_noise(1, RATE), RATE)
    command = [sys.executable, "infer.py", str(tmp_path / "talk.wav"), f"output={tmp_path / 'clean.wav'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert audio.probe(tmp_path / "clean.wav").frames == RATE


@needs_recordings
def test_recordings_come_out_better_and_clean_ones_stay_clean(shipped):
    gains, kept = [], []
    for path in sorted((SHARED / "pairs_16k/noisy").glob("*.wav")):
        (noisy, rate), (clean, _) = audio.read(path), audio.read(SHARED / "pairs_16k/clean" / path.name)
        before, after = (metrics.score(clean[0], x[0], rate) for x in (noisy, shipped.enhance(noisy, rate)))
        gains.append({metric: after[metric] - before[metric] for metric in before})
        kept.append(metrics.score(clean[0], shipped.enhance(clean, rate)[0], rate)["pesq"])
    mean = metrics.mean(gains)
    assert mean["pesq"] > 0.4
    assert mean["stoi"] > 0
    assert mean["si_sdr"] > 2
    assert sum(kept) / len(kept) > 4.2
