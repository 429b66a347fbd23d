from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_noise, make_voice

from denoiser import audio
from denoiser.errors import AudioError


@pytest.mark.parametrize(
    ("name", "subtype", "decibels"),
    [
        ("a.wav", "PCM_U8", 30), ("a.wav", "PCM_16", 70), ("a.wav", "PCM_24", 120), ("a.wav", "PCM_32", 120),
        ("a.wav", "FLOAT", 300), ("a.flac", "PCM_16", 70), ("a.ogg", "VORBIS", 10), ("a.mp3", "MPEG_LAYER_III", 10),
    ],
)  # fmt: skip
def test_formats_round_trip(tmp_path, name, subtype, decibels):
    voice = make_voice(0.5, 16_000)
    stereo = torch.cat([voice, 0.5 * voice])
    audio.write(tmp_path / name, stereo, 16_000, subtype=subtype)
    info = audio.probe(tmp_path / name)
    assert (info.sample_rate, info.channels, info.frames, info.subtype) == (16_000, 2, 8_000, subtype)
    back, rate = audio.read(tmp_path / name)
    error = (back - stereo).square().sum().clamp(min=1e-30)
    assert rate == 16_000
    assert 10 * torch.log10(stereo.square().sum() / error) > decibels


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (44_101, 16_000)])
def test_resampling_keeps_length_and_time(source, target):
    voice = make_voice(1.0, source)
    there = audio.resample(voice, source, target)
    assert there.shape[-1] == -(-source * target // source)
    back = audio.match_length(audio.resample(there, target, source), voice.shape[-1])
    spectrum = torch.fft.rfft(back[0]) * torch.fft.rfft(voice[0]).conj()
    assert int(torch.fft.irfft(spectrum).argmax()) == 0  # no delay
    assert 10 * torch.log10(voice.square().sum() / (back - voice).square().sum()) > 20


def test_resampling_removes_what_would_alias():
    time = torch.arange(48_000) / 48_000
    tone = torch.sin(2 * np.pi * 11_000 * time)  # above the 8 kHz that 16 kHz can hold
    assert audio.resample(tone, 48_000, 16_000)[100:-100].abs().max() < 0.01


@pytest.mark.parametrize("content", [b"", b"this is text, not sound\n" * 40, b"RIFF\xff\xff\xff\x7fWAVEfmt "])
def test_what_is_not_audio_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"talk\.wav") as error:
        audio.read(path)
    assert "\n" not in str(error.value)


def test_samples_that_are_not_numbers_are_refused(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        audio.read(tmp_path / "nan.wav")


def test_values_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    audio.write(tmp_path / "loud.wav", torch.tensor([[1.5, -1.5, 0.5]]), 16_000)
    assert torch.allclose(audio.read(tmp_path / "loud.wav")[0], torch.tensor([[1.0, -1.0, 0.5]]), atol=1e-4)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.ogg"
    audio.write(path, make_voice(0.2, 16_000), 16_000)
    before = path.read_bytes()
    with pytest.raises(AudioError, match=r"a\.ogg"):
        audio.write(path, torch.zeros(300, 100), 16_000)  # more channels than Vorbis can hold
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ogg"]


def test_listing_takes_files_folders_and_globs_and_leaves_junk(tmp_path):
    names = ["b/two.flac", "one.wav", "__MACOSX/one.wav", "._one.wav", "b/.hidden.wav", "notes.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in audio.list_files(tmp_path)] == ["two.flac", "one.wav"]
    assert [p.name for p in audio.list_files(tmp_path / "*.wav")] == ["one.wav"]
    assert audio.list_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(AudioError, match="no such file"):
        audio.list_files(tmp_path / "missing.wav")


def test_minutes_of_vorbis_are_written(tmp_path):
    # In one call to libsndfile 1.2.2 this many samples end the process.
    audio.write(tmp_path / "long.ogg", make_voice(1.0, 16_000).repeat(1, 260), 16_000)
    assert audio.probe(tmp_path / "long.ogg").frames == 260 * 16_000


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_blocks_make_the_file_that_one_call_makes(tmp_path, name):
    stereo = torch.cat([make_voice(1.0, 16_000), make_noise(1.0, 16_000)])
    audio.write(tmp_path / name, stereo, 16_000)
    whole, _ = audio.read(tmp_path / name)
    with audio.Reader(tmp_path / name) as reader, audio.Writer(tmp_path / f"b_{name}", 16_000, 2) as writer:
        for _ in range(2):
            blocks = []
            while (block := reader.read(777)).shape[1]:
                blocks.append(block)
            assert torch.equal(torch.cat(blocks, dim=1), whole)
            assert reader.read(777).shape == (2, 0)
            reader.rewind()
        for start in range(0, 16_000, 999):
            writer.write(stereo[:, start : start + 999])
        assert not (tmp_path / f"b_{name}").exists()  # not under its name before it is whole
    assert torch.equal(audio.read(tmp_path / f"b_{name}")[0], whole)


def test_a_writer_that_is_left_by_an_exception_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), audio.Writer(tmp_path / "a.wav", 16_000, 1) as writer:
        writer.write(torch.zeros(1, 100))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
