"""The weights that come with the package."""

import pytest
import torch

from conftest import make_noise, make_voice, recording
from denoiser import Denoiser, audio
from denoiser.checkpoint import SHIPPED, WEIGHTS
from denoiser.errors import ConfigError
from denoiser.evaluation import metrics
from untrained import infer

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


def test_a_voice_15_db_louder_or_softer_comes_out_the_same(shipped):
    noisy = make_voice(2, RATE) + 0.5 * make_noise(2, RATE)
    enhanced = shipped.enhance(noisy, RATE)
    for gain in (0.18, 5.6):  # bfloat16, where there is some, rounds each anew
        assert torch.allclose(shipped.enhance(gain * noisy, RATE) / gain, enhanced, atol=1e-3)


@pytest.mark.parametrize("name", ["best", "small"])  # live runs in 32 bits
def test_bfloat16_changes_the_sound_by_a_thousandth_of_it(name):
    narrow, exact = (Denoiser.from_checkpoint(name, "cpu", precision) for precision in ("bf16", "32"))
    noisy = make_voice(4, RATE) + 0.1 * make_noise(4, RATE)
    difference = narrow.enhance(noisy, RATE) - (enhanced := exact.enhance(noisy, RATE))
    assert 1e-5 < float(difference.norm() / enhanced.norm()) < 2e-3
    assert float(difference.abs().max()) < 2e-3 * float(enhanced.abs().max())


def test_infer_needs_no_checkpoint(here):
    audio.write("talk.wav", make_voice(1, RATE) + make_noise(1, RATE), RATE)
    infer("talk.wav", "output=clean.wav")
    assert audio.probe("clean.wav").frames == RATE


def test_recordings_come_out_better_and_clean_ones_stay_clean(shipped):
    noise = recording("noise_boat")
    for name in ("voice_kathleen", "voice_lj"):
        clean = recording(name)
        noise_5_db_below = noise[:, : clean.shape[1]] * (clean.std() / noise.std()) * 10 ** (-5 / 20)
        noisy = clean + noise_5_db_below
        before = metrics.score(clean[0], noisy[0], RATE)
        after = metrics.score(clean[0], shipped.enhance(noisy, RATE)[0], RATE)
        # The first sounds are new to live.
        pesq, stoi, si_sdr, untouched = (0.2, 0.02, 0.3, 4.0) if shipped.causal else (0.3, 0.05, 5, 4.2)
        assert after["pesq"] - before["pesq"] > pesq
        assert after["stoi"] - before["stoi"] > stoi
        assert after["si_sdr"] - before["si_sdr"] > si_sdr
        assert metrics.score(clean[0], shipped.enhance(clean, RATE)[0], RATE)["pesq"] > untouched


def test_a_step_of_another_model_is_refused():
    pytest.importorskip("onnxruntime")
    model = {"name": "crn", "stem": 16, "widths": [4], "hidden": 8, "head": {"name": "mask"}}
    denoiser = Denoiser.build(model, {"peak": 5.0, "level_seconds": 2.0}).eval()
    denoiser.exported = WEIGHTS / "live.onnx"
    with pytest.raises(ConfigError, match=r"live.onnx: was exported with sample_rate=48000, and this model has 16000"):
        denoiser.stream(RATE)


def test_live_has_its_step_as_onnx_with_the_same_sound():
    pytest.importorskip("onnxruntime")
    live = Denoiser.from_checkpoint("live", "cpu", precision="32")
    assert live.exported == WEIGHTS / "live.onnx"
    # Weights of 16 bits take 2 bytes in it, too.
    parameters = sum(parameter.numel() for parameter in live.parameters())
    assert live.exported.stat().st_size < 3 * parameters
    noisy = audio.resample(make_voice(3, RATE) + 0.3 * make_noise(3, RATE), RATE, 48_000)
    parts = []
    for exported in (live.exported, None):
        live.exported = exported
        stream = live.stream(48_000)
        parts.append(torch.cat([stream.process(noisy), stream.flush()], dim=-1))
    assert float(parts[0].abs().max()) > 0.05
    assert torch.allclose(*parts, rtol=0, atol=1e-4)
