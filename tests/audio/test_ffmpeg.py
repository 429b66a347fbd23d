"""Files that ffmpeg decodes."""

import os
import subprocess

import pytest
import soundfile
import torch

from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.audio import container
from denoiser.errors import AudioError

TAGS = {"title": "Müller, 東京", "artist": "Me", "album": "It's", "genre": "Speech"}


def convert(source, target, *options):
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", f"file:{source}", *options, f"file:{target}"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"this ffmpeg does not write {target.suffix}")


@pytest.fixture
def voice(tmp_path):
    if not container.is_installed():
        pytest.skip("ffmpeg and ffprobe are not on the PATH")
    sound = make_voice(2.0, 48_000)
    audio.write(tmp_path / "voice.wav", torch.cat([sound, sound / 2]), 48_000)
    return tmp_path / "voice.wav"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.m4a", ["-c:a", "aac", "-b:a", "192k"]), ("a.m4a", ["-c:a", "alac"]), ("a.mp4", ["-c:a", "aac"]),
        ("a.mov", ["-c:a", "pcm_s16le"]), ("a.mka", ["-c:a", "flac"]), ("a.webm", ["-c:a", "libopus"]),
        ("a.wma", ["-c:a", "wmav2"]), ("a.aac", ["-c:a", "aac"]), ("a.ac3", ["-c:a", "ac3"]), ("a.wv", []),
        ("a.oga", ["-c:a", "flac", "-f", "ogg"]), ("a.caf", ["-c:a", "alac"]),
        ("a.spx", ["-c:a", "libspeex", "-ar", "16000"]),
    ],
)  # fmt: skip
def test_other_containers_are_decoded(tmp_path, voice, name, options):
    path = tmp_path / name
    convert(voice, path, *options)
    with audio.Reader(path) as reader:
        info = reader.info
        assert (info.sample_rate, info.channels) == (16_000 if name == "a.spx" else 48_000, 2)
        assert info.frames == 0
        assert info.seconds == pytest.approx(2.0, abs=0.1)
        sound = torch.cat([reader.read(10_001) for _ in range(12)], dim=1)
        reader.rewind()
        assert torch.equal(reader.read(500), sound[:, :500])
    expected = audio.resample(audio.read(voice)[0], 48_000, info.sample_rate)
    # Some encoders add or cut a delay of up to 2048 samples.
    assert abs(sound.shape[1] - expected.shape[1]) <= 4096
    spectrum = torch.fft.rfft(sound[0], 1 << 18) * torch.fft.rfft(expected[0], 1 << 18).conj()
    similarity = torch.fft.irfft(spectrum).max() / sound[0].norm() / expected[0].norm()
    assert similarity > (0.6 if name == "a.spx" else 0.9)
    assert torch.allclose(sound[1].std() / sound[0].std(), torch.tensor(0.5), atol=0.1)


def test_a_lossless_container_returns_the_samples_and_the_tags(tmp_path, voice):
    tags = [part for key, text in {**TAGS, "track": "3"}.items() for part in ("-metadata", f"{key}={text}")]
    convert(voice, tmp_path / "a.m4a", "-c:a", "alac", *tags)
    assert torch.equal(audio.read(tmp_path / "a.m4a")[0], audio.read(voice)[0])
    info = audio.probe(tmp_path / "a.m4a")
    assert info.tags == {**TAGS, "tracknumber": "3"}
    output = tmp_path / f"a{audio.output_suffix(info.path)}"
    audio.write(output, *audio.read(info.path), format=info.format, subtype=info.subtype, tags=info.tags)
    assert (audio.probe(output).format, audio.probe(output).tags) == ("WAV", info.tags)


