import pytest
import torch

from denoiser import Denoiser, audio
from denoiser.inference.level import RunningLevel, RunningOffset, measure_level
from denoiser.spectral import Spectral
from untrained import noisy_voice, streamed


def test_the_level_of_a_recording_in_pieces_is_that_of_the_whole(denoiser):
    noisy = noisy_voice(2.0, 16_000, channels=2) * torch.tensor([[1.0], [0.01]]) + 0.3
    running = RunningLevel()
    for piece in noisy.split(777, dim=-1):
        running.add(piece)
    measured = measure_level(lambda: noisy.split(5_000, dim=-1), 16_000, 16_000)
    for level in (running.level, measured, denoiser.level(noisy.numpy(), 16_000)):
        assert torch.allclose(level.rms, Spectral.level(noisy), rtol=1e-5)
        assert torch.allclose(level.mean, noisy.mean(-1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_at_another_rate_the_level_is_that_of_the_resampled_recording_without_its_offset(rate):
    noisy = noisy_voice(2.0, rate, channels=2)
    noisy = noisy - noisy.mean(-1, keepdim=True)
    level = measure_level(lambda: (noisy + 0.3).split(5_000, dim=-1), rate, 16_000)
    assert torch.allclose(level.rms, Spectral.level(audio.resample(noisy, rate, 16_000)), rtol=1e-4)
    assert torch.allclose(level.mean, torch.full((2, 1), 0.3), atol=1e-6)


def test_a_running_offset_is_the_mean_so_far_and_leaves_digital_silence_constant():
    noisy = noisy_voice(2.0, 16_000, channels=2) + torch.tensor([[0.3], [0.0]])
    silence = torch.full((2, 4_000), 0.1)
    sound = torch.cat([silence, noisy, silence], dim=-1)
    offset = RunningOffset()
    in_pieces = torch.cat([offset(piece) for piece in sound.split(77, dim=-1)], dim=-1)
    whole = RunningOffset()(sound)
    assert torch.allclose(in_pieces, whole, atol=1e-7)
    assert (whole[:, :4_000] == 0.1).all()
    assert torch.allclose(whole[:, -4_001], noisy.mean(-1), atol=1e-3)
    assert (whole[:, -3_999:] == whole[:, -3_999:-3_998]).all()


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_a_causal_stream_without_a_level_gives_what_the_whole_file_gives(offset):
    torch.manual_seed(0)
    net = {"name": "crn", "stem": 8, "widths": [4, 8], "hidden": 8, "head": {"name": "mask"}}
    causal = Denoiser.build(net, {"peak": 3.0, "level_seconds": 2.0}).eval()
    for rate in (16_000, 44_100):
        noisy = noisy_voice(1.5, rate) + offset
        assert (streamed(causal.stream(rate), noisy, 441) - causal.enhance(noisy, rate)).abs().max() < 1e-4
