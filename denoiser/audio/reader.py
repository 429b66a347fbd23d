"""Sound files in."""

import stat
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from denoiser.audio import ffmpeg, libsndfile
from denoiser.audio.container import is_installed
from denoiser.audio.formats import DEMUXERS, FORMATS, Info
from denoiser.audio.signatures import SNDFILE, identify
from denoiser.errors import AudioError

MIN_RATE, MAX_RATE = 1_000, 768_000  # Hz; outside, a header is lying
LARGEST = 1e10  # beyond any full scale, that of 32 bit integers too: not sound, and its square would overflow
_STEP = 1 << 18  # samples of all channels decoded at once


class Reader:
    """A sound file read block by block, from start to end; ``info`` holds the facts of its header.

    ``track`` chooses one of several sound tracks, counted from 1, by default that which the file calls its default.

    Raises AudioError if the file is missing, empty or not audio, or has no such track.
    """

    def __init__(self, path: str | Path, track: int | None = None) -> None:
        self._track = track
        self._source = _open(Path(path), track)
        self._done = 0
        self._is_at_end = False
        self.failure: AudioError | None = None  # of the end of a file that is cut off
        self.info = self._source.info

    def read(self, samples: int) -> Tensor:
        """Return the next ``[C, n]`` float32 samples, ``n <= samples``; ``n`` is 0 at the end.

        Raises AudioError if the file is damaged here, or holds NaN or infinity.
        """
        blocks = [np.empty((0, self.info.channels), np.float32)]
        # Step by step: memory follows what a file holds, not what its header claims or a caller asks for.
        step = max(1, _STEP // self.info.channels)
        try:
            while samples > 0 and not self._is_at_end:
                block = self._source.block(min(samples, step))
                if not block.size:
                    self._is_at_end = True
                blocks.append(block)
                samples -= len(block)
        except libsndfile.ERRORS as error:
            why = libsndfile.reason(error)
            came = self._done + sum(map(len, blocks))
            self.failure = AudioError(f"{self.info.path}: damaged after {came} samples ({why})")
            is_cut = isinstance(self._source, libsndfile.Source) and self._source.is_used_up
            if not came or not is_cut:
                raise self.failure from error
            self._is_at_end = True
            blocks.append(libsndfile.last_samples(self.info.path, came))
        waveform = torch.from_numpy(np.concatenate(blocks).T.copy())
        if not peak(waveform) <= LARGEST:
            raise AudioError(f"{self.info.path}: holds NaN, infinite or absurd samples (over {LARGEST:g})")
        self._done += waveform.shape[1]
        return waveform

    @property
    def notes(self) -> list[str]:
        """Sentences on what is wrong with the file though it can be read; all of them once its end is reached."""
        missing = self._source.promised - self._done / self.info.sample_rate
        is_short = self._is_at_end and missing >= libsndfile.LEAST_MISSING
        return [*self.info.notes, *([libsndfile.cut_off(missing)] if is_short else self._source.notes)]

    def rewind(self) -> None:
        if self._done:
            self.close()
            self._source = _open(self.info.path, self._track)
            self._done = 0
            self._is_at_end = False

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def peak(samples: Tensor) -> float:
    """Return the largest magnitude of these samples: NaN if any of them is, 0 if there are none."""
    if not samples.numel():
        return 0.0
    # One pass, without a copy; both ends are NaN if any sample is.
    least, most = torch.aminmax(samples)
    return max(-float(least), float(most))


def probe(path: str | Path) -> Info:
    """Read a file's header. Raises AudioError if it is missing, empty or not audio."""
    with Reader(path) as reader:
        return reader.info


def read(path: str | Path) -> tuple[Tensor, int]:
    """Read a whole file as ``([C, N] float32, sample rate)``; AudioError as of Reader, and for a damaged file."""
    with Reader(path) as reader:
        waveform = reader.read(sys.maxsize)
        if reader.failure:
            raise reader.failure
    if not waveform.shape[1]:
        raise AudioError(f"{path}: holds no samples")
    return waveform, reader.info.sample_rate


def _open(path: Path, track: int | None) -> libsndfile.Source | ffmpeg.Source:
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
    try:
        source = _decoder(path, track)
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from error
    rate = source.info.sample_rate
    if not MIN_RATE <= rate <= MAX_RATE:
        source.close()
        raise AudioError(f"{path}: sample rate {rate} Hz, expected {MIN_RATE} to {MAX_RATE}")
    return source


def _decoder(path: Path, track: int | None) -> libsndfile.Source | ffmpeg.Source:
    """Open a file with libsndfile if it may be able to decode it, else with ffmpeg, if it or its name is known."""
    kind = identify(path)
    if kind is None and DEMUXERS.get(path.suffix.lower()) == "mp3":
        if not is_installed():
            raise AudioError(f"{path}: does not begin as an MP3 does; install ffmpeg, which may find one in it")
        return ffmpeg.Source(path, "mp3", track)
    if kind is not None and kind not in SNDFILE:
        # libsndfile would try, and its MP3 decoder print what it thinks.
        return ffmpeg.Source(path, kind, track)
    try:
        source = libsndfile.Source(path, kind)
    except libsndfile.ERRORS as error:
        suffix = path.suffix.lower()
        if kind is not None or suffix in DEMUXERS:
            try:
                return ffmpeg.Source(path, kind, track)
            except AudioError:
                if suffix not in FORMATS:
                    raise
        why = libsndfile.reason(error)
        raise AudioError(
            f"{path}: not readable as audio ({why}); WAV, FLAC, OGG, MP3 and AIFF are, headerless PCM with format="
        ) from error
    if track not in (None, 1):
        source.close()
        raise AudioError(f"{path}: track={track}: the file has 1 sound track")
    if source.is_guessed and is_installed():
        # libsndfile would stop at the guess: at a seventh of a variable bit rate that begins in silence.
        source.close()
        return ffmpeg.Source(path, "mp3")
    if source.is_joined and source.format == "OGG" and is_installed():
        source.close()
        return ffmpeg.Source(path, "ogg")
    return source
