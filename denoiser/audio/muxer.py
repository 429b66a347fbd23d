"""Sound into the containers of films and phones through ffmpeg, beside the picture and all else of the source."""

import os
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from denoiser.audio.container import Container, first_line, input_options, is_cover, is_installed, texts_of
from denoiser.audio.formats import MUXERS, Info, lost, resampled, writable_rate
from denoiser.audio.piped import wav_header
from denoiser.audio.raw import Raw
from denoiser.errors import AudioError
from denoiser.filesystem import atomic_write

# ffmpeg's encoder of a codec, where its name is not the codec's.
_ENCODERS = {"opus": "libopus", "vorbis": "libvorbis", "mp3": "libmp3lame"}
_BEST_BIT_RATES = {"opus": 128_000, "aac": 192_000, "mp3": 192_000, "vorbis": 160_000, "ac3": 448_000, "eac3": 448_000}
_CODECS_OF_SNDFILE = ("VORBIS", "OPUS", "MPEG_LAYER_III")  # lossy ones
_TEXTS = ("subrip", "ass", "ssa", "webvtt", "mov_text", "text")  # subtitles that can be rewritten
_COVERS = ("mjpeg", "png")
_UNSAVED = (b"Error writing trailer", b"Error closing file")  # begins of ffmpeg's lines
_JUMPING = ("mpegts", "mpeg", "ogg")  # formats in which times may begin anew


