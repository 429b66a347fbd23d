"""Formats by extension, and the sound files of a folder."""

from __future__ import annotations

import os

import pytest

from denoiser import audio
from denoiser.audio.formats import encoding
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


def test_a_folder_lists_regular_files_alone_and_follows_no_loops(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "self.wav").symlink_to(tmp_path / "self.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    assert [p.name for p in audio.list_files(tmp_path)] == ["a.wav", "link.wav"]
    with pytest.raises(AudioError, match="no sound files in this folder"):
        audio.list_files(tmp_path / "folder.wav")


@pytest.mark.parametrize(
    "name", ["a.wav", "a.FLAC", "a.mp3", "a.opus", "a.oga", "a.aif", "a.w64", "b/c.d.caf", "a.sph"]
)
def test_an_output_keeps_an_extension_that_can_be_written(name):
    assert audio.output_suffix(name) == "." + name.rpartition(".")[2]


@pytest.mark.parametrize("name", ["a.m4a", "a.MP4", "a.webm", "a.mka", "a.mov", "a.wma", "a.aac", "a.mp2", "a.xi", "a"])
def test_every_other_output_is_a_wav(name):
    assert audio.output_suffix(name) == ".wav"


def test_every_extension_that_is_listed_has_an_output_that_can_be_written(tmp_path):
    for suffix in audio.EXTENSIONS:
        target = (tmp_path / "a").with_suffix(audio.output_suffix(f"a{suffix}"))
        assert encoding(target, None, None)
    for name in ("a.m4a", "a.sd2", "a.txt", "a"):
        with pytest.raises(AudioError, match=r"names no format that can be written; try \.wav or \.flac"):
            encoding(tmp_path / name, "mov", "aac")
