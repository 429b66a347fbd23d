"""Sound that is read and written while it is still coming in: a WAV of no stated length, or headerless PCM."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import NamedTuple

from torch import Tensor

from denoiser.audio.chunks import is_of_a_stream
from denoiser.audio.raw import Raw
from denoiser.audio.reader import MAX_RATE, MIN_RATE

_EXTENSIBLE = 0xFFFE  # the tag of a WAV whose true tag follows
# Tag and bits of a sample in a WAV → format of RAW.
_FORMATS = {
    (1, 8): "u8", (1, 16): "s16le", (1, 24): "s24le", (1, 32): "s32le",
    (3, 32): "f32le", (3, 64): "f64le", (6, 8): "alaw", (7, 8): "mulaw",
}  # fmt: skip
_TAGS = {name: tag for (tag, _), name in _FORMATS.items()}
_END_OF_GUID = bytes.fromhex("000000001000800000aa00389b71")  # of a format, after its tag
_UNSTATED = 0xFFFFFFFF
_BEFORE_SAMPLES = 36  # bytes of a header that its first length counts
_LARGEST_CHUNK = 1 << 20  # bytes before the samples; a larger one may be anything
_READ = 1 << 16  # bytes


class Start(NamedTuple):
    """Start of a pipe: the bytes that were read, and the facts of the samples that follow, if they are known.

    ``size`` are the bytes of samples that are stated, None if they end with the pipe.
    """

    content: bytes
    raw: Raw | None = None
    size: int | None = None


def read_start(pipe: BufferedReader) -> Start:
    """Read the header of a WAV up to its samples; without ``raw`` where it is none, or not of PCM."""
    content = pipe.read(12)
    if content[:4] != b"RIFF" or content[8:] != b"WAVE":
        return Start(content)
    raw = None
    while True:
        header = pipe.read(8)
        content += header
        if len(header) < 8:
            return Start(content)
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            return Start(content, raw, None if size == 0 or is_of_a_stream(size) else size)
        if size > _LARGEST_CHUNK:
            return Start(content)
        chunk = pipe.read(size + size % 2)
        content += chunk
        if name == b"fmt ":
            raw = _facts(chunk)


def _facts(chunk: bytes) -> Raw | None:
    """Return what the chunk ``fmt`` of a WAV says; None for codecs, and for what cannot be."""
    if len(chunk) < 16:
        return None
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE and len(chunk) >= 26:
        (tag,) = struct.unpack_from("<H", chunk, 24)
    name = _FORMATS.get((tag, bits))
    is_sound = name is not None and 1 <= channels <= 1024 and MIN_RATE <= rate <= MAX_RATE
    return Raw(str(name), rate, channels) if is_sound else None


def wav_header(raw: Raw, size: int | None = None, mask: int | None = None) -> bytes:
    """Return the header of a WAV with ``size`` bytes of these samples; None, or too many for it: as many as come.

    ``mask`` are the bits of the speakers as in WAVE_FORMAT_EXTENSIBLE, 0 if they are not known, None for a plain WAV.
    """
    bits, tag = 8 * raw.frame // raw.channels, _TAGS[raw.format]
    per_second = min(raw.rate * raw.frame, _UNSTATED)
    first = tag if mask is None else _EXTENSIBLE
    format = struct.pack("<HHIIHH", first, raw.channels, raw.rate, per_second, raw.frame, bits)
    if mask is not None:
        format += struct.pack("<HHIH", 22, bits, mask, tag) + _END_OF_GUID
    whole, samples = _UNSTATED, _UNSTATED
    if size is not None and size + size % 2 + _BEFORE_SAMPLES < _UNSTATED:
        whole, samples = size + size % 2 + _BEFORE_SAMPLES, size
    begin = struct.pack("<4sI4s4sI", b"RIFF", whole, b"WAVE", b"fmt ", len(format))
    return begin + format + struct.pack("<4sI", b"data", samples)


def in_wav(raw: Raw) -> Raw:
    """Return the format that a WAV has for such samples: its bytes come in another order, and have no sign."""
    name = raw.format.replace("be", "le")
    return Raw(name if name in _TAGS else "s16le", raw.rate, raw.channels)


@dataclass
class Samples:
    """Samples of a pipe as they come, up to ``size`` bytes; ``missing`` bytes are known once all have come."""

    pipe: BufferedReader
    raw: Raw
    size: int | None = None
    missing: int = 0

    def __iter__(self) -> Iterator[Tensor]:
        """Yield ``[C, n]``, as many as there are without waiting for more."""
        rest, left = b"", self.size
        while content := self.pipe.read1(_READ if left is None else min(_READ, left)):
            if left is not None:
                left -= len(content)
            rest += content
            whole = len(rest) // self.raw.frame * self.raw.frame
            if whole:
                yield self.raw.decode(rest[:whole])
            rest = rest[whole:]
        self.missing = left or -len(rest) % self.raw.frame
