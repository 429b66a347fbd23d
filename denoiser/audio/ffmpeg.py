"""Sound that libsndfile cannot decode, through the programs ffmpeg and ffprobe if they are installed.

A file may come from anyone. So its first bytes or its extension choose the demuxer: ffmpeg, left to itself, would take
a text for a playlist and open the files and addresses that it names. No shell is involved.
"""

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from denoiser.audio.container import (
    Container,
    breaks_at_end,
    examine,
    first_line,
    input_options,
    is_cover,
    is_cut_off,
    is_installed,
    start_of,
    texts_of,
)
from denoiser.audio.formats import DEMUXERS, TAGS, Extras, Info, select_tags
from denoiser.errors import AudioError

# Formats with a time for every packet: where some are missing there is silence.
_TIMED = ("matroska", "mov", "mpegts", "mpeg", "flv", "asf")

# Tags about the file, and not about its sound; a track is a tracknumber.
_TECHNICAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration", "track")

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
_STATING = ("mov", "matroska", "wv", "tta")  # formats that state how long they are
_CUT_OFF = "cut off: it ends amid a packet"
_SKIPPED = 1 << 16  # samples per channel at once
_LOSSLESS = ("alac", "flac", "wavpack", "tta", "ape", "tak", "shorten", "truehd", "mlp", "wmalossless")


class Source:
    """A sound track of a file, decoded while it is read; ``info`` holds the facts of its header.

    The track is the one that the file calls its default, if none is asked for. Raises AudioError if ffmpeg is not
    installed, finds no sound in the file, or not that track.
    """

    def __init__(self, path: Path, demuxer: str | None = None, track: int | None = None) -> None:
        usual = DEMUXERS.get(path.suffix.lower())
        self._demuxer = demuxer or str(usual)
        if not is_installed():
            kind = path.suffix if self._demuxer == usual else f"{self._demuxer}, which its first bytes are of,"
            raise AudioError(f"{path}: {kind} is decoded by ffmpeg; install ffmpeg, or convert the file to WAV")
        self._process: subprocess.Popen[bytes] | None = None  # of the decoder, which starts at the first block
        try:
            self._container = examine(path, self._demuxer, track)
            self.info = _info(self._container)
        except (KeyError, ValueError) as error:
            raise AudioError(f"{path}: ffmpeg finds no sound in it") from error
        self._is_strict = not is_cut_off(path, self._demuxer)  # any error is damage
        self._given = 0  # samples per channel
        self.notes: list[str] = []
        # Seconds, 0 if unknown: other formats state none, and ffprobe guesses.
        self.promised = self.info.seconds if self._demuxer in _STATING else 0.0

    def block(self, samples: int) -> np.ndarray:
        """Return the next ``[n, C]`` float32 samples, ``n <= samples``; AudioError if the stream is damaged."""
        process = self._process or self._start()
        assert process.stdout is not None
        size = 4 * self.info.channels
        data = process.stdout.read(samples * size)
        if len(data) < samples * size and process.wait():
            why = first_line(self._errors)
            index = int(self._container.sound["index"])
            if not (self._is_strict and breaks_at_end(self.info.path, self._demuxer, index)):
                raise AudioError(f"{self.info.path}: damaged, says ffmpeg ({why})")
            self.notes.append(_CUT_OFF)
            self._is_strict = False
            self._skip_given()
            return self.block(samples)
        whole = len(data) // size
        self._given += whole
        return np.frombuffer(data, "<f4", whole * self.info.channels).reshape(whole, self.info.channels)

    def _skip_given(self) -> None:
        """Start once more, and leave out what was given: a decoder that stops at an error loses what it had ready."""
        self.close()
        left, self._given = self._given, 0
        while left and len(block := self.block(min(left, _SKIPPED))):
            left -= len(block)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._errors.close()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["-map", f"0:{self._container.sound['index']}", "-ar", str(self.info.sample_rate)]
        if self._demuxer in _TIMED:
            options += ["-af", "aresample=async=1"]
        source = input_options(self.info.path, self._demuxer)
        output = [*options, "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"]
        strictness = ["-xerror"] if self._is_strict else []
        command = ["ffmpeg", "-v", "error", "-nostdin", *strictness, *source, *output]
        # Errors go to a file: a pipe that nobody reads fills up, and the program waits.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors)
        return self._process


def _info(container: Container) -> Info:
    sound, tags = container.sound, texts_of(container.sound)
    start = max(0.0, start_of(sound) - container.begin)
    if "duration" in sound:
        seconds = float(sound["duration"])
    else:
        # Matroska states the time of a track's end; the whole file's is as good if there is no other track.
        end = _clock(tags.get("duration", "")) or (container.seconds if len(container.streams) == 1 else 0.0)
        seconds = max(0.0, end - start)
    texts = {**tags, **container.tags}
    # Names of tags that no sound file of libsndfile keeps, and of a cover.
    others = {*container.tags, *(["cover"] if any(map(is_cover, container.streams)) else [])} - {*TAGS, *_TECHNICAL}
    notes = []
    if len(container.sounds) > 1:
        language = f" ({tags['language']})" if "language" in tags else ""
        notes.append(f"track {container.number} of {len(container.sounds)}{language}; track= takes another")
    return Info(
        path=container.path,
        sample_rate=int(sound["sample_rate"]),
        frames=0,
        channels=int(sound["channels"]),
        format=container.demuxer,
        subtype=_subtype(sound),
        tags=select_tags({**texts, "tracknumber": texts.get("track", "")}),
        seconds=seconds,
        mask=_mask(sound.get("channel_layout", "")),
        start=start,
        container=container,
        notes=tuple(notes),
        extras=Extras(container.demuxer, inner=tuple(sorted(others))),
    )


def _clock(text: str) -> float:
    """Return the seconds of ``00:01:02.5``, as Matroska states durations; 0 for other texts."""
    parts = text.split(":")
    return sum(float(part) * 60**power for power, part in enumerate(reversed(parts))) if len(parts) == 3 else 0.0


def _mask(layout: str) -> int | None:
    names = re.findall(r"[A-Z]+", layout) if layout not in _LAYOUTS else []
    if names and all(name in _SPEAKERS for name in names):
        return sum(1 << _SPEAKERS.index(name) for name in set(names))
    return _LAYOUTS.get(layout)


def _subtype(sound: dict[str, Any]) -> str:
    """Return libsndfile's name of samples that hold a sound's own without loss, or of PCM_16 for a lossy codec."""
    codec, format = str(sound["codec_name"]), str(sound.get("sample_fmt", "")).removesuffix("p")
    if codec in ("pcm_alaw", "pcm_mulaw"):
        return "ALAW" if codec == "pcm_alaw" else "ULAW"
    if not codec.startswith(("pcm_", "dsd_", *_LOSSLESS)):
        return "PCM_16"
    if format in ("flt", "dbl"):
        return "FLOAT" if format == "flt" else "DOUBLE"
    raw = sound.get("bits_per_raw_sample") or sound.get("bits_per_sample") or _WIDTHS.get(format, 16)
    bits = min(-(-int(raw) // 8) * 8, 32)
    return "PCM_U8" if bits == 8 else f"PCM_{bits}"
