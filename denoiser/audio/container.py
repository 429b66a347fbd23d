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

_OPUS_DELAY = 312 / 48_000  # seconds that ffmpeg counts though it cuts them off

_LAST = 0.2  # seconds that a decoder may make of a packet that is cut
_FRAME = re.compile(rb"rate:(\d+) nb_samples:(\d+)")  # in a line of the filter ashowinfo


@dataclass(frozen=True)
class Container:
    """A file as ffprobe describes it: ``streams`` of all kinds as it lists them, and the ``sounds`` among them.

    ``number`` is that of the sound to read, from 1. ``begin`` is the time in seconds of the first picture or sound, and
    ``shift`` how much later that is than where ffmpeg begins to count.
    """

    path: Path
    demuxer: str
    streams: list[dict[str, Any]]
    sounds: list[dict[str, Any]]
    number: int
    tags: dict[str, str]
    begin: float
    shift: float
    seconds: float

    @property
    def sound(self) -> dict[str, Any]:
        return self.sounds[self.number - 1]


def is_installed() -> bool:
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


def input_options(path: Path, demuxer: str) -> list[str | bytes]:
    """Return ffmpeg's options to open this file, and no other one that it may name."""
    # "file:", as a name can begin with "http:".
    name = b"file:" + os.fsencode(path.absolute())
    return ["-protocol_whitelist", "file,pipe", "-f", demuxer, "-i", name]


def examine(path: Path, demuxer: str, track: int | None) -> Container:
    """Describe a file by ffprobe, with a sound ``track``, from 1, or None for that which the file calls its default.

    Raises AudioError if the file cannot be read or has no such track; ValueError or KeyError if it holds no sound.
    """
    command = ["ffprobe", "-v", "error", *input_options(path, demuxer), "-show_streams", "-show_format", "-of", "json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired as error:
        raise AudioError(f"{path}: ffprobe cannot read it") from error
    if b"moov atom not found" in done.stderr:
        lack = "the recorder did not finish it, and its index (moov) is missing"
        raise AudioError(f"{path}: {lack}; a repair tool such as untrunc may help")
    if done.returncode:
        raise AudioError(f"{path}: not readable as {demuxer} by ffmpeg ({first_line(done.stderr)})")
    found = json.loads(done.stdout.decode(errors="replace"))
    streams, whole = found.get("streams", []), found.get("format", {})
    sounds = [stream for stream in streams if stream["codec_type"] == "audio" and int(stream["sample_rate"])]
    if not sounds:
        raise ValueError("no sound")
    defaults = [number for number, stream in enumerate(sounds, 1) if stream.get("disposition", {}).get("default")]
    number = (defaults or [1])[0] if track is None else track
    if not 1 <= number <= len(sounds):
        raise AudioError(f"{path}: track={track}: the file has {len(sounds)} sound tracks")
    # Not subtitles, which begin at the first word, and no covers.
    timed = [stream for stream in streams if stream["codec_type"] in ("audio", "video") and not is_cover(stream)]
    begin = min((start_of(stream) for stream in timed if "start_time" in stream), default=0.0)
    shift = begin - float(whole.get("start_time", begin))
    seconds = float(whole.get("duration", 0))
    return Container(path, demuxer, streams, sounds, number, texts_of(whole), begin, shift, seconds)


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


def breaks_at_end(path: Path, demuxer: str, index: int) -> bool:
    """Return True if decoding a stream fails only where the file ends: nearly no sound comes after the first error."""
    # One thread, so that its lines come in the order of the frames.
    reading = ["ffmpeg", "-v", "level+info", "-nostdin", "-threads", "1", *input_options(path, demuxer)]
    command = [*reading, "-map", f"0:{index}", "-af", "ashowinfo", "-f", "null", "-"]
    before, after, is_broken = 0.0, 0.0, False
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            is_broken = is_broken or b"[error]" in line or b"[fatal]" in line
            if found := _FRAME.search(line):
                seconds = int(found[2]) / int(found[1])
                before, after = (before, after + seconds) if is_broken else (before + seconds, after)
    return is_broken and before + after > 0 and after <= _LAST


def is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get("disposition", {}).get("attached_pic"))


def first_line(errors: bytes | IO[bytes]) -> str:
    """Return the first message of a program, which explains the others, without the names of modules and the file."""
    if not isinstance(errors, bytes):
        errors.seek(0)
        errors = errors.read(1 << 16)
    first = errors.decode(errors="replace").strip().partition("\n")[0]
    return re.sub(r"^(\[[^]]*\]|file:.*:) *", "", first).strip()


def start_of(stream: dict[str, Any]) -> float:
    """Return the time in seconds at which a stream begins."""
    # A time before 0 is the delay of a codec, which the decoder cuts off.
    delay = _OPUS_DELAY if stream.get("codec_name") == "opus" else 0.0
    return max(0.0, float(stream.get("start_time", 0)) + delay)


def texts_of(described: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a stream or of a file."""
    return {key.lower(): str(text) for key, text in described.get("tags", {}).items()}
