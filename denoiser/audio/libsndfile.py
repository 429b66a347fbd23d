"""libsndfile, through soundfile: from start to end, and around what its version 1.2.2 gets wrong."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

TAGS = ("title", "artist", "album", "tracknumber", "date", "genre", "comment", "copyright", "license", "software")
ERRORS = (soundfile.SoundFileError, TypeError, ValueError, AssertionError, OSError)  # what a SoundFile raises


class Sound(soundfile.SoundFile):
    """A sound file read or written from start to end; arguments after the path as of soundfile.SoundFile.

    ``file`` is read or written instead of the path, and closed with the sound.

    Where a file is seekable, soundfile seeks after every block: some codecs (DWVW) cannot, and MP3 comes out
    different in the last bit.
    """

    _raw: io.FileIO | None = None

    def __init__(self, path: Path, *args: Any, file: io.FileIO | None = None, **kwargs: Any) -> None:
        self._raw = file
        # Absolute, as libsndfile takes "-" for the standard input; bytes, as names need not be UTF-8.
        name = str(path.absolute()) if os.name == "nt" else os.fsencode(path.absolute())
        super().__init__(file or name, *args, **kwargs)

    def seekable(self) -> bool:
        return False

    def block(self, samples: int) -> np.ndarray:
        """The next ``[n, C]`` float32 samples, ``n <= samples``."""
        return self.read(samples, dtype="float32", always_2d=True)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set those tags that the format can hold; before the first sample."""
        for name, text in tags.items():
            with suppress(*ERRORS):
                setattr(self, name, text)

    def close(self) -> None:
        super().close()
        if self._raw is not None:
            self._raw.close()


class Source(Sound):
    """A file to read: all of it, with what its header says.

    ``length`` is its samples per channel, 0 where the header does not know; ``seconds`` is a guess then, or 0.
    """

    def __init__(self, path: Path) -> None:
        with Sound(path) as sound:
            claimed = sound.frames if 0 < sound.frames < 1 << 62 else 0  # streamed FLAC claims 2**63 - 1
            self.tags = tags_of({name: getattr(sound, name) for name in TAGS})
            guessed = sound.subtype.startswith("MPEG") and not _has_index(path)
        super().__init__(path, file=_Endless(path) if guessed else None)
        self.length = 0 if self.frames > claimed else claimed
        self.seconds = claimed / self.samplerate

    def block(self, samples: int) -> np.ndarray:
        if self._raw is None:
            return super().block(samples)
        parts = [np.zeros((0, self.channels), np.float32)]
        while samples:
            try:
                part = super().block(min(samples, 1152))  # a frame of MP3
            except soundfile.SoundFileError:
                if self._raw.read(1):
                    raise
                break  # in its last frame, which is cut off
            if not len(part):
                break
            parts.append(part)
            samples -= len(part)
        return np.concatenate(parts)


class _Endless(io.FileIO):
    """A file that claims a thousand times its length.

    Where an MP3 has no index, libsndfile guesses its length from its size and first frame, and stops there: at a
    seventh of a recording of variable bit rate that begins in silence. So it guesses too much, and reads to the end.
    """

    _at_end = False

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at_end = whence == os.SEEK_END
        return super().seek(offset, whence)

    def tell(self) -> int:
        return super().tell() * (1000 if self._at_end else 1)


def unpad(path: Path) -> None:
    """Take the last sample out of an AIFF of 8 bit mono, where it is none.

    An odd number of bytes is followed by one that fills up, and libsndfile 1.2.2 counts it: a click at the end.
    """
    with open(path, "r+b") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack(">4sI", head)
            start = file.tell()
            if name == b"COMM":  # channels in 16 bits, and samples in 32
                _, frames = struct.unpack(">HI", file.read(6))
                file.seek(start + 2)
                file.write(struct.pack(">I", frames - 1))
            elif name == b"SSND":
                file.seek(start - 4)
                file.write(struct.pack(">I", size - 1))
            file.seek(start + size + size % 2)


def _has_index(path: Path) -> bool:
    """Does the first frame of this MP3 say how many there are?"""
    with open(path, "rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":
            file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
        first = file.read(4096)
    return b"Xing" in first or b"Info" in first


def tags_of(texts: Mapping[str, str]) -> dict[str, str]:
    """Those of TAGS that are there, cut to the 2000 bytes that every format can hold: longer ones break a WAV."""
    cut = {name: texts.get(name, "").encode()[:2000].decode(errors="ignore") for name in TAGS}
    return {name: text for name, text in cut.items() if text}


def reason(error: BaseException) -> str:
    """Why libsndfile or the system refused, in few words."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    if "does not exist" in text:  # said of what begins like an MP3 and goes on otherwise
        return "damaged or cut off"
    if text.startswith("System error"):
        return "the system refuses: no permission, or no space"
    return text.removeprefix("Error : ").rstrip(".")
