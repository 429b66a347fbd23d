"""Sound files: probe, read, write, resample, list. The only place that knows formats.

Waveforms are float32 ``[C, N]`` (channels, samples) with full scale at ±1.
"""

from denoiser.audio.formats import FLOATING, Info, list_files, output_suffix
from denoiser.audio.reader import Reader, peak, probe, read
from denoiser.audio.resampling import match_length, ratio, resample
from denoiser.audio.writer import Writer, mp3, write

__all__ = [
    "FLOATING",
    "Info",
    "Reader",
    "Writer",
    "list_files",
    "match_length",
    "mp3",
    "output_suffix",
    "peak",
    "probe",
    "ratio",
    "read",
    "resample",
    "write",
]
