"""Bands above 8 kHz: every rate, blocks and streams, and a recording at 16 kHz that is not brought to a higher one."""

import pytest
import torch

from denoiser import Denoiser
from untrained import centred, streamed

SPECTRAL = {"sample_rate": 48_000, "n_fft": 1530, "hop": 765, "peak": 5.0, "level_seconds": 0.1, "bands": 32}
UNET = {"name": "unet", "depth": 3, "width": 4, "head": {"name": "mask"}}


def build(model: dict, block_seconds: float) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser.build(model, SPECTRAL).eval()
    denoiser.block_seconds = block_seconds
    return denoiser


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("model", [UNET, {"name": "crn", "head": {"name": "filter"}}])
def test_blocks_and_streams_equal_the_whole_at_every_rate(rate, model):
    noisy = centred(2.3, rate, round(2.3 * rate), 2)
    denoiser = build(model, 1e9)
    whole = denoiser.enhance(noisy, rate)
    assert whole.shape == noisy.shape
    assert (whole - noisy).abs().max() > 1e-3
    assert torch.allclose(build(model, 0.4).enhance(noisy, rate), whole, atol=1e-4)
    stream = denoiser.stream(rate, denoiser.level(noisy, rate), block_seconds=0.3)
    assert torch.allclose(streamed(stream, noisy, rate // 7), whole, atol=1e-4)


def test_what_lies_above_8_khz_is_enhanced_by_gains_of_its_own():
    rate = 48_000
    denoiser = build(UNET, 1e9)
    torch.nn.init.zeros_(denoiser.net.head.weight)
    torch.nn.init.zeros_(denoiser.net.head.bias)
    kept = denoiser.enhance(torch.randn(1, rate), rate)
    with torch.no_grad():
        denoiser.head.limit = 1e-6
        silenced = denoiser.enhance(torch.randn(1, rate), rate)
    assert kept.square().mean() > 0.01
    assert silenced.abs().max() < 1e-3


def test_a_recording_at_16_khz_costs_no_resampling_and_sounds_as_at_48_khz():
    denoiser = build(UNET, 1e9)
    assert denoiser.at(16_000).sample_rate == 16_000
    assert denoiser.at(44_100) is denoiser
    time = torch.arange(48_000) / 48_000
    # Within 6 kHz, where resampling changes nothing.
    tones = sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (220, 700, 2_500, 5_000))[None]
    wide, same = denoiser.enhance(tones, 48_000), denoiser.enhance(tones[:, ::3].contiguous(), 16_000)
    middle = slice(2_000, 14_000)
    difference = (wide[:, ::3] - same)[:, middle]
    assert difference.square().mean() < 1e-3 * same[:, middle].square().mean()
