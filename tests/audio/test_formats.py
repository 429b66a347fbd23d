"""Formats by extension, and the sound files of a folder."""

import pytest

from denoiser import audio
from denoiser.audio.formats import EXTENSIONS, encoding
from denoiser.errors import AudioError


def test_folders_and_patterns_list_sound_files_without_junk(tmp_path):
    names = ["b/two.flac", "one.wav", "b/film.MP4", "c d/three.Opus", "__MACOSX/one.wav", "._one.wav", "b/.hidden.wav"]
    for name in [*names, "notes.txt", "code.ts", "picture.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in audio.list_files(tmp_path)] == ["film.MP4", "two.flac", "three.Opus", "one.wav"]
    assert [p.name for p in audio.list_files(tmp_path / "*.wav")] == ["one.wav"]
    assert audio.list_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(AudioError, match="no such file"):
        audio.list_files(tmp_path / "missing.wav")


def test_an_output_keeps_an_extension_that_can_be_written_and_is_else_a_wav():
    for suffix in (".wav", ".FLAC", ".mp3", ".opus", ".oga", ".aif", ".w64", ".caf", ".sph"):
        assert audio.output_suffix(f"b/c.d{suffix}") == suffix
    for name in ("a.m4a", "a.MP4", "a.webm", "a.mka", "a.mov", "a.wma", "a.aac", "a.mp2", "a.xi", "a"):
        assert audio.output_suffix(name) == ".wav"


def test_every_extension_that_is_listed_has_an_output_that_can_be_written(tmp_path):
    for suffix in EXTENSIONS:
        target = (tmp_path / "a").with_suffix(audio.output_suffix(f"a{suffix}"))
        assert encoding(target, None, None)
    for name in ("a.m4a", "a.sd2", "a.txt", "a"):
        with pytest.raises(AudioError, match=r"names no format that can be written; try \.wav or \.flac"):
            encoding(tmp_path / name, "mov", "aac")
