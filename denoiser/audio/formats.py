"""Sound formats by file extension, those that are written and those that ffmpeg decodes; the facts of a file."""

import glob
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import soundfile

from denoiser.audio.container import Container
from denoiser.audio.signatures import identify
from denoiser.errors import AudioError
from denoiser.filesystem import walk

# Extension → libsndfile's name of the format. An enhanced file keeps its extension and format if they are here.
FORMATS = {
    ".wav": "WAV", ".wave": "WAV", ".bwf": "WAV", ".rf64": "RF64", ".w64": "W64",
    ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OGG", ".mp3": "MP3",
    ".aiff": "AIFF", ".aif": "AIFF", ".aifc": "AIFF", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".sph": "NIST",
}  # fmt: skip

# ffmpeg's demuxer → extensions that it may be used for.
_DEMUXERS = {
    "mov": "m4a m4b m4r mp4 m4v mov qt 3gp 3gpp 3g2 f4v f4a",
    "matroska": "mka mkv webm weba",
    "asf": "wma wmv asf",
    "mpegts": "mts m2ts m2t ts",
    "mpeg": "mpg mpeg vob",
    "ogg": "spx ogv ogx ogm",
    "mp3": "mp1 mp2 mp3 mpa m1a m2a",
    "amr": "amr awb", "eac3": "eac3 ec3", "oma": "oma aa3", "rm": "rm ra rmvb", "iff": "dff", "truehd": "thd",
    "dts": "dts", "avi": "avi divx", "mpc": "mpc", "dv": "dv", "nut": "nut", "wtv": "wtv", "gxf": "gxf",
    "aac": "aac", "ac3": "ac3", "flv": "flv", "ape": "ape", "wv": "wv", "tta": "tta",
    "tak": "tak", "voc": "voc", "gsm": "gsm", "mxf": "mxf", "shn": "shn", "dsf": "dsf",
}  # fmt: skip
DEMUXERS = {f".{name}": demuxer for demuxer, names in _DEMUXERS.items() for name in names.split()}
EXTENSIONS = frozenset(FORMATS) | frozenset(DEMUXERS)
_SHARED = (".ts", ".mts")  # also TypeScript's: in a folder the first bytes decide


class Muxer(NamedTuple):
    """A container that ffmpeg writes. Empty ``codecs`` are any; ``usual`` is the codec for others."""

    name: str
    usual: str
    lossy: str
    codecs: tuple[str, ...] = ()
    has_picture: bool = True
    subtitles: str = "copy"
    kept_subtitles: tuple[str, ...] = ()

    def holds(self, codec: str) -> bool:
        """Return True for a codec that the container can hold, and ffmpeg write."""
        return codec in (self.codecs or _ENCODED) or (codec.startswith("pcm_") and self.name in ("mov", "matroska"))


_ENCODED = ("aac", "alac", "flac", "opus", "vorbis", "mp3", "mp2", "ac3", "eac3", "wavpack", "tta", "wmav2")
_OF_MP4 = ("aac", "alac", "flac", "opus", "mp3", "ac3", "eac3")
_MATROSKA = Muxer("matroska", "flac", "opus", subtitles="srt", kept_subtitles=("subrip", "ass", "ssa", "webvtt"))
_MOV = Muxer(
    "mov", "aac", "aac", ("aac", "alac", "mp3", "ac3", "eac3"), subtitles="mov_text", kept_subtitles=("mov_text",)
)
# Extension → container that is written where output= names it.
MUXERS = {
    ".m4a": Muxer("ipod", "aac", "aac", ("aac", "alac", "ac3", "eac3"), has_picture=False),
    ".mp4": _MOV._replace(name="mp4", codecs=_OF_MP4), ".m4v": _MOV._replace(name="mp4", codecs=_OF_MP4),
    ".mov": _MOV, ".mkv": _MATROSKA, ".mka": _MATROSKA._replace(has_picture=False),
    ".webm": Muxer("webm", "opus", "opus", ("opus", "vorbis"), subtitles="webvtt", kept_subtitles=("webvtt",)),
}  # fmt: skip

