import math

import pyloudnorm
import pytest
import torch

from denoiser.audio.loudness import Meter
from denoiser.errors import ConfigError
from untrained import noisy_voice


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("channels", [1, 5])
def test_loudness_measured_in_blocks_is_that_of_pyloudnorm(rate, channels):
    waveform = 0.3 * noisy_voice(3.0, rate, channels=channels)
    waveform[:, rate : 2 * rate] *= 0.01  # a pause, for the gate
    meter = Meter(rate, channels)
    for piece in waveform.split(rate // 3 + 7, dim=-1):
        meter.add(piece)
    assert abs(meter.loudness - pyloudnorm.Meter(rate).integrated_loudness(waveform.T.double().numpy())) < 0.02
    assert not math.isfinite(Meter(rate, channels).loudness)


def measured(waveform: torch.Tensor, mask: int | None = None) -> float:
    meter = Meter(16_000, len(waveform), mask)
    meter.add(waveform)
    return meter.loudness


@pytest.mark.parametrize("target", ["loud", math.nan, 3])
def test_a_loudness_that_is_none_is_refused(target):
    with pytest.raises(ConfigError, match=f"^loudness={target}: expected LUFS"):
        Meter(16_000, 1).gain(target)


@pytest.mark.parametrize("mask", [None, 0x3F, 0x60F])
def test_low_frequency_effects_do_not_count_and_surrounds_count_more(mask):
    waveform = noisy_voice(2.0, 16_000, channels=6)
    others = [0, 1, 2, 4, 5]
    # Five channels are the same without the effects.
    assert measured(waveform, mask) == pytest.approx(measured(waveform[others]))
    alone = [torch.zeros_like(waveform).index_fill(0, torch.tensor(c), 1.0) * waveform[:1] for c in range(6)]
    front, low, surround = (measured(alone[c], mask) for c in (0, 3, 5))
    assert low == -math.inf
    assert surround == pytest.approx(front + 1.5, abs=0.01)
    # Six microphones are no speakers.
    assert measured(alone[3], 0) == pytest.approx(front)
