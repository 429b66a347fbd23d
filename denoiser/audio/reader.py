"""Sound files in."""

import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoiser.audio import ffmpeg, libsndfile
from denoiser.audio.formats import DEMUXERS, FORMATS
from denoiser.errors import AudioError

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; outside, a header is lying
LARGEST = 1e10  # beyond any full scale, that of 32 bit integers too: not sound, and its square would overflow
_STEP = 1 << 18  # samples of all channels decoded at once


@dataclass(frozen=True)
class Info:
    """The facts of a file's header.

    ``frames`` is the number of samples per channel, 0 if the header does not know it: MP3 without an index, streamed
    FLAC, everything that ffmpeg decodes. ``seconds`` is a guess then, or 0. ``format`` and ``subtype`` are libsndfile's
    names, or else ffmpeg's.
    """

    path: Path
    sample_rate: int
    frames: int
    channels: int
    format: str
    subtype: str
    tags: Mapping[str, str]
    seconds: float


class Reader:
    """A sound file read block by block, from start to end::

        with Reader("talk.wav") as reader:
            while (block := reader.read(1 << 16)).shape[1]:
                ...

    ``info`` holds the facts of its header. Raises AudioError if the file is missing, empty or not audio.
    """

    def __init__(self, path: str | Path) -> None:
        self._done, self._source = 0, _open(Path(path))
        source = self._source
        encoding = source.format, source.subtype
        self.info = Info(
            Path(path), source.samplerate, source.length, source.channels, *encoding, source.tags, source.seconds
        )

    def read(self, samples: int) -> Tensor:
        """Return the next ``[C, n]`` float32 samples, ``n <= samples``; ``n`` is 0 at the end.

        Raises AudioError if the file is damaged here, or holds NaN or infinity.
        """
        channels = self.info.channels
        blocks = [np.empty((0, channels), np.float32)]
        # Step by step: memory follows what a file holds, not what its header claims or a caller asks for.
        step = max(1, _STEP // channels)
        try:
            while samples > 0:
                block = self._source.block(min(samples, step))
                if not block.size:
                    break
                blocks.append(block)
                samples -= len(block)
        except libsndfile.ERRORS as error:
            why = libsndfile.reason(error)
            raise AudioError(f"{self.info.path}: damaged after {self._done} samples ({why})") from error
        waveform = torch.from_numpy(np.concatenate(blocks).T.copy())
        if waveform.numel():
            # Both are NaN if any sample is.
            least, most = torch.aminmax(waveform)
            if not (least >= -LARGEST and most <= LARGEST):
                raise AudioError(f"{self.info.path}: holds NaN, infinite or absurd samples (over {LARGEST:g})")
        self._done += waveform.shape[1]
        return waveform

    def rewind(self) -> None:
        """Go back to the first sample."""
        if self._done:
            self.close()
            self._source = _open(self.info.path)
            self._done = 0

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def probe(path: str | Path) -> Info:
    """Read a file's header. Raises AudioError if it is missing, empty or not audio."""
    with Reader(path) as reader:
        return reader.info


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole file as ``([C, N] float32, sample rate)``.

    Raises AudioError if the file cannot be decoded, holds no samples, or holds NaN or infinity.
    """
    with Reader(path) as reader:
        waveform = reader.read(sys.maxsize)
    if not waveform.shape[1]:
        raise AudioError(f"{path}: holds no samples")
    return waveform, reader.info.sample_rate


def _open(path: Path) -> libsndfile.Source | ffmpeg.Source:
    try:
        found = path.stat()
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        raise AudioError(f"{path}: {'no such file' if missing else error.strerror}") from error
    # A pipe or a device could keep us waiting for ever.
    if not stat.S_ISREG(found.st_mode):
        raise AudioError(f"{path}: not a file")
    if found.st_size == 0:
        raise AudioError(f"{path}: the file is empty")
    source = _decoder(path)
    if not MIN_RATE <= source.samplerate <= MAX_RATE:
        source.close()
        raise AudioError(f"{path}: sample rate {source.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE}")
    return source


def _decoder(path: Path) -> libsndfile.Source | ffmpeg.Source:
    """Open a file with libsndfile if that can decode it, else with ffmpeg if the extension is one of its own."""
    suffix = path.suffix.lower()
    try:
        source = libsndfile.Source(path)
    except libsndfile.ERRORS as error:
        if suffix in DEMUXERS:
            try:
                return ffmpeg.Source(path)
            except AudioError:
                if suffix not in FORMATS:
                    raise
        why = libsndfile.reason(error)
        raise AudioError(f"{path}: not readable as audio ({why}); WAV, FLAC, OGG, MP3 and AIFF are") from error
    if source.is_guessed and ffmpeg.is_installed():
        # libsndfile would stop at the guess: at a seventh of a variable bit rate that begins in silence.
        source.close()
        return ffmpeg.Source(path, "mp3")
    return source
