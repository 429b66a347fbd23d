"""Formats by a file's first bytes, whatever its name says: a fixed list, so that no file is taken for a playlist."""

from pathlib import Path

# Place and bytes → ffmpeg's name of the format.
_SIGNATURES = (
    (8, b"WAVE", "wav"), (8, b"AVI ", "avi"), (0, b"riff\x2e\x91\xcf\x11", "w64"),
    (8, b"AIFF", "aiff"), (8, b"AIFC", "aiff"), (0, b"caff", "caf"), (0, b".snd", "au"), (0, b"NIST_1A", "nistsphere"),
    (0, b"fLaC", "flac"), (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "matroska"), (0, b"0&\xb2u\x8ef\xcf\x11", "asf"), (0, b"FLV\x01", "flv"),
    *((4, name, "mov") for name in (b"ftyp", b"moov", b"mdat", b"wide", b"pnot")),
    (0, b"\0\0\x01\xba", "mpeg"), (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"), (0, b".RMF", "rm"),
    (0, b"#!AMR", "amr"), (0, b"wvpk", "wv"), (0, b"MAC ", "ape"), (0, b"TTA1", "tta"), (0, b"tBaK", "tak"),
    (0, b"MPCK", "mpc8"), (0, b"MP+", "mpc"), (0, b"ajkg", "shn"), (0, b"DSD ", "dsf"), (0, b"FRM8", "iff"),
    (0, b"Creative Voice File", "voc"), (0, b"\x7f\xfe\x80\x01", "dts"), (0, b"EA3\x01", "oma"), (0, b"ea3\x03", "oma"),
    (4, b"\xf8\x72\x6f\xba", "truehd"),
)  # fmt: skip
SNDFILE = frozenset(("wav", "w64", "aiff", "caf", "au", "nistsphere", "flac", "ogg", "mp3"))  # libsndfile's own


def id3_size(head: bytes) -> int:
    """Return the length of the tags of ID3 that begin so, with their header of ten bytes; 0 if none do."""
    return 10 + seven_bits(head[6:10]) if head[:3] == b"ID3" and len(head) >= 10 else 0


def seven_bits(number: bytes) -> int:
    """Return a number of which each byte holds seven bits, the highest first, as ID3 writes them."""
    return sum(byte << 7 * place for place, byte in enumerate(reversed(number)))


def identify(path: Path) -> str | None:
    """Return ffmpeg's name of the format that a file's first bytes are of, None if they are of none in the list."""
    with open(path, "rb") as file:
        head = file.read(1 << 10)
        if size := id3_size(head):
            # Tags come first, and some programs leave zeros behind them.
            file.seek(size)
            head = file.read(1 << 16).lstrip(b"\0")
    for place, mark, name in _SIGNATURES:
        if head.startswith(mark, place):
            return name
    # Packets of 188 bytes begin with a G; a Blu-ray puts four bytes before each.
    if any(len(head) > 2 * step and head[first::step][:3] == b"GGG" for first, step in ((0, 188), (4, 192))):
        return "mpegts"
    if head[:2] == b"\x0bw" and len(head) > 5:
        return "eac3" if head[5] >> 3 > 10 else "ac3"
    if len(head) > 2 and head[0] == 0xFF and head[1] >= 0xE0:
        if head[1] & 0xF6 == 0xF0:
            return "aac"
        # A layer, a bit rate and a sample rate that exist.
        if head[1] & 0x06 and head[2] >> 4 != 15 and head[2] & 0x0C != 0x0C:
            return "mp3"
    return None
