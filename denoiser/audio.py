"""Sound files: probe, read, write, resample, list. The only file that knows formats.

Waveforms are float32 ``[C, N]`` (channels, samples) with full scale at ±1.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

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


TAGS = ("title", "artist", "album", "tracknumber", "date", "genre", "comment", "copyright", "license", "software")


@dataclass(frozen=True)
class Info:
    """What a header says. ``frames`` is the number of samples per channel, ``tags`` those of TAGS that are there."""

    path: Path
    sample_rate: int
    frames: int
    channels: int
    format: str
    subtype: str
    tags: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


class _File(soundfile.SoundFile):
    """A file read or written from start to end.

    Where a file is seekable, soundfile seeks after every block: some codecs (DWVW) cannot, and MP3 comes out
    different in the last bit.
    """

    def seekable(self) -> bool:
        return False


def _open(path: Path) -> _File:
    if not path.is_file():
        raise AudioError(f"{path}: no such file" if not path.exists() else f"{path}: not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty")
    try:
        file = _File(_name(path))
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        raise AudioError(f"{path}: not readable as audio ({_why(error)}); WAV, FLAC, OGG, MP3 and AIFF are") from error
    if not MIN_RATE <= (rate := file.samplerate) <= MAX_RATE:
        file.close()
        raise AudioError(f"{path}: sample rate {rate} Hz, expected {MIN_RATE} to {MAX_RATE}")
    return file


def _name(path: Path) -> str | bytes:
    """What libsndfile is to open: absolute, as "-" is its standard input, and bytes, as names need not be UTF-8."""
    name = str(path.absolute())
    return name if os.name == "nt" else os.fsencode(name)


def _why(error: Exception) -> str:
    return str(error).split(": ", 1)[-1].rstrip(".")


class Reader:
    """A sound file read block by block, from start to end::

        with Reader("talk.wav") as reader:
            while (block := reader.read(1 << 16)).shape[1]:
                ...

    ``info`` is what its header says. Raises AudioError where the file is missing, empty or not audio.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._file = file = _open(self._path)
        self._done = 0
        tags = {name: text for name in TAGS if (text := getattr(file, name))}
        frames = max(file.frames, 0)
        self.info = Info(self._path, file.samplerate, frames, file.channels, file.format, file.subtype, tags)

    def read(self, samples: int) -> Tensor:
        """The next ``[C, n]`` float32 samples, ``n <= samples``; ``n`` is 0 at the end.

        Raises AudioError where the file is damaged here, or holds NaN or infinity.
        """
        try:
            block = self._file.read(samples, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(f"{self._path}: damaged after {self._done} samples") from error
        waveform = torch.from_numpy(np.ascontiguousarray(block.T))
        if not torch.isfinite(waveform).all():
            raise AudioError(f"{self._path}: holds NaN or infinite samples")
        self._done += waveform.shape[1]
        return waveform

    def rewind(self) -> None:
        """Go back to the first sample."""
        self.close()
        self._file, self._done = _open(self._path), 0

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def probe(path: str | Path) -> Info:
    """Read a file's header. Raises AudioError where it is missing, empty or not audio."""
    with Reader(path) as reader:
        return reader.info


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole file as ``([C, N] float32, sample rate)``.

    Raises AudioError where the file cannot be decoded, holds no samples, or holds NaN or infinity.
    """
    blocks = []
    with Reader(path) as reader:
        step = max(1, _BLOCK // reader.info.channels)
        while (block := reader.read(step)).shape[1]:
            blocks.append(block)
    if not blocks:
        raise AudioError(f"{path}: holds no samples")
    return torch.cat(blocks, dim=1), reader.info.sample_rate


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


class Writer:
    """A sound file written block by block; it is there under its name only once all of it is on disk.

    ``format`` (``WAV``, ``FLAC``, ...) defaults to the one the extension names, ``subtype`` (``PCM_16``, ...) to that
    format's own default; a subtype the format does not have is replaced by it. ``tags`` are those of TAGS: a format
    leaves out what it cannot hold. Raises AudioError where the format cannot hold the sound or the file cannot
    be written; then, and where the block that writes fails, nothing new is left and an older file stays.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        *,
        format: str | None = None,
        subtype: str | None = None,
        tags: Mapping[str, str] | None = None,
        frames: int | None = None,
    ) -> None:
        self._path = Path(path)
        self._rate, self._channels = sample_rate, channels
        self._format = format or _format_of(self._path)
        if subtype is None or not soundfile.check_format(self._format, subtype):
            subtype = soundfile.default_subtype(self._format)
        self._subtype, self._tags = subtype, tags or {}
        self._stack = ExitStack()

    def __enter__(self) -> Writer:
        with self._explained(), ExitStack() as stack:
            if self._format == "OGG" and self._channels > 255:
                raise ValueError("at most 255 channels")  # libsndfile 1.2.2 crashes instead of saying so
            partial = stack.enter_context(replacing(self._path))
            file = _File(_name(partial), "w", self._rate, self._channels, self._subtype, format=self._format)
            self._file = stack.enter_context(file)
            for tag, text in self._tags.items():
                if tag in TAGS and text:
                    with suppress(soundfile.SoundFileError):
                        setattr(file, tag, text)
            self._stack = stack.pop_all()
        return self

    def write(self, block: Tensor) -> None:
        """Append ``[C, n]`` floats in ±1; values beyond are clipped where the subtype is not a floating one."""
        samples, step = block.detach().cpu().numpy().T, 1 << 16
        if self._subtype not in FLOATING:
            samples = np.clip(samples, -1.0, 1.0)
        with self._explained():
            for start in range(0, len(samples), step):  # minutes of Vorbis at once overflow libsndfile's stack
                self._file.write(samples[start : start + step])

    def __exit__(self, *error: Any) -> None:
        with self._explained(error[1]):
            self._stack.__exit__(*error)

    @contextmanager
    def _explained(self, cause: BaseException | None = None) -> Iterator[None]:
        try:
            yield
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            if error is cause:
                raise
            raise AudioError(
                f"{self._path}: cannot be written as {self._format} {self._subtype}, {self._rate} Hz, "
                f"{self._channels} channels ({_why(error)})"
            ) from error


