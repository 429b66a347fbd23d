import math

import pyloudnorm
import pytest

from denoiser.audio.loudness import Meter
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
