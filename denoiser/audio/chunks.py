"""Chunks of WAV, RF64, W64, AIFF and CAF files: the true amount of sound, and the parts beside the sound.

libsndfile reads and writes the sound, and drops the other chunks: bext, iXML, cue points, labels, speaker masks.
"""

import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from denoiser.audio.formats import Extras

# Chunks that describe the sound as it is stored, or fill space: libsndfile writes its own.
_OWN = frozenset(
    b"fmt |data|fact|ds64|PEAK|levl|JUNK|junk|PAD |FLLR|COMM|SSND|FVER|desc|pakt|kuki|free|peak".split(b"|")
)
# Bytes of the chunk that come before the sound.
_PREFIX = {"AIFF": 8, "CAF": 4}
_MOST_EXTRAS = 1 << 26  # bytes
# Texts of a LIST that libsndfile reads as tags.
_KNOWN_TEXTS = b"INAM IART IPRD ICMT ICRD IGNR ICOP ISFT ITRK IPRT".split()
_EXTENSIBLE = 0xFFFE  # the tag of WAVE_FORMAT_EXTENSIBLE
# Bytes behind the stated sound that are taken for more of it; fewer may be a tag of some program.
_LEAST_BEYOND = 1 << 16
_UNSTATED = (1 << 64) - 1  # the size in an RF64 of a stream


class Layout(NamedTuple):
    """Arrangement of a family of files; ``outer`` tells of the size of all: place, type, and bytes not counted."""

    family: str
    first: int  # place of the first chunk
    header: str  # name and size of a chunk, for struct
    outer: tuple[int, str, int] | None = None
    pad: int = 2
    counts_header: bool = False

    def outer_size(self, length: int) -> dict[int, bytes]:
        """Return the size of all that a file of this length states, by its place; nothing where it states none."""
        if self.outer is None:
            return {}
        place, kind, uncounted = self.outer
        return {place: _packed(kind, length - uncounted)}


def _packed(kind: str, number: int) -> bytes:
    return struct.pack(kind, min(number, 256 ** struct.calcsize(kind) - 1))


_WAV = Layout("RIFF", 12, "<4sI", (4, "<I", 8))
_RF64 = Layout("RIFF", 12, "<4sI", (20, "<Q", 8))
_LAYOUTS = {
    b"RIFF": _WAV,
    b"RF64": _RF64,
    b"BW64": _RF64,
    b"FORM": Layout("AIFF", 12, ">4sI", (4, ">I", 8)),
    b"caff": Layout("CAF", 8, ">4sq", pad=1),
    b"riff": Layout("RIFF", 40, "<16sQ", (16, "<Q", 0), pad=8, counts_header=True),
}


class Chunk(NamedTuple):
    """A chunk: its name of four letters, where its content starts, and how long that is said to be."""

    name: bytes
    start: int
    size: int


class Survey(NamedTuple):
    """Findings about a file: bytes of sound ``held``, ``missing`` at its end, or ``beyond`` the stated end.

    ``patches`` are bytes, by their place, that correct the header; ``mask`` is that of the speakers, None if unstated.
    The file is to be read up to ``end``, if that is not None.
    """

    held: int
    missing: int = 0
    beyond: int = 0
    is_unstated: bool = False
    patches: dict[int, bytes] = {}  # noqa: RUF012
    mask: int | None = None
    extras: Extras = Extras()
    end: int | None = None


