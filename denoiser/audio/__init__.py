"""Sound files: probe, read, write, resample, list. The only place that knows formats.

Waveforms are float32 ``[C, N]`` (channels, samples) with full scale at ±1.
"""

from denoiser.audio.formats import Info, list_files, list_others, output_suffix
from denoiser.audio.reader import Reader, probe, read
from denoiser.audio.resampling import resample
from denoiser.audio.writer import Writer, mp3, write

__all__ = [
    "Info", "Reader", "Writer", "list_files", "list_others", "mp3", "output_suffix", "probe", "read", "resample",
    "write",
]  # fmt: skip
