"""Resampling: length, time, blocks."""

import math

import pytest
import torch
import torchaudio

from conftest import make_noise
from denoiser.audio.blocks import resampling
from denoiser.audio.resampling import ratio, resample
from denoiser.errors import AudioError

RATES = [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (44_101, 16_000), (16_000, 44_100), (192_000, 16_000)]


@pytest.mark.parametrize(("source", "target"), RATES)
def test_the_filter_is_that_of_torchaudio(source, target):
    noise, (old, new) = make_noise(0.3, source).double(), ratio(source, target)
    expected = torchaudio.functional.resample(noise, old, new, lowpass_filter_width=16)
    assert torch.allclose(resample(noise, source, target), expected, atol=1e-9)
    assert torch.allclose(resample(noise.float(), source, target).double(), expected, atol=1e-6)


def test_ratios_are_exact_or_near_and_the_way_back_is_their_inverse():
    assert ratio(48_000, 16_000) == (3, 1)
    assert ratio(16_000, 44_100) == (160, 441)
    for source, target in [(44_101, 16_000), (44_100, 44_101), (47_990, 48_000), (11_127, 22_255), (192_307, 16_000)]:
        old, new = ratio(source, target)
        assert max(old, new) <= 1000
        assert abs(new * source / old / target - 1) < 1e-3
        assert ratio(target, source) == (new, old)
    with pytest.raises(AudioError, match="cannot resample from 16000000 to 8000 Hz"):
        ratio(16_000_000, 8_000)


def test_the_end_is_not_cut_where_rates_have_no_small_ratio():
    # The nearest is 1000 to 999, off by 4 in 10000: of ten seconds, the true rates would keep 180 samples too few.
    signal = torch.cat([torch.zeros(1, 480_000), torch.ones(1, 301)], dim=1)
    there = resample(signal, 48_030, 48_000)
    assert there.shape[-1] == math.ceil(480_301 * 999 / 1000)
    back = resample(there, 48_000, 48_030)[0, :480_301]
    assert torch.allclose(back[-200:-50], torch.ones(150), atol=0.02)


def test_lengths_beyond_2_to_the_24_are_exact():
    # 16800002 at the other rate, a number that float32 does not have.
    samples = 11_200_001
    tail = torch.rand(1, 1_001)
    signal = torch.cat([torch.zeros(1, samples - 1_001), tail], dim=1)
    out = resample(signal, 16_000, 24_000)
    assert out.shape[-1] == 16_800_002
    assert torch.allclose(out[0, -100:], resample(tail, 16_000, 24_000)[0, -100:], atol=1e-6)


@pytest.mark.parametrize(("source", "target"), RATES)
def test_blocks_with_their_reach_make_the_whole(source, target):
    (old, _), signal = ratio(source, target), make_noise(0.5, source)
    whole = resample(signal, source, target)
    blocks = resampling(source, target, 7 * old / source)
    parts = [*blocks.push(signal), *blocks.flush()]
    assert len(parts) > 1
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-6)


def test_filters_made_in_inference_can_be_trained_through():
    # A ratio of no other test, whose filters are not made yet.
    with torch.inference_mode():
        resample(torch.ones(1, 100), 7_000, 16_000)
    signal = torch.ones(1, 100, requires_grad=True)
    resample(signal, 7_000, 16_000).sum().backward()
    assert signal.grad is not None