@pytest.mark.parametrize(
    "name", ["-i.m4a", "a b'c\"d;$(e).m4a", "http:a.m4a", "concat:a|b.m4a", "%03d.m4a", b"caf\xe9.m4a"]
)
def test_a_name_is_never_taken_for_an_option_or_an_address(tmp_path, monkeypatch, voice, name):
    convert(voice, tmp_path / "plain.m4a", "-c:a", "alac")
    monkeypatch.chdir(tmp_path)
    os.rename("plain.m4a", name)
    assert torch.equal(audio.read(os.fsdecode(name))[0], audio.read(voice)[0])


@pytest.mark.parametrize("name", ["a.m4a", "a.wav"])
@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:9,\nvoice.ts\n", "ffconcat version 1.0\nfile voice.ts\n"])
def test_a_playlist_opens_no_other_file(tmp_path, voice, name, text):
    convert(voice, tmp_path / "voice.ts", "-c:a", "mp2")
    (tmp_path / name).write_text(text)
    with pytest.raises(AudioError, match=rf"{name}: ") as error:
        audio.read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_damaged_container_is_refused_in_one_line(tmp_path, voice):
    convert(voice, tmp_path / "a.m4a", "-movflags", "faststart")
    whole = (tmp_path / "a.m4a").read_bytes()
    middle = len(whole) // 2
    with_a_hole = whole[:middle] + bytes(2_000) + whole[middle + 2_000 :]
    for damaged in (whole[:30], with_a_hole, b"", b"\0" * 999):
        (tmp_path / "b.m4a").write_bytes(damaged)
        with pytest.raises(AudioError, match=r"b\.m4a: ") as error:
            audio.read(tmp_path / "b.m4a")
        assert "\n" not in str(error.value)


def test_a_recording_without_its_index_is_said_to_be_unfinished(tmp_path, voice):
    convert(voice, tmp_path / "a.m4a")
    whole = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"a\.m4a: the recorder did not finish it.*untrunc"):
        audio.read(tmp_path / "a.m4a")


