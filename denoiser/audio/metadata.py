"""Tags and covers of FLAC, OGG and MP3 files, as the bytes that they are: libsndfile knows ten tags, and no covers."""

import os
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from denoiser.audio.formats import TAGS, Extras
from denoiser.audio.signatures import id3_size, seven_bits

_PADDING, _COMMENTS, _PICTURE = 1, 4, 6  # kinds of FLAC's blocks
_MOST = 1 << 26  # bytes
_VORBIS, _OPUS = b"\x03vorbis", b"OpusTags"  # before the comments in OGG
_LARGEST_PAGE = 1 << 16  # bytes of an OGG
_LARGEST_FRAME, _ID3V1 = 1441, 128  # bytes of an MP3, and of the tags behind it
# Frames of ID3 that libsndfile reads as tags, or that say how long the sound is.
_KNOWN_FRAMES = frozenset("TIT2 TPE1 TALB TRCK TDRC TYER TCON COMM TCOP TSSE TLEN".split())
_MASK = re.compile(rb"WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x([0-9a-f]{1,8})", re.IGNORECASE)
_KNOWN = frozenset((*TAGS, "encoder", "vendor", "waveformatextensible_channel_mask"))


def read_extras(path: Path, format: str) -> Extras:
    """Return the tags and pictures of a file of this format of libsndfile."""
    if format not in ("FLAC", "OGG", "MP3"):
        return Extras()
    with open(path, "rb") as file:
        if format == "MP3":
            return _of_mp3(file)
        if format == "OGG":
            return _of_ogg(file)
        blocks = [(kind, content) for kind, content in _flac_blocks(file) if kind in (_COMMENTS, _PICTURE)]
    parts = [(b"tags" if kind == _COMMENTS else b"cover", content) for kind, content in blocks if content]
    inner = [name for kind, content in blocks if kind == _COMMENTS for name in _comment_names(content)]
    return Extras("FLAC", tuple(parts), tuple(inner))


def speakers(extras: Extras) -> int | None:
    """Return the mask of speakers that the tags of a FLAC or an OGG state, None if they do not."""
    found = _MASK.search(dict(extras.parts).get(b"tags", b"")) if extras.family in ("FLAC", "OGG") else None
    return int(found[1], 16) if found else None


def has_end(path: Path, format: str) -> bool:
    """Return False for an OGG whose last page is not there, or does not say that it is the last one."""
    if format != "OGG":
        return True
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _LARGEST_PAGE))
        page = file.read().rpartition(b"OggS")[2]
    sizes = page[23 : 23 + page[22]] if len(page) > 22 else b""
    return bool(sizes) and bool(page[1] & 4) and len(page) >= 23 + len(sizes) + sum(sizes)


def is_joined(path: Path, format: str) -> bool:
    """Return True for an OGG or an MP3 behind whose stated end another one follows, as where two were joined."""
    with open(path, "rb") as file:
        if format == "OGG":
            first = file.read(_LARGEST_PAGE)[14:18]
            file.seek(max(0, path.stat().st_size - _LARGEST_PAGE))
            last = file.read().rpartition(b"OggS")[2][10:14]
            return len(last) == 4 and first != last
        if format != "MP3":
            return False
        begin = id3_size(file.read(10))
        file.seek(begin)
        head = file.read(1 << 8)
        _, mark, index = head.partition(b"Info" if b"Info" in head else b"Xing")
        # The index states its frames, and behind them its bytes; some state 0.
        if not mark or len(index) < 12 or index[3] & 3 != 3 or not any(index[8:12]):
            return False
        file.seek(begin + int.from_bytes(index[8:12], "big"))
        following = file.read(_LARGEST_PAGE)
    # Some indices leave their own frame out, so that the last one seems to follow.
    if len(following) <= _LARGEST_FRAME + _ID3V1:
        return False
    if following[:3] == b"TAG":
        following = following[_ID3V1:]
    return following[:3] == b"ID3" or (following[0] == 0xFF and following[1] >= 0xE0)


def write_extras(path: Path, extras: Extras) -> None:
    """Put the tags and pictures into a FLAC, an OGG or an MP3 that libsndfile has written."""
    put = {"FLAC": _into_flac, "OGG": _into_ogg, "MP3": _into_mp3}[extras.family]
    # A name that is deleted as a partial file if this process is killed.
    copy = path.with_name(f"{path.name}0")
    try:
        with open(path, "rb") as source, open(copy, "wb") as target:
            put(source, target, extras)
        os.replace(copy, path)
    except OSError as error:
        raise ValueError(f"{error.strerror}; while its tags are put in, it takes its size twice") from error
    finally:
        copy.unlink(missing_ok=True)