def survey(path: Path) -> Survey | None:
    """Return the findings about a file's chunks; None for other formats, and for files without sound."""
    with open(path, "rb") as file:
        magic = file.read(12)
        length = file.seek(0, os.SEEK_END)
        if magic[:4] == b".snd":
            return _survey_au(file, length)
        layout = _LAYOUTS.get(magic[:4])
        if layout is None:
            return None
        chunks = list(_chunks(file, layout, layout.first, length))
        sound = next((chunk for chunk in chunks if chunk.name in (b"data", b"SSND")), None)
        if sound is None:
            return None
        stated, there = sound.size, length - sound.start
        if layout is _RF64 and sound.size == 0xFFFFFFFF:
            file.seek(28)
            stated = int.from_bytes(file.read(8), "little")
        end = sound.start + stated
        found = Survey(there)
        is_streamed = layout.pad == 2 and is_of_a_stream(stated) and not _leads_to_end(file, layout, end, length)
        if stated in (-1, _UNSTATED) or is_streamed:
            pass
        elif stated > there:
            found = Survey(there, missing=stated - there)
        elif _is_chunk(file, layout, end, length):
            found = Survey(stated)
            chunks += _chunks(file, layout, _padded(layout, end), length)
        elif stated <= _PREFIX.get(layout.family, 0):
            found = Survey(there, is_unstated=there > stated)
        elif there - stated >= _LEAST_BEYOND and _ends_with(file, layout, end):
            found = Survey(there, beyond=there - stated)
        else:
            found = Survey(stated)
        # libsndfile does not know the name BW64.
        patches = {0: b"RF64"} if magic[:4] == b"BW64" else {}
        if found.held != stated:
            patches |= _patches(layout, sound, length)
        elif magic[:4] == b"riff" and stated < there:
            # libsndfile 1.2.2 takes all chunks behind the sound for sound.
            found = found._replace(end=end)
        extras = _extras(file, layout, chunks, length)
        return found._replace(patches=patches, mask=_mask(file, chunks), extras=extras)


def _survey_au(file: BinaryIO, length: int) -> Survey:
    file.seek(4)
    start, stated = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
    there = max(0, length - start)
    if stated == 0xFFFFFFFF:
        return Survey(there)
    if stated == 0:
        return Survey(there, is_unstated=there > 0, patches={8: b"\xff" * 4})
    return Survey(min(stated, there), missing=max(0, stated - there))


def is_of_a_stream(stated: int) -> bool:
    """Return True for the sizes that programs write where they cannot know it: into a pipe."""
    return 0xFFFF0000 <= stated <= 0xFFFFFFFF or 0x7FFF0000 <= stated <= 0x80000000


def _chunks(file: BinaryIO, layout: Layout, place: int, length: int) -> Iterator[Chunk]:
    """Yield the chunks from a place on, up to the one that holds the sound."""
    header = struct.calcsize(layout.header)
    while place + header <= length:
        file.seek(place)
        name, size = struct.unpack(layout.header, file.read(header))
        if layout.counts_header:
            size -= header
        chunk = Chunk(name[:4], place + header, size)
        if not all(32 <= letter < 127 for letter in chunk.name):
            return
        yield chunk
        if chunk.name in (b"data", b"SSND") or size < 0:
            return
        place = _padded(layout, place + header + size)


def _padded(layout: Layout, place: int) -> int:
    return place + -place % layout.pad


def _is_chunk(file: BinaryIO, layout: Layout, place: int, length: int) -> bool:
    """Return True if a whole chunk begins at a place, or the file ends there."""
    place = _padded(layout, place)
    if length - place < struct.calcsize(layout.header):
        return place >= length or layout.family == "CAF" or length - place < 8
    following = next(_chunks(file, layout, place, length), None)
    return following is not None and 0 <= following.size <= length - following.start


def _leads_to_end(file: BinaryIO, layout: Layout, place: int, length: int) -> bool:
    """Return True if the file ends at a place, or where the chunks that begin there do."""
    place = _padded(layout, place)
    for chunk in _chunks(file, layout, place, length):
        place = _padded(layout, chunk.start + chunk.size)
    return place in (length, _padded(layout, length))


