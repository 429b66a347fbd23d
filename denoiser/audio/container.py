"""Containers that ffmpeg opens: their tracks and times, read once from ffprobe's JSON."""

import json
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from denoiser.errors import AudioError

# ffmpeg's names of speakers in the order of the bits of WAVE_FORMAT_EXTENSIBLE.
_SPEAKERS = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR".split()
# ffmpeg's names of layouts → masks.
_LAYOUTS = {
    "mono": 0x4, "stereo": 0x3, "2.1": 0xB, "3.0": 0x7, "3.0(back)": 0x103, "4.0": 0x107, "quad": 0x33,
    "quad(side)": 0x603, "3.1": 0xF, "5.0": 0x37, "5.0(side)": 0x607, "4.1": 0x10F, "5.1": 0x3F, "5.1(side)": 0x60F,
    "6.0": 0x707, "6.0(front)": 0x6C3, "hexagonal": 0x137, "6.1": 0x70F, "6.1(back)": 0x13F, "6.1(front)": 0x6CB,
    "7.0": 0x637, "7.0(front)": 0x6C7, "7.1": 0x63F, "7.1(wide)": 0xFF, "7.1(wide-side)": 0x6CF, "octagonal": 0x737,
}  # fmt: skip
_WIDTHS = {"u8": 8, "s16": 16, "s32": 32, "flt": 32, "dbl": 64}  # bits of ffmpeg's sample formats
_OPUS_DELAY = 312 / 48_000  # seconds that ffmpeg counts though it cuts them off
_LOSSLESS = ("alac", "flac", "wavpack", "tta", "ape", "tak", "shorten", "truehd", "mlp", "wmalossless")


@dataclass(frozen=True)
class Track:
    """A sound track. ``index`` counts all streams from 0; ``start`` is its time in seconds after the first one begins.

    ``subtype`` is libsndfile's name of samples that hold its own without loss, or of PCM_16 for a lossy codec.
    """

    index: int
    codec: str
    subtype: str
    sample_rate: int
    channels: int
    mask: int | None
    start: float
    seconds: float
    bit_rate: int
    is_default: bool
    tags: dict[str, str]


@dataclass(frozen=True)
class Container:
    """A file as ffprobe describes it: ``streams`` of all kinds as it lists them, and the sound ``tracks``.

    ``shift`` is the time in seconds from where ffmpeg begins to count to the first picture or sound.
    """

    path: Path
    demuxer: str
    streams: list[dict[str, Any]]
    tracks: list[Track]
    tags: dict[str, str]
    shift: float

    def choose(self, track: int | None) -> int:
        """Return the number of a sound track, from 1: the one asked for if it is there, else the default one."""
        if track is None:
            return next((i for i, found in enumerate(self.tracks, 1) if found.is_default), 1)
        if not 1 <= track <= len(self.tracks):
            raise AudioError(f"{self.path}: track={track}: the file has {len(self.tracks)} sound tracks")
        return track


def is_installed() -> bool:
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


def input_options(path: Path, demuxer: str) -> list[str | bytes]:
    """Return ffmpeg's options to open this file, and no other one that it may name."""
    # "file:", as a name can begin with "http:".
    name = b"file:" + os.fsencode(path.absolute())
    return ["-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", name]