FLOATING = ("FLOAT", "DOUBLE")  # subtypes that hold values beyond full scale
BITS = {
    "PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64,
    "ALAC_16": 16, "ALAC_24": 24,
}  # fmt: skip
_KEPT = frozenset(BITS) | {"ULAW", "ALAW", "OPUS"}

# Parts that are texts: chunks of WAV, AIFF and CAF, and the tags of FLAC and MP3.
_TEXTS = {b"INFO", b"NAME", b"AUTH", b"ANNO", b"(c) ", b"info", b"tags", b"old tags"}
# Format → family of its extras.
FAMILIES = {
    "AIFF": "AIFF", "CAF": "CAF", "FLAC": "FLAC", "MP3": "MP3", "OGG": "OGG",
    "WAV": "RIFF", "WAVEX": "RIFF", "RF64": "RIFF",
}  # fmt: skip
MASKED = ("WAVEX", "RF64")  # formats that can hold any mask of speakers
# Channels → the mask that FLAC and OGG mean by their number.
MASKS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
# Channels → place in Vorbis' order of each one in the order of WAV, which is that of all others here.
VORBIS = {
    3: [0, 2, 1],
    5: [0, 2, 1, 3, 4],
    6: [0, 2, 1, 5, 3, 4],
    7: [0, 2, 1, 6, 5, 3, 4],
    8: [0, 2, 1, 7, 5, 6, 3, 4],
}

_RATES = {  # Hz, of codecs that know only these
    "OPUS": (8_000, 12_000, 16_000, 24_000, 48_000),
    "MPEG_LAYER_III": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
}

TAGS = ("title", "artist", "album", "tracknumber", "date", "genre", "comment", "copyright", "license", "software")
# Format → the tags that libsndfile drops without an error; the software is about the file, and not told.
UNHELD = {
    **dict.fromkeys(("AU", "NIST", "W64"), TAGS[:-1]), **dict.fromkeys(("WAV", "WAVEX", "RF64"), ("license",)),
    "AIFF": ("album", "tracknumber", "date", "genre", "license"), "MP3": ("copyright", "license"),
}  # fmt: skip


@dataclass(frozen=True)
class Extras:
    """Parts of a file beside its sound, name and content, which are copied into another of the same ``family``.

    ``inner`` are the names of texts and covers inside of parts that are none of TAGS.
    """

    family: str = ""
    parts: tuple[tuple[bytes, bytes], ...] = ()
    inner: tuple[str, ...] = ()

    @property
    def _kinds(self) -> set[bytes]:
        """Names of the parts; of a LIST it is its kind: adtl for labels."""
        return {content[:4] if name == b"LIST" else name for name, content in self.parts}

    @property
    def names(self) -> list[str]:
        """Names of all that is lost where the parts are, but for tags."""
        return sorted({*self.inner, *(name.decode("latin-1").strip() for name in self._kinds - _TEXTS)})

    @property
    def has_texts(self) -> bool:
        """True if texts are among the parts: tags need not be written beside them."""
        return bool(self._kinds & _TEXTS)


@dataclass(frozen=True)
class Info:
    """The facts of a file's header; ``format`` and ``subtype`` are libsndfile's names, or else ffmpeg's.

    ``frames`` is the number of samples per channel, 0 if the header does not know it: MP3 without an index, streamed
    FLAC, everything that ffmpeg decodes. ``seconds`` is a guess then, or 0.

    ``mask`` has a bit for each speaker, those of WAVE_FORMAT_EXTENSIBLE in its order; None if the file does not say.
    ``notes`` are sentences on what is wrong with the file though it can be read. ``start`` is the time in seconds from
    the begin of a film to that of its sound, ``container`` all of what ffmpeg says.
    """

    path: Path
    sample_rate: int
    frames: int
    channels: int
    format: str
    subtype: str
    tags: Mapping[str, str]
    seconds: float
    mask: int | None = None
    extras: Extras = Extras()
    notes: tuple[str, ...] = ()
    start: float = 0.0
    container: Container | None = None


