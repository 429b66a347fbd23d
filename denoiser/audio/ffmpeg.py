"""Sound that libsndfile cannot decode, through the programs ffmpeg and ffprobe if they are installed.

A file may come from anyone. So its first bytes or its extension choose the demuxer: ffmpeg, left to itself, would take
a text for a playlist and open the files and addresses that it names. No shell is involved.
"""

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from denoiser.audio.container import Container, examine, first_line, input_options, is_cover, is_cut_off, is_installed
from denoiser.audio.formats import DEMUXERS, TAGS, Extras, Info, select_tags
from denoiser.errors import AudioError

# Formats with a time for every packet: where some are missing there is silence.
_TIMED = ("matroska", "mov", "mpegts", "mpeg", "flv", "asf")

# Tags about the file, and not about its sound; a track is a tracknumber.
_TECHNICAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration", "track")


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
        self._container = examine(path, self._demuxer)
        self.track = self._container.choose(track)
        self.info = _info(self._container, self.track)
        # Seconds, 0 if unknown: other formats state none, and ffprobe guesses.
        self.promised = self.info.seconds if self._demuxer in ("mov", "matroska") else 0.0

    def block(self, samples: int) -> np.ndarray:
        """Return the next ``[n, C]`` float32 samples, ``n <= samples``; AudioError if the stream is damaged."""
        process = self._process or self._start()
        assert process.stdout is not None
        size = 4 * self.info.channels
        data = process.stdout.read(samples * size)
        if len(data) < samples * size and process.wait():
            raise AudioError(f"{self.info.path}: damaged, says ffmpeg ({first_line(self._errors)})")
        whole = len(data) // size
        return np.frombuffer(data, "<f4", whole * self.info.channels).reshape(whole, self.info.channels)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._errors.close()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["-map", f"0:{self._container.tracks[self.track - 1].index}", "-ar", str(self.info.sample_rate)]
        if self._demuxer in _TIMED:
            options += ["-af", "aresample=async=1"]
        source = input_options(self.info.path, self._demuxer)
        output = [*options, "-c:a", "pcm_f32le", "-f", "f32le", "pipe:1"]
        strictness = [] if is_cut_off(self.info.path, self._demuxer) else ["-xerror"]
        command = ["ffmpeg", "-v", "error", "-nostdin", *strictness, *source, *output]
        # Errors go to a file: a pipe that nobody reads fills up, and the program waits.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors)
        return self._process


def _other_texts(container: Container) -> list[str]:
    """Return the names of tags that no sound file of libsndfile keeps, and of a cover."""
    covers = ["cover"] if any(map(is_cover, container.streams)) else []
    return sorted({*container.tags, *covers} - {*TAGS, *_TECHNICAL})


def _info(container: Container, number: int) -> Info:
    track = container.tracks[number - 1]
    texts = {**track.tags, **container.tags}
    notes = []
    if len(container.tracks) > 1:
        language = f" ({track.tags['language']})" if "language" in track.tags else ""
        notes.append(f"track {number} of {len(container.tracks)}{language}; track= takes another")
    return Info(
        path=container.path,
        sample_rate=track.sample_rate,
        frames=0,
        channels=track.channels,
        format=container.demuxer,
        subtype=track.subtype,
        tags=select_tags({**texts, "tracknumber": texts.get("track", "")}),
        seconds=track.seconds,
        mask=track.mask,
        start=track.start,
        container=container,
        track=number,
        notes=tuple(notes),
        extras=Extras(container.demuxer, inner=tuple(_other_texts(container))),
    )
