"""Tags of an MP3: ID3v2.4 in UTF-8. libsndfile 1.2.2 hands its UTF-8 to LAME as Latin-1, and Müller becomes MÃ¼ller."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

_FRAMES = {
    "title": "TIT2", "artist": "TPE1", "album": "TALB", "tracknumber": "TRCK", "date": "TDRC", "genre": "TCON",
    "comment": "COMM", "copyright": "TCOP", "software": "TSSE",
}  # fmt: skip


class Tagged(io.FileIO):
    """A new file that begins with these tags, and to who writes it, behind them."""

    def __init__(self, path: Path, tags: Mapping[str, str]) -> None:
        super().__init__(path, "wb+")
        frames = b""
        for name, frame in _FRAMES.items():
            if text := tags.get(name):
                # 3 is UTF-8; a comment is in a language, here unknown, and has a description, here empty.
                body = b"\x03" + (b"und\x00" if frame == "COMM" else b"") + text.encode()
                frames += frame.encode() + _size(len(body)) + b"\x00\x00" + body
        self._start = self.write(b"ID3\x04\x00\x00" + _size(len(frames)) + frames) or 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return super().seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return super().tell() - self._start


def _size(length: int) -> bytes:
    """Four bytes of seven bits: none looks like the start of a frame of MP3."""
    return bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0))