class ContainerWriter:
    """A container written block by block, as :class:`~.writer.Writer` writes a sound file, with the same errors.

    ``like`` describes the sound and where it is from. All else of a container is copied: pictures, subtitles, chapters,
    tags and other sound tracks. The sound takes the place of the one it was, in its codec if ``path`` can hold that.
    """

    has_headroom = False

    def __init__(self, path: Path, like: Info) -> None:
        if not is_installed():
            raise AudioError(f"{path}: {path.suffix} is written by ffmpeg; install ffmpeg, or name a .wav or .flac")
        self._path = path
        self._muxer = MUXERS[path.suffix.lower()]
        self._start = like.start
        self.notes: list[str] = []
        self._clock: list[str] = []
        codec = self._codec(like)
        # AAC has one 5.1, and does not know the side from the back.
        mask = 0x3F if (codec, like.mask) == ("aac", 0x60F) else like.mask or 0
        # A mask is the way to tell ffmpeg the speakers.
        self._header = wav_header(Raw("f32le", like.sample_rate, like.channels), mask=mask)
        rate = writable_rate("OPUS", like.sample_rate) if codec == "opus" else like.sample_rate
        if rate != like.sample_rate:
            self.notes.append(resampled("Opus", like.sample_rate, rate))
        if like.container is not None:
            self._inputs = input_options(like.container.path, like.container.demuxer)
            if like.container.demuxer == "mpeg":
                # A program stream has no time at some of its packets, and Matroska needs all.
                self._inputs = ["-fflags", "+genpts", *self._inputs]
            self._options = self._from(like.container, codec)
            self._start += like.container.shift
            self._clock = _clock(like.container)
            return
        if like.extras.names:
            self.notes.append(lost(like.extras.names, path.suffix))
        named = {"track" if name == "tracknumber" else name: text for name, text in like.tags.items()}
        tags = [part for name, text in named.items() for part in ("-metadata", f"{name}={text}")]
        self._inputs = []
        self._options = ["-map", "0:a", *_encoding(0, codec, 0), *tags]

    def _codec(self, like: Info) -> str:
        """Choose the codec: that of the source if the container can hold it."""
        if like.container is None:
            return self._muxer.lossy if like.subtype in _CODECS_OF_SNDFILE else self._muxer.usual
        codec = str(like.container.sound["codec_name"])
        if self._muxer.holds(codec):
            return codec
        reason = f"cannot be written into {self._path.suffix}"
        if self._muxer.name == "matroska":
            # It holds any codec, of which some have no encoder.
            reason = "is not encoded here"
        self.notes.append(f"its sound becomes {self._muxer.usual}: {codec} {reason}")
        return self._muxer.usual

    def _from(self, source: Container, kept: str) -> list[str]:
        """Return the options that put the sound at its place among the streams of a source."""
        options: list[str] = []
        place, left = 0, []
        for stream in source.streams:
            index, kind, codec = int(stream["index"]), stream["codec_type"], stream.get("codec_name", "unknown")
            if stream is source.sound:
                flags = [name for name, flag in stream.get("disposition", {}).items() if flag]
                bit_rate = int(stream.get("bit_rate") or texts_of(stream).get("bps") or 0) if kept == codec else 0
                options += ["-map", "0:a", *_encoding(place, kept, bit_rate)]
                options += [f"-disposition:{place}", "+".join(flags) or "0"]
            elif self._is_kept(stream):
                options += ["-map", f"1:{index}", *self._copy(place, kind, codec)]
            else:
                # Chapters and time codes are data, and ffmpeg writes them anew.
                if codec not in ("bin_data", "unknown"):
                    left.append(f"{kind} ({codec})")
                continue
            # One for each stream, as ffmpeg copies none by itself where one is named.
            options += [f"-map_metadata:s:{place}", f"1:s:{index}"]
            place += 1
        if left:
            self.notes.append(lost(left, self._path.suffix))
        return [*options, "-map_metadata", "1", "-map_chapters", "1"]

    def _is_kept(self, stream: dict[str, Any]) -> bool:
        kind, codec = stream["codec_type"], stream.get("codec_name", "unknown")
        if kind == "video":
            as_cover = codec in _COVERS and self._muxer.name != "webm"
            return as_cover if is_cover(stream) else self._muxer.has_picture
        if kind == "subtitle":
            return self._muxer.has_picture and (codec in _TEXTS or self._muxer.name == "matroska")
        return kind == "audio" or (kind == "attachment" and self._muxer.name == "matroska")

    def _copy(self, place: int, kind: str, codec: str) -> list[str]:
        """Return the options of a stream that is kept: as it is if the container can hold it, else encoded anew."""
        if codec in _TEXTS and codec not in self._muxer.kept_subtitles:
            return [f"-c:{place}", self._muxer.subtitles]
        if kind == "audio" and not self._muxer.holds(codec):
            return _encoding(place, self._muxer.usual, 0)
        return [f"-c:{place}", "copy"]

    def __enter__(self) -> "ContainerWriter":
        if self._path.exists() and not self._path.is_file():
            raise AudioError(f"{self._path}: there is something of this name that is not a file")
        with ExitStack() as stack:
            self._partial = stack.enter_context(atomic_write(self._path))
            self._errors: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            sound = ["-itsoffset", f"{self._start:.6f}", "-ignore_length", "1", "-f", "wav", "-i", "pipe:0"]
            name = b"file:" + os.fsencode(self._partial.absolute())
            output: list[str | bytes] = ["-f", self._muxer.name, "-strict", "experimental", name]
            command: list[str | bytes] = ["ffmpeg", "-v", "error", "-y", *sound, *self._inputs, *self._options, *output]
            command += self._clock
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self._errors)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        self._send(self._header)
        return self

    def write(self, block: Tensor) -> None:
        """Append ``[C, n]`` floats in ±1."""
        self._send(block.detach().cpu().float().clamp(-1, 1).T.contiguous().numpy().astype("<f4").tobytes())

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            self._stack.__exit__(kind, *error)
            return
        with self._stack:
            assert self._process.stdin is not None
            # A process that has ended tells why by itself.
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            if self._process.wait():
                raise self._failure()
            self._errors.seek(0)
            # ffmpeg 5 ends with 0 though the last bytes found no room.
            unsaved = next((line for line in self._errors if line.startswith(_UNSAVED)), b"")
            if unsaved:
                why = first_line(unsaved).rpartition(": ")[2]
                raise AudioError(f"{self._path}: not all of it could be written ({why})")

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError:
            self._process.wait()
            raise self._failure() from None

    def _failure(self) -> AudioError:
        advice = "" if self._muxer.name == "matroska" else "; .mkv holds more kinds"
        return AudioError(f"{self._path}: cannot be written, says ffmpeg ({first_line(self._errors)}){advice}")

    def _end(self) -> None:
        self._process.kill()
        # Not communicate(), which would send the rest of a buffer.
        self._process.wait()


def _clock(source: Container) -> list[str]:
    """Return the options of an output to nowhere for the stream of a source that begins first."""
    timed = [stream for stream in source.streams if "start_time" in stream]
    if source.demuxer not in _JUMPING or not timed:
        return []
    # In these formats ffmpeg counts from the first stream that it uses, and the old sound is used by no other output.
    first = min(timed, key=lambda stream: float(stream["start_time"]))
    return ["-map", f"1:{first['index']}", "-c", "copy", "-f", "null", "-"]


def _encoding(place: int, codec: str, bit_rate: int) -> list[str]:
    """Return ffmpeg's options for the sound at a place: at least the usual ``bit_rate``."""
    options = [f"-c:{place}", _ENCODERS.get(codec, codec)]
    if codec in _BEST_BIT_RATES:
        options += [f"-b:{place}", str(max(bit_rate, _BEST_BIT_RATES[codec]))]
    return options
