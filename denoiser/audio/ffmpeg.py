"""Sound out of containers that libsndfile does not know, by the programs ffmpeg and ffprobe where they are installed.

A file may come from anyone. So its extension chooses the demuxer: ffmpeg, left to itself, would take a text for a
playlist and open the files and addresses that it names. No shell is involved.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from denoiser.audio.libsndfile import tags_of
from denoiser.errors import AudioError

_DEMUXERS = {
    "mov": "m4a m4b m4r mp4 m4v mov qt 3gp 3g2",
    "matroska": "mka mkv webm",
    "asf": "wma wmv asf",
    "mpegts": "mts m2ts",
    "mpeg": "mpg mpeg vob",
    "ogg": "spx ogv ogg oga",  # Speex, and FLAC in OGG
    "caf": "caf",
    "wav": "wav",
    "aac": "aac", "amr": "amr", "ac3": "ac3", "eac3": "eac3", "dts": "dts", "avi": "avi", "flv": "flv",
    "ape": "ape", "wv": "wv", "tta": "tta",
}  # fmt: skip
DEMUXERS = {f".{name}": demuxer for demuxer, names in _DEMUXERS.items() for name in names.split()}
_SHOWN = "stream=codec_name,sample_rate,channels,duration:stream_tags:format=duration:format_tags"


class Source:
    """The first sound stream of a file, decoded while it is read.

    Raises AudioError where the programs are not installed, or find no sound in the file.
    """

    length = 0  # samples; unknown, as containers state durations, which are near

    def __init__(self, path: Path) -> None:
        self.path = path
        self.format = DEMUXERS[path.suffix.lower()]
        self._process: subprocess.Popen[bytes] | None = None  # from the first block on
        self._input: list[str | bytes] = ["-v", "error", "-protocol_whitelist", "file,pipe", "-f", self.format]
        self._input += ["-i", b"file:" + os.fsencode(path.absolute())]  # "file:", as a name can begin with "http:"
        found = self._probe()
        streams = found.get("streams") or [{}]
        stream, container = streams[0], found.get("format", {})
        try:
            self.samplerate, self.channels = int(stream["sample_rate"]), int(stream["channels"])
            self.subtype = str(stream["codec_name"])
        except (KeyError, ValueError) as error:
            raise AudioError(f"{path}: ffmpeg finds no sound in it") from error
        self.seconds = float(stream.get("duration") or container.get("duration") or 0)
        both = {**stream.get("tags", {}), **container.get("tags", {})}
        texts = {key.lower(): str(text) for key, text in both.items()}
        self.tags = tags_of({**texts, "tracknumber": texts.get("track", "")})

    def block(self, samples: int) -> np.ndarray:
        """The next ``[n, C]`` float32 samples, ``n <= samples``; AudioError where the stream is damaged."""
        if self._process is None:
            output = ["-map", "0:a:0", "-ar", str(self.samplerate), "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"]
            command = [self._find("ffmpeg"), "-nostdin", "-xerror", *self._input, *output]
            # Not a pipe: one that nobody reads fills up, and the program waits.
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
            )
        assert self._process.stdout is not None
        size = 4 * self.channels
        data = self._process.stdout.read(samples * size)
        if len(data) < samples * size and self._process.wait():
            self._errors.seek(0)
            raise AudioError(f"{self.path}: damaged, says ffmpeg ({self._reason(self._errors.read(1 << 16))})")
        return np.frombuffer(data, "<f4", len(data) // size * self.channels).reshape(-1, self.channels)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._errors.close()
            self._process = None

    def _probe(self) -> dict[str, Any]:
        command = [
            self._find("ffprobe"),
            *self._input,
            "-select_streams",
            "a:0",
            "-show_entries",
            _SHOWN,
            "-of",
            "json",
        ]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        except (subprocess.TimeoutExpired, OSError) as error:
            raise AudioError(f"{self.path}: ffprobe does not get through it") from error
        if done.returncode:
            raise AudioError(f"{self.path}: not readable as {self.format} by ffmpeg ({self._reason(done.stderr)})")
        return dict(json.loads(done.stdout.decode(errors="replace")))

    def _find(self, program: str) -> str:
        found = shutil.which(program)
        if found is None:
            raise AudioError(
                f"{self.path}: {self.path.suffix} is decoded by ffmpeg, and there is no {program} here; "
                "install ffmpeg, or convert the file to WAV"
            )
        return found

    def _reason(self, errors: bytes) -> str:
        lines = errors.decode(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "no reason given")
        return re.sub(r"^(\[[^]]*\]|file:.*:) *", "", last).strip()
