"""Sound files: probe, read, write, resample, list. The only file that knows formats.

Waveforms are float32 ``[C, N]`` (channels, samples) with full scale at ±1.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor
from torchaudio.functional import resample as _sinc_resample

from denoiser.errors import AudioError

EXTENSIONS = frozenset(
    f".{name}" for name in "wav flac ogg oga opus mp3 aiff aif aifc au snd caf w64 rf64 wve voc".split()
)
FLOATING = ("FLOAT", "DOUBLE")  # subtypes that hold values beyond full scale
MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; outside, a header is lying
_BLOCK = 1 << 22  # samples read at once: memory follows what a file holds, not what its header claims


@dataclass(frozen=True)
class Info:
    """What a header says. ``frames`` is the number of samples per channel."""

    path: Path
    sample_rate: int
    frames: int
    channels: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    if not path.is_file():
        raise AudioError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty")
    try:
        file = soundfile.SoundFile(str(path))
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        reason = str(error).split(": ", 1)[-1].rstrip(".")
        raise AudioError(f"{path}: not readable as audio ({reason}); WAV, FLAC, OGG, MP3 and AIFF are") from error
    with file:
        if not MIN_RATE <= file.samplerate <= MAX_RATE:
            raise AudioError(f"{path}: sample rate {file.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE}")
        yield file


def probe(path: str | Path) -> Info:
    """Read a file's header. Raises AudioError where it is missing, empty or not audio."""
    path = Path(path)
    with _open(path) as file:
        return Info(path, file.samplerate, max(file.frames, 0), file.channels, file.format, file.subtype)


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole file as ``([C, N] float32, sample rate)``.

    Raises AudioError where the file cannot be decoded, holds no samples, or holds NaN or infinity.
    """
    path = Path(path)
    blocks = []
    with _open(path) as file:
        rate, block = file.samplerate, max(1, _BLOCK // file.channels)
        try:
            while (samples := file.read(block, dtype="float32", always_2d=True)).shape[0]:
                blocks.append(torch.from_numpy(samples.T.copy()))
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(f"{path}: damaged after {sum(b.shape[1] for b in blocks)} samples") from error
    if not blocks:
        raise AudioError(f"{path}: holds no samples")
    waveform = torch.cat(blocks, dim=1)
    if not torch.isfinite(waveform).all():
        raise AudioError(f"{path}: holds NaN or infinite samples")
    return waveform, rate


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; it becomes ``path`` only once all of it is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        with open(partial, "rb") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write(
    path: str | Path,
    waveform: Tensor,
    sample_rate: int,
    *,
    format: str | None = None,
    subtype: str | None = None,
) -> None:
    """Write ``[C, N]`` floats in ±1; values beyond are clipped, as integers cannot hold them.

    ``format`` (``WAV``, ``FLAC``, ...) defaults to the one the extension names, ``subtype``
    (``PCM_16``, ...) to that format's own default; a subtype the format does not have is replaced by it.
    Raises AudioError where the format cannot hold the sound or the file cannot be written.
    """
    path = Path(path)
    format = format or _format_of(path)
    if subtype is None or not soundfile.check_format(format, subtype):
        subtype = soundfile.default_subtype(format)
    samples = waveform.detach().cpu().numpy().T
    if subtype not in FLOATING:
        samples = np.clip(samples, -1.0, 1.0)
    channels, step = waveform.shape[0], 1 << 16
    try:
        if format == "OGG" and channels > 255:
            raise ValueError("at most 255 channels")  # libsndfile 1.2.2 crashes instead of saying so
        with (
            replacing(path) as partial,
            soundfile.SoundFile(str(partial), "w", sample_rate, channels, subtype, format=format) as file,
        ):
            for start in range(0, len(samples), step):  # minutes of Vorbis at once overflow libsndfile's stack
                file.write(samples[start : start + step])
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        reason = str(error).split(": ", 1)[-1].rstrip(".")
        raise AudioError(
            f"{path}: cannot be written as {format} {subtype}, {sample_rate} Hz, {channels} channels ({reason})"
        ) from error


def _format_of(path: Path) -> str:
    name = path.suffix.lower().lstrip(".")
    name = {"aif": "aiff", "aifc": "aiff", "oga": "ogg", "opus": "ogg", "snd": "au"}.get(name, name).upper()
    if name not in soundfile.available_formats():
        raise AudioError(f"{path}: '{path.suffix}' names no format that can be written; try .wav or .flac")
    return name


def resample(waveform: Tensor, source: int, target: int) -> Tensor:
    """``[..., N]`` at ``source`` Hz to ``[..., ceil(N * target / source)]`` at ``target`` Hz, without delay.

    A windowed sinc (torchaudio's, Hann, 16 zero crossings). Rates without a small common ratio are
    matched to one part in a million, the same both ways, so that no filter grows out of memory.
    """
    if source == target:
        return waveform
    low, high = sorted((source, target))
    ratio = Fraction(low, high).limit_denominator(1000)
    if ratio == 0:
        raise AudioError(f"cannot resample from {source} to {target} Hz")
    old, new = ratio.denominator, ratio.numerator
    if target > source:
        old, new = new, old
    length = math.ceil(waveform.shape[-1] * target / source)
    out = _sinc_resample(waveform, old, new, lowpass_filter_width=16)
    return match_length(out, length)


def match_length(waveform: Tensor, length: int) -> Tensor:
    """Cut or zero-pad the end of ``[..., N]`` to ``[..., length]``."""
    if waveform.shape[-1] >= length:
        return waveform[..., :length]
    return torch.nn.functional.pad(waveform, (0, length - waveform.shape[-1]))


def is_junk(path: Path) -> bool:
    """True for what unpackers leave behind and hidden files: ``__MACOSX``, ``._name``, ``.name``."""
    return "__MACOSX" in path.parts or path.name.startswith(".")


def list_files(source: str | Path) -> list[Path]:
    """The sound files that a path, a folder (searched recursively) or a glob names, sorted.

    Raises AudioError where there is none.
    """
    path = Path(source)
    if path.is_dir():
        found = [p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and not is_junk(p.relative_to(path))]
        found = [p for p in found if p.is_file()]
        if not found:
            raise AudioError(f"{path}: no sound files in this folder")
        return sorted(found)
    if path.exists():
        return [path]
    matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
    found = sorted(p for p in matches if p.is_file() and not is_junk(p))
    if not found:
        raise AudioError(f"{source}: no such file or folder, and no file matches it as a pattern")
    return found
