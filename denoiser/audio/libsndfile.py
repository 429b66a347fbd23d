"""Sound files through libsndfile, by the package soundfile."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from denoiser.audio import chunks
from denoiser.audio.formats import MASKS, TAGS, VORBIS, Info, select_tags
from denoiser.audio.metadata import has_end, is_joined, read_extras, speakers
from denoiser.audio.signatures import id3_size

# The exceptions that a SoundFile raises.
ERRORS = (soundfile.SoundFileError, TypeError, ValueError, AssertionError, OSError)

LEAST_MISSING = 0.1  # seconds; codecs are off by some frames
_NO_END = "cut off: its stream has no end"
_JOINED = "another recording follows behind its end, as where files were joined, and is left out"
_STEP = 1 << 12  # samples at once of a FLAC: those of a call that fails are lost

# Held where the standard error of the process leads nowhere, and by who writes to it from several threads.
STDERR = threading.Lock()


@contextmanager
def hushed() -> Iterator[None]:
    """Discard messages that C libraries print: libmpg123 about a damaged file, ALSA about its devices."""
    if sys.__stderr__ is None:
        yield
        return
    with STDERR, open(os.devnull, "wb") as nowhere:
        own = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)


class Sound(soundfile.SoundFile):
    """A sound file read or written from start to end; arguments after the path as of soundfile.SoundFile."""

    def __init__(self, path: Path | chunks.Mended, *args: Any, **kwargs: Any) -> None:
        file: Any = path
        if isinstance(path, Path):
            # Absolute, as libsndfile takes "-" for the standard input; bytes, as names need not be UTF-8.
            file = str(path.absolute()) if os.name == "nt" else os.fsencode(path.absolute())
        super().__init__(file, *args, **kwargs)

    def seekable(self) -> bool:
        """Return False: soundfile would seek after every block, which changes the last bit of an MP3."""
        return False


class Source(Sound):
    """A file to read, of the ``kind`` that its first bytes say.

    ``info`` holds the facts of its header, of which the length of some MP3s ``is_guessed``. The decoder finds
    the first part alone if the file ``is_joined``.
    """

    notes: tuple[str, ...] = ()  # that come while it is read

    def __init__(self, path: Path, kind: str | None) -> None:
        found = chunks.survey(path) or chunks.Survey(0)
        # The place in a FLAC tells whether it is damaged or cut off.
        is_odd = found.patches or found.end is not None or kind == "flac"
        self._mended = chunks.Mended(path, found.patches, found.end) if is_odd else None
        self._length = path.stat().st_size
        self._hushing = hushed if kind == "mp3" else nullcontext
        with self._hushing():
            super().__init__(self._mended or path)
        self._order = VORBIS.get(self.channels) if self.format == "OGG" else None
        # Two channels are left and right whatever a header says.
        implied = MASKS.get(self.channels) if self.format in ("OGG", "FLAC") and self.channels > 2 else None
        extras = found.extras if found.extras.parts else read_extras(path, self.format)
        mask = speakers(extras) if found.mask is None else found.mask
        # Streamed FLAC claims 2**63 - 1 samples.
        claimed = self.frames if 0 < self.frames < 1 << 62 else 0
        self.is_joined = is_joined(path, self.format)
        self.is_guessed = self.subtype.startswith("MPEG") and not _has_index(path)
        self.info = Info(
            path=path,
            sample_rate=self.samplerate,
            frames=0 if self.is_guessed else claimed,
            channels=self.channels,
            format=self.format,
            subtype=self.subtype,
            tags=select_tags({name: getattr(self, name) for name in TAGS}),
            seconds=claimed / self.samplerate,
            mask=implied if mask is None else mask,
            extras=extras,
            notes=(
                *_notes(found, claimed / self.samplerate),
                *([] if has_end(path, self.format) else [_NO_END]),
                *([_JOINED] if self.is_joined else []),
            ),
        )
        self.promised = self.info.frames / self.samplerate  # seconds, 0 if unknown

    def block(self, samples: int) -> np.ndarray:
        """Return the next ``[n, C]`` float32 samples, ``n <= samples``."""
        with self._hushing():
            block = self.read(
                min(samples, _STEP) if self.format == "FLAC" else samples, dtype="float32", always_2d=True
            )
        return block[:, self._order] if self._order else block

    @property
    def is_used_up(self) -> bool:
        """True if the decoder has come to the end of the file: what fails there is cut off, and not damaged."""
        return self._mended is not None and self._mended.tell() >= self._length

    def close(self) -> None:
        super().close()
        if self._mended is not None:
            self._mended.close()


def last_samples(path: Path, count: int) -> np.ndarray:
    """Return the ``[n, C]`` samples of a FLAC that is cut off which come after the first ``count``."""
    with Source(path, "flac") as source:
        while count > 0:
            count -= len(source.block(count))
        # One by one, as those of the call that fails are lost.
        samples = [np.empty((0, source.channels), np.float32)]
        with suppress(*ERRORS):
            while len(sample := source.block(1)):
                samples.append(sample)
    return np.concatenate(samples)


def _notes(found: chunks.Survey, seconds: float) -> Iterator[str]:
    """Yield notes on what is wrong with a file, given the length of its sound."""
    if not found.held:
        return
    if found.is_unstated:
        yield f"its header states no length, as after a crash: read to the end of the file, {seconds:.1f} s"
    if found.beyond:
        more = seconds * found.beyond / found.held
        yield f"its header leaves out the last {more:.1f} s, as after a crash: read to the end of the file"
    missing = seconds * found.missing / found.held
    if missing >= LEAST_MISSING:
        yield cut_off(missing)


def cut_off(missing: float) -> str:
    """Return the note on a file that ends too early."""
    return f"cut off: its header promises {missing:.1f} s more"


def _has_index(path: Path) -> bool:
    """Return True if the first frame of an MP3 states the number of frames."""
    with open(path, "rb") as file:
        file.seek(id3_size(file.read(10)))
        first = file.read(4096)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def reason(error: BaseException) -> str:
    """Return the reason why libsndfile or the system refused, in few words."""
    if isinstance(error, soundfile.LibsndfileError):
        if error.code == 2:  # SF_ERR_SYSTEM of sndfile.h
            return "the system refuses: no permission, or no space"
        return error.error_string.removeprefix("Error : ").rstrip(".")
    if isinstance(error, TypeError):
        # soundfile takes a name that ends in .raw for headerless PCM, and asks for its rate.
        return "it has no header"
    return (isinstance(error, OSError) and error.strerror) or str(error)
