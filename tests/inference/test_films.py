"""Films and other containers in, and out again: the sound at its time, and all else as it was."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.audio import container
from denoiser.audio.formats import Extras
from denoiser.audio.muxer import ContainerWriter
from denoiser.errors import AudioError
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import plan

RATE = 48_000
NOISY = make_voice(2.0, RATE) + 0.1 * make_noise(2.0, RATE)
CODECS = {
    "mkv": ("mpeg4", "aac", "srt"), "mp4": ("mpeg4", "aac", "mov_text"), "mov": ("mpeg4", "pcm_s24le", "mov_text"),
    "webm": ("libvpx", "libopus", "webvtt"),
}  # fmt: skip
CHAPTERS = "\n".join(
    [";FFMETADATA1", "title=My film", "artist=Me"]
    + [f"[CHAPTER]\nTIMEBASE=1/1\nSTART={start}\nEND={start + 2}\ntitle=Part {start}" for start in (0, 2)]
)

pytestmark = pytest.mark.skipif(not container.is_installed(), reason="ffmpeg and ffprobe are not on the PATH")


def ffmpeg(*arguments) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


def streams(path) -> list[dict]:
    shown = ["-show_streams", "-show_chapters", "-show_format", "-of", "json"]
    return json.loads(subprocess.run(["ffprobe", "-v", "error", *shown, path], capture_output=True, check=True).stdout)


def delay(sound: torch.Tensor, of: torch.Tensor, rate: int) -> float:
    """Return the seconds by which a sound lags another at 48 kHz."""
    size = 1 << 18
    spectrum = torch.fft.rfft(audio.resample(sound, rate, RATE)[0], size) * torch.fft.rfft(of[0], size).conj()
    return (int(torch.fft.irfft(spectrum).argmax()) + size // 2) % size / RATE - size / 2 / RATE


def make_film(name: str) -> None:
    """Make a film of 4 s with a beep, and the noisy voice as its second sound, from 1.5 s on and the default one."""
    video, sound, text = CODECS[name.split(".")[-1]]
    audio.write("noisy.wav", NOISY, RATE, subtype="PCM_24")
    with open("words.srt", "w") as words, open("chapters.txt", "w") as chapters:
        words.write("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
        chapters.write(CHAPTERS)
    pictures = ["-f", "lavfi", "-i", "testsrc=duration=4:size=64x64:rate=10", "-f", "lavfi", "-i", "sine=duration=4"]
    inputs = [*pictures, "-itsoffset", 1.5, "-i", "noisy.wav", "-i", "words.srt", "-i", "chapters.txt"]
    maps = ["-map", 0, "-map", 1, "-map", 2, "-map", 3, "-map_metadata", 4, "-map_chapters", 4]
    codecs = ["-c:v", video, "-c:a", sound, "-c:s", text]
    for stream, language in (("a:0", "fra"), ("a:1", "deu"), ("s:0", "swe")):
        codecs += [f"-metadata:s:{stream}", f"language={language}"]
    ffmpeg(*inputs, *maps, *codecs, "-disposition:a:0", 0, "-disposition:a:1", "default", name)


@pytest.mark.parametrize("kind", CODECS)
def test_the_sound_of_a_film_keeps_its_place_and_time_in_a_film_and_in_a_wav(denoiser, here, capsys, kind):
    make_film(f"film.{kind}")
    enhance_files(denoiser, plan([f"film.{kind}"], f"clean.{kind}"))
    assert "track 2 of 2" in capsys.readouterr().err
    before, after = streams(f"film.{kind}"), streams(f"clean.{kind}")
    facts = ("codec_name", "codec_type", "channels", "sample_rate", "width")
    assert [[s.get(fact) for fact in facts] for s in after["streams"]] == [
        [s.get(fact) for fact in facts] for s in before["streams"]
    ]
    sounds = [stream for stream in after["streams"] if stream["codec_type"] == "audio"]
    assert [sound["disposition"]["default"] for sound in sounds] == [0, 1]
    # QuickTime has codes of its own for some languages.
    languages = [[stream["tags"].get("language") for stream in film["streams"][1:4]] for film in (before, after)]
    assert languages[1] == (languages[0] if kind == "mov" else ["fra", "deu", "swe"])
    assert [chapter["tags"]["title"] for chapter in after["chapters"]] == ["Part 0", "Part 2"]
    tags = {key.lower(): text for key, text in after["format"]["tags"].items()}
    assert (tags["title"], tags["artist"]) == ("My film", "Me")
    times = []
    enhanced = denoiser.enhance(NOISY, RATE)
    for name in ("film", "clean"):
        found = audio.probe(f"{name}.{kind}")
        begin = min(float(s["start_time"]) for s in streams(f"{name}.{kind}")["streams"] if s["codec_type"] == "video")
        sound, rate = audio.read(f"{name}.{kind}")
        late = delay(sound, NOISY if name == "film" else enhanced, rate)
        times.append(found.start + found.container.shift + late - begin)
        assert times[-1] == pytest.approx(1.5, abs=0.03)
    assert times[1] == pytest.approx(times[0], abs=0.01)
    enhance_files(denoiser, plan([f"film.{kind}"]))
    assert delay(audio.read("film_enhanced.wav")[0], enhanced, RATE) == pytest.approx(1.5, abs=0.03)
    assert audio.probe("film_enhanced.wav").subtype == ("PCM_24" if kind == "mov" else "PCM_16")


def test_a_sound_that_begins_first_is_not_moved(denoiser, here):
    audio.write("noisy.wav", NOISY, RATE)
    ffmpeg("-itsoffset", 0.7, "-f", "lavfi", "-i", "testsrc=d=2:s=64x64", "-i", "noisy.wav", "-c:a", "flac", "a.mkv")
    assert audio.probe("a.mkv").start == 0
    enhance_files(denoiser, plan(["a.mkv"]))
    assert audio.probe("a_enhanced.wav").frames == NOISY.shape[1]


@pytest.mark.parametrize("target", ["clean.mkv", "clean.mp4"])
def test_a_picture_that_begins_after_the_sound_of_a_broadcast_stays_as_late(denoiser, here, target):
    audio.write("noisy.wav", NOISY, RATE)
    picture = ["-itsoffset", 0.8, "-f", "lavfi", "-i", "testsrc=d=2:s=64x64:r=25"]
    ffmpeg(*picture, "-i", "noisy.wav", "-c:v", "mpeg2video", "-c:a", "mp2", "a.ts")
    denoiser.enhance_file("a.ts", target)
    late = []
    for name in ("a.ts", target):
        starts = {stream["codec_type"]: float(stream["start_time"]) for stream in streams(name)["streams"]}
        late.append(starts["video"] - starts["audio"])
    assert late[0] > 0.7
    assert late[1] == pytest.approx(late[0], abs=0.03)


def test_a_program_stream_whose_packets_lack_times_becomes_matroska_and_a_codec_without_an_encoder_is_named(
    denoiser, here
):
    audio.write("noisy.wav", NOISY, RATE)
    picture = ["-f", "lavfi", "-i", "testsrc=d=2:s=64x64:r=25", "-i", "noisy.wav"]
    ffmpeg(*picture, "-c:v", "mpeg2video", "-bf", 2, "-c:a", "mp2", "a.mpg")
    denoiser.enhance_file("a.mpg", "clean.mkv")
    assert len(streams("clean.mkv")["streams"]) == 2
    ffmpeg("-i", "noisy.wav", "-c:a", "dca", "-strict", -2, "a.mka")
    done = denoiser.enhance_file("a.mka", "clean.mka")
    assert done.notes == ("its sound becomes flac: dts is not encoded here",)


def test_flac_inside_of_ogg_becomes_lossy_with_a_line(denoiser, here):
    audio.write("noisy.wav", NOISY, RATE)
    ffmpeg("-i", "noisy.wav", "-c:a", "flac", "-f", "ogg", "a.oga")
    (note,) = denoiser.enhance_file("a.oga", "clean.oga").notes
    assert note.startswith("its sound becomes lossy: flac cannot be written into .oga")
    assert denoiser.enhance_file("a.oga", "clean.flac").notes == ()


def test_a_hole_in_the_sound_stays_a_hole(here):
    audio.write("noisy.wav", NOISY, RATE)
    late = ["-i", "noisy.wav", "-af", "asetpts='PTS+gte(T,1)*0.5/TB'", "-c:a", "pcm_s16le"]
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=3:s=64x64", *late, "a.mkv")
    sound, _ = audio.read("a.mkv")
    assert sound.shape[1] / RATE == pytest.approx(2.5, abs=0.03)
    assert torch.allclose(sound[:, -RATE // 2 :], NOISY[:, -RATE // 2 :], atol=1e-3)


def test_a_track_is_chosen_by_number_and_others_are_kept_in_a_container_that_lacks_their_codec(denoiser, here):
    make_film("film.mkv")
    second = "track 2 of 2 (deu)"
    for track, name, expected in ((None, "clean.m4a", second), (1, "clean.wav", "track 1 of 2"), (2, "2.wav", second)):
        done = denoiser.enhance_file("film.mkv", name, track=track)
        assert done.notes[0].startswith(expected)
    assert [stream["tags"].get("language") for stream in streams("clean.m4a")["streams"][:2]] == ["fra", "deu"]
    assert audio.Reader("film.mkv", 1).info.start == 0
    for name, count in (("film.mkv", "2 sound tracks"), ("noisy.wav", "1 sound track")):
        with pytest.raises(AudioError, match=f"{name}: track=3: the file has {count}"):
            denoiser.enhance_file(name, "no.wav", track=3)


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.mka", "flac"), ("a.webm", "opus")])
def test_a_recording_becomes_a_container_where_that_is_named(denoiser, here, name, codec):
    audio.write("noisy.wav", NOISY, RATE, tags={"title": "Müller", "tracknumber": "3"})
    enhance_files(denoiser, plan(["noisy.wav"], name))
    (stream,) = streams(name)["streams"]
    assert stream["codec_name"] == codec
    assert audio.probe(name).tags["title"] == "Müller"
    sound, rate = audio.read(name)
    assert abs(delay(sound, denoiser.enhance(NOISY, RATE), rate)) < 0.025


@pytest.mark.parametrize(
    ("options", "name", "subtype"),
    [
        (["-c:a", "pcm_s24le"], "a.mov", "PCM_24"), (["-c:a", "pcm_f32le"], "a.mov", "FLOAT"),
        (["-c:a", "alac", "-sample_fmt", "s32p"], "a.m4a", "PCM_24"), (["-c:a", "alac"], "b.m4a", "PCM_24"),
        (["-c:a", "pcm_f64le"], "a.mkv", "DOUBLE"), (["-c:a", "flac", "-sample_fmt", "s16"], "b.mkv", "PCM_16"),
        (["-c:a", "tta", "-sample_fmt", "s32"], "a.tta", "PCM_24"), (["-c:a", "wavpack"], "a.wv", "PCM_32"),
        (["-c:a", "pcm_alaw"], "b.mov", "ALAW"), (["-c:a", "aac"], "c.m4a", "PCM_16"),
        (["-c:a", "pcm_u8"], "c.mkv", "PCM_U8"), (["-c:a", "pcm_f32le"], "floats for a.flac.wav", "PCM_24"),
    ],
)  # fmt: skip
def test_the_samples_of_the_result_are_as_deep_as_those_of_the_source(denoiser, here, options, name, subtype):
    audio.write("noisy.wav", NOISY[:, :9_000], RATE, subtype="PCM_24")
    ffmpeg("-i", "noisy.wav", *options, name)
    target = "clean.flac" if "flac" in name else "clean.wav"
    denoiser.enhance_file(name, target)
    assert audio.probe(target).subtype == subtype


@pytest.mark.parametrize(
    ("layout", "mask"), [("5.1", 0x3F), ("5.1(side)", 0x60F), ("7.1", 0x63F), ("quad(side)", 0x603), ("3.0", 7)]
)
def test_the_speakers_of_a_container_come_back(denoiser, here, layout, mask):
    audio.write("noisy.wav", NOISY[:, :9_000], RATE)
    ffmpeg("-i", "noisy.wav", "-af", f"aformat=channel_layouts={layout}", "-c:a", "pcm_s16le", "a.mov")
    denoiser.enhance_file("a.mov", "clean.wav")
    assert audio.probe("clean.wav").mask == audio.probe("a.mov").mask == mask
    denoiser.enhance_file("clean.wav", "again.mov")
    # AAC has one 5.1, and does not know the side from the back.
    assert audio.probe("again.mov").mask == (0x3F if mask == 0x60F else mask)


@pytest.mark.parametrize(
    ("options", "name"),
    [(["-c:a", "aac", "-f", "adts"], "call.mp3"), (["-c:a", "libopus", "-f", "webm"], "yt.m4a"),
     (["-f", "mp3"], "a.wav"), (["-c:a", "ac3", "-f", "ac3"], "a.flac"), (["-c:a", "mp2", "-f", "mpegts"], "a.mp4"),
     (["-f", "ipod"], "noname"), (["-f", "avi"], "b.wav"), (["-f", "asf"], "a.ogg"), (["-f", "flv"], "a.opus")],
)  # fmt: skip
def test_a_name_that_lies_does_not_matter_and_no_library_chatters(here, capfd, options, name):
    audio.write("noisy.wav", NOISY, 44_100)
    ffmpeg("-i", "noisy.wav", *options, name)
    sound, rate = audio.read(name)
    assert sound.shape[1] / rate == pytest.approx(NOISY.shape[1] / 44_100, abs=0.12)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize("name", ["a.weba", "a.ts", "a.mxf", "a.m2t", "a.mpa"])
def test_other_endings_are_found_in_a_folder(here, name):
    audio.write("noisy.wav", NOISY, RATE)
    kinds = {"a.weba": ["-c:a", "libopus", "-f", "webm"], "a.mxf": ["-c:a", "pcm_s16le"], "a.mpa": ["-f", "mp2"]}
    kind = kinds.get(name, ["-f", "mpegts"])
    (here / "in").mkdir()
    picture = ["-f", "lavfi", "-i", "testsrc=d=1:s=64x64:r=25"] if name == "a.mxf" else []
    ffmpeg(*picture, "-i", "noisy.wav", *kind, f"in/{name}")
    assert [job.source.name for job in plan(["in"])] == [name]
    assert audio.read(f"in/{name}")[0].shape[1] >= RATE


def test_a_container_that_cannot_be_written_is_one_line_and_leaves_nothing(denoiser, here):
    make_film("film.mov")
    with pytest.raises(AudioError, match=r"clean\.webm: cannot be written, says ffmpeg \(Only VP8") as error:
        denoiser.enhance_file("film.mov", "clean.webm")
    assert "\n" not in str(error.value)
    assert not [path.name for path in here.iterdir() if "clean" in path.name]


def test_a_container_says_what_of_a_sound_file_it_changes_and_does_not_keep(here):
    audio.write("a.wav", NOISY, 44_100, extras=Extras("RIFF", ((b"bext", bytes(602)),)))
    with ContainerWriter(Path("a.webm"), audio.probe("a.wav")) as writer:
        writer.write(NOISY)
    resampled = "resampled from 44100 to 48000 Hz, as Opus has no such rate"
    assert writer.notes == [resampled, "not kept, as .webm has no place for them: bext"]
    assert audio.probe("a.webm").sample_rate == 48_000


def test_a_writer_whose_ffmpeg_ended_before_the_last_samples_is_an_error(here):
    audio.write("a.wav", torch.zeros(1, 99), RATE)
    with (
        pytest.raises(AudioError, match=r"a\.m4a: cannot be written"),
        ContainerWriter(Path("a.m4a"), audio.probe("a.wav")) as writer,
    ):
        end(writer)
    assert [path.name for path in here.iterdir()] == ["a.wav"]


def end(writer: ContainerWriter) -> None:
    """End its ffmpeg, as where no memory is left, and write some samples that stay in a buffer."""
    writer._process.kill()
    writer._process.wait()
    writer.write(torch.zeros(1, 9))
