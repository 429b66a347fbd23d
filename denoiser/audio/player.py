"""Sound for the players of a web page: MP3 in memory."""

from __future__ import annotations

import io

import soundfile
from torch import Tensor

from denoiser.audio.resampling import resample
from denoiser.errors import AudioError

# Hz. MP3 knows lower rates too, but they sound muffled.
_RATES = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def mp3(waveform: Tensor, sample_rate: int) -> bytes:
    """Encode the first two channels of ``[C, N]`` in ±1 as MP3, at the same rate or one that MP3 knows.

    Raises AudioError if this libsndfile has no encoder.
    """
    target = sample_rate
    if sample_rate not in _RATES:
        target = 48_000 if sample_rate > 48_000 else 16_000
    samples = resample(waveform[:2], sample_rate, target).clamp(-1, 1).numpy().T
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, target, format="MP3")
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(f"players need an MP3 encoder, which libsndfile lacks here: {error}") from error
    return buffer.getvalue()