def _ends_with(file: BinaryIO, layout: Layout, place: int) -> bool:
    """Return True if the header counts the file to end at a place, where bytes lie that are not zeros."""
    if layout.outer is None:
        return False
    where, kind, uncounted = layout.outer
    file.seek(where)
    (size,) = struct.unpack(kind, file.read(struct.calcsize(kind)))
    file.seek(place)
    return abs(size + uncounted - place) <= layout.pad and any(file.read(_LEAST_BEYOND))


def _patches(layout: Layout, sound: Chunk, length: int) -> dict[int, bytes]:
    """Return the bytes that make the header of a file of this length true, by their place."""
    kind = "<Q" if layout is _RF64 else layout.header[0] + layout.header[-1]
    place = 28 if layout is _RF64 else sound.start - struct.calcsize(kind)
    size = length - sound.start + struct.calcsize(layout.header) * layout.counts_header
    if layout is _WAV and size > 0xFFFFFFFF:
        # With these, libsndfile takes it for a file that was not closed, and reads beyond 4 GB.
        return {4: _packed("<I", 8), place: _packed("<I", 0)}
    return {place: _packed(kind, size), **layout.outer_size(length)}


def _mask(file: BinaryIO, chunks: list[Chunk]) -> int | None:
    for chunk in chunks:
        if chunk.name == b"fmt " and chunk.size >= 40:
            file.seek(chunk.start)
            form = file.read(24)
            if len(form) == 24 and struct.unpack_from("<H", form)[0] == _EXTENSIBLE:
                return int(struct.unpack_from("<I", form, 20)[0])
    return None


def _extras(file: BinaryIO, layout: Layout, chunks: list[Chunk], length: int) -> Extras:
    parts: list[tuple[bytes, bytes]] = []
    inner: list[str] = []
    total = 0
    for name, start, size in chunks:
        total += 0 if name in _OWN else size
        if name in _OWN or not 0 < size <= length - start or total > _MOST_EXTRAS:
            continue
        file.seek(start)
        parts.append((name, content := file.read(size)))
        if content[:4] == b"INFO":
            texts = _chunks(file, layout, start + 4, start + size)
            inner += [text.name.decode() for text in texts if text.name not in _KNOWN_TEXTS]
    return Extras(layout.family, tuple(parts), tuple(inner))


def complete(path: Path, extras: Extras, mask: int | None) -> None:
    """Append chunks to a file that libsndfile has written, and set the mask of its speakers if there is one."""
    with open(path, "r+b") as file:
        layout = _LAYOUTS[file.read(4)]
        length = file.seek(0, os.SEEK_END)
        for chunk in _chunks(file, layout, layout.first, length):
            if mask is not None and chunk.name == b"fmt " and chunk.size >= 40:
                file.seek(chunk.start + 20)
                file.write(struct.pack("<I", mask))
        file.seek(0, os.SEEK_END)
        for name, content in extras.parts:
            file.write(bytes(-file.tell() % layout.pad))
            file.write(struct.pack(layout.header, name, len(content)) + content)
        file.write(bytes(-file.tell() % layout.pad))
        for place, size in layout.outer_size(file.tell()).items():
            file.seek(place)
            file.write(size)


class Mended(io.BufferedReader):
    """A file to read, of which some bytes are replaced or the last ones left out, so that it is correct."""

    # soundfile takes what has a name that ends in .raw for headerless PCM.
    name = ""

    def __init__(self, path: Path, patches: dict[int, bytes], end: int | None) -> None:
        super().__init__(io.FileIO(path))
        self._patches = patches
        self._end = end

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place as a file does."""
        if whence == os.SEEK_END and self._end is not None:
            return super().seek(self._end + offset)
        return super().seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from here on; returns the number of bytes."""
        begin, view = self.tell(), memoryview(buffer).cast("B")
        if self._end is not None:
            view = view[: max(0, self._end - begin)]
        count = super().readinto(view)
        for place, patch in self._patches.items():
            for i in range(max(place, begin), min(place + len(patch), begin + count)):
                view[i - begin] = patch[i - place]
        return count
