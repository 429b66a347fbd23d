"""DNSMOS: the ratings of the package that brings the network, at any length and level."""

import csv
import math

import pytest
import torch

from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.evaluation import dnsmos, metrics
from denoiser.evaluation.files import Triple, score_files
from untrained import infer, write_voices

pytest.importorskip("speechmos", reason='needs pip install "denoiser[metrics]"')


def noisy_voice(seconds: float) -> torch.Tensor:
    return (make_voice(seconds, 16_000)[0] + 0.3 * make_noise(seconds, 16_000)[0]).clamp(-1, 1)


@pytest.fixture
def one_window(monkeypatch):
    """Rate a single window of a recording, as each takes half a second."""
    monkeypatch.setattr(dnsmos, "MAX_WINDOWS", 1)


# A clip that is repeated often, one that is repeated until it holds two windows, and one that needs no repetition.
@pytest.mark.parametrize(
    ("seconds", "sig", "bak", "ovrl"),
    [(0.6, 3.23355, 2.36436, 2.17433), (2.8, 3.26869, 1.92500, 1.98757), (11.3, 3.28028, 1.93878, 2.02356)],
)
def test_ratings_are_those_of_the_function_in_the_package(seconds, sig, bak, ovrl):
    # dnsmos.run() of speechmos 0.0.1.1 with librosa, which is not installed here.
    expected = {"dnsmos_sig": sig, "dnsmos_bak": bak, "dnsmos_ovrl": ovrl}
    assert dnsmos.ratings(noisy_voice(seconds)) == pytest.approx(expected, abs=1e-3)


def test_silence_a_single_sample_and_overload_are_rated_and_nothing_is_not(one_window):
    for waveform in (torch.zeros(16_000), torch.ones(1), 100 * make_noise(1.0, 16_000)[0]):
        assert all(0.5 < value < 5 for value in dnsmos.ratings(waveform).values())
    assert all(math.isnan(value) for value in dnsmos.ratings(torch.zeros(0)).values())


def test_a_long_recording_is_rated_in_windows_from_its_beginning_to_its_end(monkeypatch):
    voice, noise = make_voice(9.01, 16_000)[0], make_noise(9.01, 16_000)[0]
    first, last = dnsmos.ratings(voice), dnsmos.ratings(noise)
    monkeypatch.setattr(dnsmos, "MAX_WINDOWS", 2)
    whole = dnsmos.ratings(torch.cat([voice, noise]))
    assert whole == pytest.approx({name: (first[name] + last[name]) / 2 for name in first}, abs=1e-3)


def test_a_rating_needs_no_clean_recording_and_is_the_same_at_any_rate(one_window):
    noisy = noisy_voice(2.0)
    expected = metrics.score(torch.zeros(32_000), noisy, 16_000, dnsmos.NAMES)
    raised = audio.resample(noisy, 16_000, 48_000)
    assert metrics.score(None, raised, 48_000, dnsmos.NAMES) == pytest.approx(expected, abs=0.02)
    assert math.isnan(metrics.score(None, noisy, 16_000, ["pesq"])["pesq"])
    assert metrics.score(noisy, noisy, 16_000, ["si_sdr", *dnsmos.NAMES]) == {"si_sdr": 100, **expected}


def test_files_without_reference_are_rated_alone_channel_by_channel(tmp_path, one_window):
    left, right = noisy_voice(1.0), make_noise(1.0, 16_000)[0]
    audio.write(tmp_path / "noisy.wav", torch.stack([left, right]), 16_000, subtype="FLOAT")
    # Compressed formats may add some samples at the ends.
    audio.write(tmp_path / "enhanced.wav", torch.zeros(2, 20_000), 16_000)
    (row,), problems = score_files([Triple("a", tmp_path / "noisy.wav", tmp_path / "enhanced.wav", None)],
                                   names=dnsmos.NAMES)  # fmt: skip
    channels = [metrics.score(None, x, 16_000, dnsmos.NAMES) for x in (left, right)]
    assert not problems
    assert row["noisy"] == pytest.approx(metrics.mean(channels))
    assert row["enhanced"] == pytest.approx(dnsmos.ratings(torch.zeros(20_000)), abs=1e-3)


def test_a_report_without_reference_prints_and_writes_the_ratings_of_each_file(checkpoint, here, capsys, one_window):
    write_voices("talk.wav", "more.wav")
    infer(f"ckpt={checkpoint}", "talk.wav", "more.wav", "output=out/", "report=true")
    out = capsys.readouterr().out
    with open("out/scores.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [row["name"] for row in rows] == ["talk", "more"]
    for row in rows:
        cells = [f"{float(row[f'noisy_{name}']):.2f} -> {float(row[f'enhanced_{name}']):.2f}" for name in dnsmos.NAMES]
        assert f"| {row['name']} | {' | '.join(cells)} |" in " ".join(out.split())
    page = (here / "out/report.html").read_text(encoding="utf-8")
    assert "OVRL" in page
    assert f"{float(rows[0]['noisy_dnsmos_bak']):.2f} → {float(rows[0]['enhanced_dnsmos_bak']):.2f}" in page