def _flac_blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and content of each block; the file is then at the sound."""
    if file.read(4) != b"fLaC":
        return
    is_last = False
    while not is_last and len(header := file.read(4)) == 4:
        is_last = bool(header[0] & 0x80)
        content = file.read(int.from_bytes(header[1:], "big"))
        yield header[0] & 0x7F, content


def _into_flac(source: BinaryIO, target: BinaryIO, extras: Extras) -> None:
    kinds = {b"tags": _COMMENTS, b"cover": _PICTURE}
    blocks = [(kind, content) for kind, content in _flac_blocks(source) if kind not in (_PADDING, _COMMENTS, _PICTURE)]
    blocks += [(kinds[name], content) for name, content in extras.parts]
    target.write(b"fLaC")
    for number, (kind, content) in enumerate(blocks, 1):
        target.write(bytes([kind | (0x80 if number == len(blocks) else 0)]) + len(content).to_bytes(3, "big") + content)
    shutil.copyfileobj(source, target)


def _comment_names(comments: bytes) -> list[str]:
    """Return the names of Vorbis comments that libsndfile does not know."""
    try:
        (vendor,) = struct.unpack_from("<I", comments)
        (count,) = struct.unpack_from("<I", comments, 4 + vendor)
        place, names = 8 + vendor, set[str]()
        for _ in range(count):
            (size,) = struct.unpack_from("<I", comments, place)
            names.add(comments[place + 4 : place + 4 + size].partition(b"=")[0].lower().decode("latin-1"))
            place += 4 + size
    except struct.error:
        return []
    return sorted(names - _KNOWN)


def _of_ogg(file: BinaryIO) -> Extras:
    """Return the comments of an OGG: its second packet without the codec's mark."""
    packets = [b""]
    for _, sizes, body in _pages(file):
        place = 0
        for size in sizes:
            packets[-1] += body[place : place + size]
            place += size
            if size < 255:
                packets.append(b"")
        if len(packets) > 2 or len(packets[-1]) > _MOST:
            break
    comments = packets[1] if len(packets) > 1 else b""
    comments = comments.removeprefix(_VORBIS).removeprefix(_OPUS)
    inner = tuple(_comment_names(comments))
    # Beside the setup of Vorbis, in one page.
    is_kept = 0 < len(comments) < _LARGEST_PAGE // 2
    return Extras("OGG", ((b"tags", comments),), inner) if is_kept else Extras(inner=inner)


def _pages(file: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the header of each page of an OGG, the sizes of its segments, and its content."""
    while len(header := file.read(27)) == 27 and header[:4] == b"OggS":
        sizes = file.read(header[26])
        yield header, sizes, file.read(sum(sizes))


def _into_ogg(source: BinaryIO, target: BinaryIO, extras: Extras) -> None:
    pages = _pages(source)
    target.write(b"".join(next(pages)))
    header, sizes, body = next(pages)
    # The segment that ends the old comments is the first one that is not full.
    count = next(i for i, size in enumerate(sizes, 1) if size < 255)
    mark = _VORBIS if body.startswith(_VORBIS) else _OPUS
    comments = mark + dict(extras.parts)[b"tags"].removesuffix(b"\1") + (b"\1" if mark == _VORBIS else b"")
    lengths = b"\xff" * (len(comments) // 255) + bytes([len(comments) % 255]) + sizes[count:]
    content = bytes([len(lengths)]) + lengths + comments + body[sum(sizes[:count]) :]
    page = header[:22] + bytes(4) + content
    target.write(header[:22] + struct.pack("<I", _checksum(page)) + content)
    shutil.copyfileobj(source, target)


def _checksum(page: bytes) -> int:
    """Return the CRC of a page of OGG, in which the place of the CRC holds zeros."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = value << 1 ^ (0x104C11DB7 if value >> 31 else 0)
    return value


def _of_mp3(file: BinaryIO) -> Extras:
    """Return the tags at the begin of an MP3, and the old ones of 128 bytes at its end."""
    size = id3_size(file.read(10))
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    tags = file.read(size) if size <= min(length, _MOST) else b""
    file.seek(max(0, length - 128))
    old = file.read()
    parts = [(b"tags", tags)] if tags else []
    parts += [(b"old tags", old)] if old[:3] == b"TAG" else []
    return Extras("MP3", tuple(parts), tuple(_frame_names(tags)))


def _frame_names(tags: bytes) -> list[str]:
    """Return the names of ID3's frames that are no tag of libsndfile's."""
    names, place = set[str](), 10
    while place + 10 < len(tags) and tags[place : place + 4].isalnum():
        name, sizes = tags[place : place + 4], tags[place + 4 : place + 8]
        place += 10 + (seven_bits(sizes) if tags[3] == 4 else int.from_bytes(sizes, "big"))
        names.add("cover" if name == b"APIC" else name.decode())
    return sorted(names - _KNOWN_FRAMES)


def _into_mp3(source: BinaryIO, target: BinaryIO, extras: Extras) -> None:
    parts = dict(extras.parts)
    source.seek(id3_size(source.read(10)))
    target.write(parts.get(b"tags", b""))
    shutil.copyfileobj(source, target)
    target.write(parts.get(b"old tags", b""))