def output_suffix(path: str | Path) -> str:
    """Return the extension for the enhanced version of a file: its own if that can be written, else ``.wav``."""
    suffix = Path(path).suffix
    return suffix if suffix.lower() in FORMATS else ".wav"


def encoding(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    """Return the format and subtype to write: those asked for if they can be written, else the nearest.

    The format defaults to that of the extension, and raises AudioError if that has none. The subtype defaults to that
    of the format, in place of codecs that libsndfile writes badly (ADPCM, GSM, MPEG inside a WAV) too.
    """
    suffix = path.suffix.lower()
    if format not in FORMATS.values() and format != "WAVEX":
        format = FORMATS.get(suffix)
    if format is None:
        raise AudioError(f"{path}: '{path.suffix}' names no format that can be written; try .wav or .flac")
    if subtype in ("ALAC_20", "ALAC_32"):
        # libsndfile 1.2.2 writes noise in these.
        subtype = "ALAC_24"
    if format == "AIFF" and BITS.get(subtype or "", 8) == 8:
        # libsndfile 1.2.2 counts the byte that pads an odd number of them as a sample.
        subtype = "PCM_16"
    if BITS.get(subtype or "", 0) > 16 and not soundfile.check_format(format, str(subtype)):
        # The next best: FLAC holds no floats, WAV no ALAC.
        subtype = "PCM_24"
    if subtype in _KEPT and soundfile.check_format(format, subtype):
        return format, str(subtype)
    if suffix == ".opus" and format == "OGG":
        return format, "OPUS"
    return format, str(soundfile.default_subtype(format))


def writable_rate(subtype: str, rate: int) -> int:
    """Return the sample rate to write: the given one if the codec knows it, else the next that loses no band."""
    known = _RATES.get(subtype, (rate,))
    return min((other for other in known if other >= 0.99 * rate), default=known[-1])


def lost(parts: Sequence[str], format: str) -> str:
    """Return the note on parts of the source that a format does not keep."""
    return f"not kept, as {format} has no place for them: {', '.join(parts)}"


def resampled(codec: str, old: int, new: int) -> str:
    """Return the note on another sample rate than that of the source."""
    return f"resampled from {old} to {new} Hz, as {codec} has no such rate"


def select_tags(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the non-empty TAGS among ``texts``, each cut to 2000 bytes of UTF-8: longer ones break a WAV."""
    cut = {name: texts.get(name, "").encode()[:2000].decode(errors="ignore") for name in TAGS}
    return {name: text for name, text in cut.items() if text}


def list_files(source: str | Path) -> list[Path]:
    """Return the sound files that a path, a folder (searched recursively) or a glob pattern names, sorted.

    In a folder these are the regular files with an extension of EXTENSIONS. Raises AudioError if there is none.
    """
    path = Path(source)
    if path.is_dir():
        closed: list[OSError] = []
        found = [file for file in _visible(walk(path, closed.append)) if _has_sound_extension(file)]
        problem = "no sound files in this folder"
        if closed:
            problem += f", as far as it may be opened ({closed[0].filename}: {closed[0].strerror})"
    elif path.exists():
        return [path]
    else:
        found = _visible(Path(name) for name in glob.glob(str(source), recursive=True))
        problem = "no such file or folder, and no file matches it as a pattern"
    if not found:
        raise AudioError(f"{source}: {problem}")
    return sorted(found)


def list_others(folder: Path, refused: Callable[[OSError], object] | None = None) -> list[Path]:
    """Return the files that :func:`list_files` leaves aside in a folder, but hidden ones; ``refused`` as of walk."""
    return [file for file in _visible(walk(folder, refused)) if not _has_sound_extension(file)]


def _visible(files: Iterable[Path]) -> list[Path]:
    # Unpackers leave hidden files and the folder __MACOSX behind.
    return [file for file in files if file.name[0] != "." and "__MACOSX" not in file.parts and file.is_file()]


def _has_sound_extension(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix not in _SHARED:
        return suffix in EXTENSIONS
    try:
        return identify(file) is not None
    except OSError:
        # Its turn tells why it cannot be read.
        return True