def test_a_container_that_was_cut_off_is_read_as_far_as_it_goes_and_says_so(tmp_path, voice):
    convert(voice, tmp_path / "a.m4a", "-movflags", "faststart")
    whole = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "b.m4a").write_bytes(whole[: 2 * len(whole) // 3])
    length = audio.read(tmp_path / "a.m4a")[0].shape[1]
    with audio.Reader(tmp_path / "b.m4a") as reader:
        assert 0.2 * length < reader.read(2 * length).shape[1] < 0.9 * length
        (note,) = reader.notes
    assert "cut off" in note


@pytest.mark.parametrize(
    ("name", "said"), [("a.aac", "cut off: it ends amid"), ("a.ac3", "cut off: it ends amid"), ("a.wv", "promises")]
)
def test_a_stream_that_was_cut_off_is_read_as_far_as_it_goes_and_one_with_a_hole_is_refused(
    tmp_path, voice, name, said
):
    path = tmp_path / name
    convert(voice, path)
    whole = path.read_bytes()
    middle = len(whole) // 2 + 1
    sound, _ = audio.read(path)
    path.write_bytes(whole[:middle])
    with audio.Reader(path) as reader:
        # In pieces, as the decoder starts anew where it fails.
        cut = torch.cat([reader.read(5_000) for _ in range(30)], dim=1)
        (note,) = reader.notes
    assert said in note
    assert 0.2 * sound.shape[1] < cut.shape[1] < 0.7 * sound.shape[1]
    # Up to the last packet.
    same = cut.shape[1] - 6_000
    assert torch.allclose(cut[:, :same], sound[:, :same], atol=1e-4)
    path.write_bytes(whole[:middle] + b"noise" * 120 + whole[middle + 600 :])
    with pytest.raises(AudioError, match="damaged"):
        audio.read(path)


@pytest.mark.usefixtures("voice")
@pytest.mark.parametrize("cut", [0, 20])
def test_an_mp3_without_an_index_is_read_to_its_end(tmp_path, cut):
    # Variable bit rate: from the first frames, which are large, libsndfile guesses that there are few.
    sound = torch.cat([make_noise(1.0, 16_000), torch.zeros(1, 48_000)], dim=1)
    audio.write(tmp_path / "a.mp3", sound, 16_000)
    whole, _ = audio.read(tmp_path / "a.mp3")
    assert whole.shape == sound.shape
    _, index, frames = (tmp_path / "a.mp3").read_bytes().split(b"\xff\xf3", 2)
    assert b"Xing" in index
    (tmp_path / "b.mp3").write_bytes(b"\xff\xf3" + frames[: len(frames) - cut])
    assert soundfile.info(tmp_path / "b.mp3").frames < 50_000
    back, _ = audio.read(tmp_path / "b.mp3")
    assert audio.probe(tmp_path / "b.mp3").frames == 0
    # 1105 samples are LAME's delay.
    assert torch.allclose(back[:, 1105 : 1105 + 60_000], whole[:, :60_000], atol=1e-5)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_several_ogg_in_a_row_are_read_to_their_end(tmp_path, voice, name):
    path, (sound, rate) = tmp_path / name, audio.read(voice)
    # Each recording of a chain has a number of its own, drawn when it is written.
    audio.write(path, sound, rate)
    first = path.read_bytes()
    audio.write(path, sound, rate)
    path.write_bytes(first + path.read_bytes())
    with audio.Reader(path) as reader:
        assert reader.read(10 * sound.shape[1]).shape[1] == pytest.approx(2 * sound.shape[1], abs=0.03 * rate)
        assert not reader.notes


@pytest.mark.parametrize("tags", [b"", b"TAG" + bytes(125)], ids=["", "tags"])
def test_an_mp3_behind_whose_end_another_follows_says_so(tmp_path, voice, tags):
    path = tmp_path / "a.mp3"
    audio.write(path, *audio.read(voice))
    path.write_bytes(path.read_bytes() + tags)
    assert not audio.probe(path).notes
    path.write_bytes(2 * path.read_bytes())
    assert "another recording follows behind its end" in audio.probe(path).notes[0]


@pytest.mark.parametrize("all_but_last", [False, True])
def test_an_mp3_whose_index_states_no_bytes_or_too_few_is_whole(tmp_path, voice, all_but_last):
    path = tmp_path / "a.mp3"
    audio.write(path, *audio.read(voice))
    whole = path.read_bytes()
    place, stated = whole.index(b"Xing") + 12, whole.rindex(whole[:2]) if all_but_last else 0
    path.write_bytes(whole[:place] + stated.to_bytes(4, "big") + whole[place + 4 :])
    assert not audio.probe(path).notes


@pytest.mark.usefixtures("voice")
def test_a_film_without_sound_is_refused(tmp_path):
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=size=64x64:duration=1", "-c:v", "mpeg4"]
    subprocess.run([*command, str(tmp_path / "a.mp4")], check=True)
    with pytest.raises(AudioError, match=r"a\.mp4: ffmpeg finds no sound in it"):
        audio.probe(tmp_path / "a.mp4")


def test_ffmpeg_ends_when_the_reader_is_closed(tmp_path, voice):
    audio.write(tmp_path / "long.wav", audio.read(voice)[0].repeat(1, 60), 48_000)
    convert(tmp_path / "long.wav", tmp_path / "a.mka", "-c:a", "flac")
    reader = audio.Reader(tmp_path / "a.mka")
    assert reader.read(100).shape == (2, 100)
    process = reader._source._process
    # It does not decode ahead of the reader.
    assert process.poll() is None
    reader.close()
    assert process.poll() is not None
    reader.close()


def test_without_ffmpeg_the_line_says_what_would_decode_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(100))
    with pytest.raises(AudioError, match=r"a\.m4a: \.m4a is decoded by ffmpeg; install ffmpeg, or convert"):
        audio.read(tmp_path / "a.m4a")
    # libsndfile knows WAV itself, so its message counts.
    (tmp_path / "a.wav").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(AudioError, match=r"a\.wav: not readable as audio"):
        audio.read(tmp_path / "a.wav")