def write(
    path: str | Path,
    waveform: Tensor,
    sample_rate: int,
    *,
    format: str | None = None,
    subtype: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write ``[C, N]`` floats in ±1 as one file; arguments and errors as of :class:`Writer`."""
    with Writer(path, sample_rate, waveform.shape[0], format=format, subtype=subtype, tags=tags) as writer:
        writer.write(waveform)


def _format_of(path: Path) -> str:
    name = path.suffix.lower().lstrip(".")
    name = {"aif": "aiff", "aifc": "aiff", "oga": "ogg", "opus": "ogg", "snd": "au"}.get(name, name).upper()
    if name not in soundfile.available_formats():
        raise AudioError(f"{path}: '{path.suffix}' names no format that can be written; try .wav or .flac")
    return name


def ratio(source: int, target: int) -> tuple[int, int]:
    low, high = sorted((source, target))
    r = Fraction(low, high).limit_denominator(1000)
    if r == 0:
        raise AudioError(f"cannot resample from {source} to {target} Hz")
    return (r.numerator, r.denominator) if source < target else (r.denominator, r.numerator)


def reach(source: int, target: int) -> int:
    old, new = ratio(source, target)
    return math.ceil(16 * old / (min(old, new) * 0.99)) + old


def resample(waveform: Tensor, source: int, target: int) -> Tensor:
    if source == target:
        return waveform
    old, new = ratio(source, target)
    out = _sinc_resample(waveform, old, new, lowpass_filter_width=16)
    return match_length(out, math.ceil(waveform.shape[-1] * new / old))


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