def examine(path: Path, demuxer: str) -> Container:
    """Describe a file by ffprobe. Raises AudioError if it cannot be read, or holds no sound."""
    command = ["ffprobe", "-v", "error", *input_options(path, demuxer), "-show_streams", "-show_format", "-of", "json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"{path}: ffprobe does not get through it") from error
    if done.returncode:
        raise AudioError(f"{path}: not readable as {demuxer} by ffmpeg ({first_line(done.stderr)})")
    found = json.loads(done.stdout.decode(errors="replace"))
    streams, whole = found.get("streams", []), found.get("format", {})
    try:
        sounds = [stream for stream in streams if stream["codec_type"] == "audio" and int(stream["sample_rate"])]
        begin = min((_start(stream) for stream in streams if _is_timed(stream)), default=0.0)
        tracks = [_track(stream, begin, whole, len(streams)) for stream in sounds]
    except (KeyError, ValueError) as error:
        raise AudioError(f"{path}: ffmpeg finds no sound in it") from error
    if not tracks:
        raise AudioError(f"{path}: ffmpeg finds no sound in it")
    return Container(path, demuxer, streams, tracks, _texts(whole), begin - float(whole.get("start_time", begin)))


def is_cut_off(path: Path, demuxer: str) -> bool:
    """Return True for an MP4 of which the last box is not all there."""
    with open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        place = 0 if demuxer == "mov" else length
        while place + 16 <= length:
            file.seek(place)
            size, _, large = struct.unpack(">I4sQ", file.read(16))
            # 0 stands for all that follows, and 1 for a size in 8 bytes.
            place += {0: length - place, 1: max(large, 16)}.get(size, max(size, 8))
    return place > length


def is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def first_line(errors: bytes | IO[bytes]) -> str:
    """Return the first thing a program said, the cause of the rest, without the names of its modules and the file."""
    if not isinstance(errors, bytes):
        errors.seek(0)
        errors = errors.read(1 << 16)
    first = errors.decode(errors="replace").strip().partition("\n")[0]
    return re.sub(r"^(\[[^]]*\]|file:.*:) *", "", first).strip()


def _is_timed(stream: dict[str, Any]) -> bool:
    """Return True for sound and moving pictures: not for subtitles, which begin at the first word, and covers."""
    return stream["codec_type"] in ("audio", "video") and not is_cover(stream) and "start_time" in stream


def _start(stream: dict[str, Any]) -> float:
    # A time before 0 is the delay of a codec, which the decoder cuts off.
    delay = _OPUS_DELAY if stream.get("codec_name") == "opus" else 0.0
    return max(0.0, float(stream.get("start_time", 0)) + delay)


def _track(stream: dict[str, Any], begin: float, whole: dict[str, Any], streams: int) -> Track:
    tags = _texts(stream)
    start = max(0.0, _start(stream) - begin)
    if "duration" in stream:
        seconds = float(stream["duration"])
    else:
        # Matroska states the time of a track's end; the whole file's is as good if there is no other track.
        end = _clock(tags.get("duration")) or (float(whole.get("duration", 0)) if streams == 1 else 0.0)
        seconds = max(0.0, end - start)
    return Track(
        index=int(stream["index"]),
        codec=str(stream["codec_name"]),
        subtype=_subtype(stream),
        sample_rate=int(stream["sample_rate"]),
        channels=int(stream["channels"]),
        mask=_mask(stream.get("channel_layout", "")),
        start=start,
        seconds=seconds,
        bit_rate=int(stream.get("bit_rate") or tags.get("bps") or 0),
        is_default=bool(stream.get("disposition", {}).get("default")),
        tags=tags,
    )


def _texts(described: dict[str, Any]) -> dict[str, str]:
    return {key.lower(): str(text) for key, text in described.get("tags", {}).items()}


def _clock(text: str | None) -> float:
    """Return the seconds of ``00:01:02.5``, as Matroska states durations."""
    parts = (text or "").split(":")
    return sum(float(part) * 60**power for power, part in enumerate(reversed(parts))) if len(parts) == 3 else 0.0


def _mask(layout: str) -> int | None:
    names = re.findall(r"[A-Z]+", layout) if layout not in _LAYOUTS else []
    if names and all(name in _SPEAKERS for name in names):
        return sum(1 << _SPEAKERS.index(name) for name in set(names))
    return _LAYOUTS.get(layout)


def _subtype(stream: dict[str, Any]) -> str:
    codec, format = str(stream["codec_name"]), str(stream.get("sample_fmt", "")).removesuffix("p")
    if codec in ("pcm_alaw", "pcm_mulaw"):
        return codec.removeprefix("pcm_").replace("mulaw", "ulaw").upper()
    if not codec.startswith(("pcm_", "dsd_", *_LOSSLESS)):
        return "PCM_16"
    if format in ("flt", "dbl"):
        return "FLOAT" if format == "flt" else "DOUBLE"
    raw = stream.get("bits_per_raw_sample") or stream.get("bits_per_sample") or _WIDTHS.get(format, 16)
    bits = min(-(-int(raw) // 8) * 8, 32)
    return "PCM_U8" if bits == 8 else f"PCM_{bits}"
