"""Tags and covers of files that come back as themselves."""

import json
import subprocess

import pytest
import torch

from conftest import make_voice
from denoiser import audio
from denoiser.audio import container

pytestmark = pytest.mark.skipif(not container.is_installed(), reason="ffmpeg and ffprobe are not on the PATH")
TEXTS = {"title": "Müller", "artist": "Me", "composer": "Bach", "album_artist": "All", "comment": "So", "mood": "Blue"}
RATE = 44_100


def described(path) -> tuple[dict[str, str], list[str]]:
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    texts = {**found["format"].get("tags", {}), **found["streams"][0].get("tags", {})}
    return {key.lower(): text for key, text in texts.items()}, [stream["codec_name"] for stream in found["streams"]]


def make(path, cover: bool = True) -> None:
    audio.write(path.with_suffix(".wav"), make_voice(1.0, RATE), RATE)
    image = path.with_name("cover.png")
    quiet = ["ffmpeg", "-v", "error", "-y"]
    subprocess.run([*quiet, "-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", image], check=True)
    picture = ["-i", image, "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"]
    tags = [part for key, text in TEXTS.items() for part in ("-metadata", f"{key}={text}")]
    old = ["-write_id3v1", "1"] if path.suffix == ".mp3" else []
    subprocess.run([*quiet, "-i", path.with_suffix(".wav"), *(picture if cover else []), *tags, *old, path], check=True)


@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_all_tags_and_the_cover_come_back(tmp_path, suffix):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    make(source)
    info = audio.probe(source)
    with audio.Writer(target, RATE, 1, tags=info.tags, extras=info.extras, subtype=info.subtype) as writer:
        writer.write(audio.read(source)[0])
    assert writer.notes == []
    texts, kinds = described(target)
    assert {key: texts[key] for key in TEXTS} == TEXTS
    assert kinds == [suffix[1:], "png"]
    assert audio.probe(target).tags == info.tags
    assert audio.read(target)[0].shape == audio.read(source)[0].shape
    if suffix == ".flac":
        assert torch.equal(audio.read(target)[0], audio.read(source)[0])
    else:
        assert target.read_bytes()[-128:] == source.read_bytes()[-128:]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_an_mp3_with_old_tags_alone_keeps_them_and_names_nothing_else(tmp_path):
    old = b"TAG" + b"Alphabetically".ljust(125, b"\0")
    audio.write(tmp_path / "a.mp3", make_voice(1.0, RATE), RATE)
    (tmp_path / "a.mp3").write_bytes((tmp_path / "a.mp3").read_bytes() + old)
    extras = audio.probe(tmp_path / "a.mp3").extras
    assert (extras.parts, extras.names) == (((b"old tags", old),), [])
    audio.write(tmp_path / "b.mp3", make_voice(1.0, RATE), RATE, extras=extras)
    assert (tmp_path / "b.mp3").read_bytes()[-128:] == old


def test_the_speakers_that_a_tag_of_a_flac_states_come_back(tmp_path):
    source = tmp_path / "a.flac"
    audio.write(tmp_path / "a.wav", make_voice(0.1, RATE), RATE)
    tag = ["-metadata", "WAVEFORMATEXTENSIBLE_CHANNEL_MASK=0x0107", "-af", "pan=4.0|c0=c0|c1=c0"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", *tag, source], check=True)
    info = audio.probe(source)
    assert info.mask == 0x107
    for name in ("b.wav", "b.flac"):
        with audio.Writer(tmp_path / name, RATE, 4, mask=info.mask, tags=info.tags, extras=info.extras) as writer:
            writer.write(audio.read(source)[0])
        assert writer.notes == []
        assert audio.probe(tmp_path / name).mask == 0x107


@pytest.mark.parametrize(("name", "target"), [("a.ogg", "b.ogg"), ("a.opus", "b.opus"), ("a.opus", "b.ogg")])
@pytest.mark.parametrize("length", [10, 700, 60_000])
def test_all_tags_of_ogg_come_back_or_are_said(tmp_path, monkeypatch, name, target, length):
    monkeypatch.setitem(TEXTS, "mood", "Blue " * (length // 5))
    make(tmp_path / name, cover=False)
    info = audio.probe(tmp_path / name)
    sound, rate = audio.read(tmp_path / name)
    with audio.Writer(tmp_path / target, rate, 1, tags=info.tags, extras=info.extras) as writer:
        writer.write(sound)
    again = audio.probe(tmp_path / target)
    assert again.tags["title"] == info.tags["title"] == "Müller"
    assert audio.read(tmp_path / target)[0].shape == sound.shape
    if length < 60_000:
        assert writer.notes == []
        texts, _ = described(tmp_path / target)
        assert {key: texts[key] for key in TEXTS} == TEXTS
    else:
        (note,) = writer.notes
        assert "mood" in note


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".ogg", ".m4a", ".mka"])
def test_tags_that_another_format_does_not_keep_are_said_once(tmp_path, suffix):
    make(tmp_path / f"a{suffix}", cover=suffix in (".flac", ".mp3", ".m4a"))
    info = audio.probe(tmp_path / f"a{suffix}")
    with audio.Writer(tmp_path / "b.wav", RATE, 1, tags=info.tags, extras=info.extras) as writer:
        writer.write(torch.zeros(1, 9))
    (note,) = writer.notes
    assert note.startswith("not kept, as WAV has no place for them: ")
    assert ("cover" in note) == (suffix in (".flac", ".mp3", ".m4a"))
    assert "TCOM" in note or "composer" in note
    assert "title" not in note
    assert audio.probe(tmp_path / "b.wav").tags["title"] == "Müller"
