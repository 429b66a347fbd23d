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
