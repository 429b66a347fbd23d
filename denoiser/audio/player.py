"""Sound for a browser's player: MP3 in memory."""

from __future__ import annotations

import io

import soundfile
from torch import Tensor

from denoiser.audio.resampling import resample
from denoiser.errors import AudioError

# Of the nine rates that MP3 knows, up to 48 kHz, those from the common model's on.
_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def mp3(waveform: Tensor, sample_rate: int) -> bytes:
    """``[C, N]`` in ±1 as MP3: its first two channels, at its rate or one that MP3 knows.

    Raises AudioError where libsndfile has no encoder.
    """
    target = sample_rate if sample_rate in _RATES else 48_000 if sample_rate > 48_000 else 16_000
    samples = resample(waveform[:2], sample_rate, target).clamp(-1, 1).numpy().T
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, target, format="MP3")
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(
            f"the players of report=true need an MP3 encoder, which libsndfile lacks here: {error}"
        ) from error
    return buffer.getvalue()
