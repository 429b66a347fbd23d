"""What names stand for: the sound files of a folder, the format that an extension means, what an output is called."""

from __future__ import annotations

import glob
from pathlib import Path

import soundfile

from denoiser.audio import ffmpeg
from denoiser.errors import AudioError

# Which libsndfile decodes. Not here, though it reads them where they are named: .mat is seldom sound.
EXTENSIONS = frozenset(
    f".{name}"
    for name in "wav wave bwf rf64 w64 flac ogg oga opus mp3 mp2 mp1 aiff aif aifc au snd caf wve voc "
    "svx 8svx iff paf pvf nist sph sds sd2 avr htk xi gsm vox sf ircam".split()
)
FLOATING = ("FLOAT", "DOUBLE")  # subtypes that hold values beyond full scale
BITS = {
    "PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 32, "DOUBLE": 64,
    "ALAC_16": 16, "ALAC_24": 24, "ALAC_32": 32, "DWVW_16": 16, "DWVW_24": 24,
}  # fmt: skip

_FORMATS = {
    "wave": "WAV", "bwf": "WAV", "oga": "OGG", "opus": "OGG", "aif": "AIFF", "aifc": "AIFF", "snd": "AU",
    "8svx": "SVX", "iff": "SVX", "sph": "NIST", "sf": "IRCAM", "mat": "MAT5",
}  # fmt: skip
# What libsndfile 1.2.2 claims to write and does not: Sound Designer keeps the header in a second file.
_READ_ONLY = ("SD2", "RAW")
_SUFFIXES = {".mp1": ".mp3", ".mp2": ".mp3", ".sd2": ".wav", ".gsm": ".wav", ".vox": ".wav"}
_SUBTYPES = {
    ("MP3", "MPEG_LAYER_I"): "MPEG_LAYER_III",  # no encoder
    ("MP3", "MPEG_LAYER_II"): "MPEG_LAYER_III",
    ("WAV", "MPEG_LAYER_III"): "PCM_16",
    ("AIFF", "DWVW_12"): "PCM_16",
    ("CAF", "ALAC_20"): "ALAC_24",  # comes back as noise
    ("SDS", "PCM_S8"): "PCM_16",
    ("SDS", "PCM_24"): "PCM_16",
    ("PAF", "PCM_24"): "PCM_16",  # comes back with other samples at some lengths
    ("VOC", "ULAW"): "PCM_16",  # comes back one sample longer, with a click
    ("VOC", "ALAW"): "PCM_16",
}


def output_suffix(path: str | Path) -> str:
    """The extension for an output that is to be like this input: its own, if what it names can be written.

    ``.wav`` for what ffmpeg decodes (``.m4a``, ``.mp4``, ...) and what has no encoder here.
    """
    suffix = Path(path).suffix
    if suffix.lower() in EXTENSIONS:
        return _SUFFIXES.get(suffix.lower(), suffix)
    return ".wav" if suffix.lower() in ffmpeg.DEMUXERS else suffix


def encoding(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    """The format and subtype to write: as asked where that can be, else the nearest that can.

    A format that is not given, or not one that is written, is the one the extension names; a subtype, the format's own.
    Raises AudioError where the extension names none.
    """
    name = path.suffix.lower().lstrip(".")
    writable = set(soundfile.available_formats()) - set(_READ_ONLY)
    chosen = format or ""
    if chosen not in writable:
        chosen = _FORMATS.get(name, name.upper())
        if chosen not in writable:
            raise AudioError(f"{path}: '{path.suffix}' names no format that can be written; try .wav or .flac")
    if subtype is None or not soundfile.check_format(chosen, subtype):
        subtype = "OPUS" if name == "opus" and chosen == "OGG" else str(soundfile.default_subtype(chosen))
    return chosen, _SUBTYPES.get((chosen, subtype), subtype)


def is_junk(path: Path) -> bool:
    """True for what unpackers leave behind and hidden files: ``__MACOSX``, ``._name``, ``.name``."""
    return "__MACOSX" in path.parts or path.name.startswith(".")


def list_files(source: str | Path) -> list[Path]:
    """The sound files that a path, a folder (searched recursively) or a glob names, sorted.

    In a folder that is every regular file with an extension of EXTENSIONS or of what ffmpeg decodes. Raises AudioError
    where there is none.
    """
    path = Path(source)
    if path.is_dir():
        known = EXTENSIONS | ffmpeg.DEMUXERS.keys()
        found = [p for p in path.rglob("*") if p.suffix.lower() in known and not is_junk(p.relative_to(path))]
        found = [p for p in found if p.is_file()]
        if not found:
            raise AudioError(f"{path}: no sound files in this folder")
        return sorted(found)
    if path.exists():
        return [path]
    matches = [Path(name) for name in glob.glob(str(source), recursive=True)]
    found = sorted(p for p in matches if p.is_file() and not is_junk(p))
    if not found:
        raise AudioError(f"{source}: no such file or folder, and no file matches it as a pattern")
    return found
