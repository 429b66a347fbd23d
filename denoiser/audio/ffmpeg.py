"""Sound files that libsndfile cannot decode, through the programs ffmpeg and ffprobe if they are installed.

A file may come from anyone. So its extension chooses the demuxer: ffmpeg, left to itself, would take a text for a
playlist and open the files and addresses that it names. No shell is involved.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from denoiser.audio.formats import DEMUXERS, Info, select_tags
from denoiser.errors import AudioError

_ENTRIES = "stream=codec_name,sample_rate,channels,duration:stream_tags:format=duration:format_tags"


def is_installed() -> bool:
    return bool(shutil.which("ffmpeg") and shutil.which("ffprobe"))


class Source:
    """The first sound stream of a file, decoded while it is read; ``info`` holds the facts of its header.

    Raises AudioError if ffmpeg is not installed, or finds no sound in the file.
    """

    def __init__(self, path: Path, demuxer: str | None = None) -> None:
        if not is_installed():
            raise AudioError(f"{path}: {path.suffix} is decoded by ffmpeg; install ffmpeg, or convert the file to WAV")
        self._demuxer = demuxer or DEMUXERS[path.suffix.lower()]
        # "file:", as a name can begin with "http:".
        name = b"file:" + os.fsencode(path.absolute())
        options = ["-v", "error", "-protocol_whitelist", "file,pipe", "-f", self._demuxer]
        self._input: list[str | bytes] = [*options, "-i", name]
        self._process: subprocess.Popen[bytes] | None = None  # of the decoder, which starts at the first block
        self.info = self._probe(path)

    def block(self, samples: int) -> np.ndarray:
        """Return the next ``[n, C]`` float32 samples, ``n <= samples``; AudioError if the stream is damaged."""
        process = self._process or self._start()
        assert process.stdout is not None
        size = 4 * self.info.channels
        data = process.stdout.read(samples * size)
        if len(data) < samples * size and process.wait():
            self._errors.seek(0)
            raise AudioError(f"{self.info.path}: damaged, says ffmpeg ({_last_line(self._errors.read(1 << 16))})")
        whole = len(data) // size
        return np.frombuffer(data, "<f4", whole * self.info.channels).reshape(whole, self.info.channels)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._errors.close()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        rate = str(self.info.sample_rate)
        output = ["-map", "0:a:0", "-ar", rate, "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"]
        command = ["ffmpeg", "-nostdin", "-xerror", *self._input, *output]
        # Errors go to a file: a pipe that nobody reads fills up, and the program waits.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors)
        return self._process

    def _probe(self, path: Path) -> Info:
        command = ["ffprobe", *self._input, "-select_streams", "a:0", "-show_entries", _ENTRIES, "-of", "json"]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        except subprocess.TimeoutExpired as error:
            raise AudioError(f"{path}: ffprobe does not get through it") from error
        if done.returncode:
            raise AudioError(f"{path}: not readable as {self._demuxer} by ffmpeg ({_last_line(done.stderr)})")
        found = json.loads(done.stdout.decode(errors="replace"))
        try:
            stream, container = found["streams"][0], found["format"]
            given = {**stream.get("tags", {}), **container.get("tags", {})}
            texts = {key.lower(): str(text) for key, text in given.items()}
            return Info(
                path=path,
                sample_rate=int(stream["sample_rate"]),
                frames=0,
                channels=int(stream["channels"]),
                format=self._demuxer,
                subtype=str(stream["codec_name"]),
                tags=select_tags({**texts, "tracknumber": texts.get("track", "")}),
                seconds=float(stream.get("duration") or container.get("duration") or 0),
            )
        except (KeyError, IndexError, ValueError) as error:
            raise AudioError(f"{path}: ffmpeg finds no sound in it") from error


def _last_line(errors: bytes) -> str:
    """Return the last thing the program said, without the names of its modules and of the file."""
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    return re.sub(r"^(\[[^]]*\]|file:.*:) *", "", last).strip()
