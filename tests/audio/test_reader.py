"""Reading files: damage, headers that lie, and paths that are no files."""

import os
import struct
from contextlib import suppress

import numpy as np
import pytest
import torch

from conftest import make_noise, make_voice, without_rights
from denoiser import audio
from denoiser.errors import AudioError


def wav_bytes(rate=16_000, channels=1, bits=16, claimed=None, kind=1, data=b"\x00\x01" * 500):
    """Return a WAV whose header states what it is told to."""
    align = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, kind, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    size = len(data) if claimed is None else claimed
    chunks = b"WAVEfmt " + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(36 + size, 0xFFFFFFFF)) + chunks


BROKEN = {"infinity": float("inf"), "3e38": 3e38, "NaN": float("nan")}
READABLE = {
    "4 GB claimed in 1 KB": (wav_bytes(claimed=0xFFFFFFF0), 500),
    "1000 channels": (wav_bytes(channels=1000, data=bytes(2000 * 3)), 3),
    "no data": (wav_bytes(data=b""), 0),
    "half a sample at the end": (wav_bytes(data=b"\x00\x01" * 500 + b"\x01"), 500),
    "AU of 4 GB": (b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFF0, 3, 16_000, 1000) + bytes(100), 0),
}
UNREADABLE = {
    "65535 channels": wav_bytes(channels=65_535),
    "no channels": wav_bytes(channels=0),
    "rate 0": wav_bytes(rate=0),
    "rate 2**31": wav_bytes(rate=2**31),
    "0 bits": wav_bytes(bits=0),
    **{name: wav_bytes(bits=32, kind=3, data=struct.pack("<f", value)) for name, value in BROKEN.items()},
    "empty": b"",
    "text": b"this is text, not sound\n" * 40,
    "RIFF without data": b"RIFF\xff\xff\xff\x7fWAVEfmt ",
    "RF64 that ends in its header": b"RF64\xff\xff\xff\xffWAVEdata\xff\xff\xff\xff",
    "ID3 of 256 MB": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(90),
}


@pytest.mark.parametrize("case", READABLE)
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path, case):
    content, samples = READABLE[case]
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    with audio.Reader(path) as reader:
        # 4 TB, if memory were asked for before the samples are there.
        assert reader.read(1 << 40).shape == (reader.info.channels, samples)
    if not samples:
        with pytest.raises(AudioError, match="holds no samples"):
            audio.read(path)


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_file_that_is_not_sound_is_refused_in_one_line(tmp_path, case):
    path = tmp_path / "talk.wav"
    path.write_bytes(UNREADABLE[case])
    with pytest.raises(AudioError, match=r"talk\.wav: ") as error:
        audio.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.caf", "a.w64"])
def test_damage_is_an_error_or_leaves_a_shorter_recording(tmp_path, name):
    path = tmp_path / name
    audio.write(path, make_noise(1.0, 48_000).repeat(2, 1), 48_000)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    damaged = [whole[:cut] for cut in (len(whole) // 2 + 1, len(whole) - 3, 50, 200)]
    for start in generator.integers(100, len(whole) - 400, 5):
        damaged.append(whole[:start] + generator.bytes(300) + whole[start + 300 :])
    for content in damaged:
        path.write_bytes(content)
        with suppress(AudioError):
            # ffmpeg, which reads an MP3 whose first frame is gone, keeps up to two frames of padding.
            assert audio.read(path)[0].shape[1] <= 48_000 + 2 * 1152


def test_a_damaged_mp3_makes_no_library_chatter(tmp_path, capfd):
    path = tmp_path / "a.mp3"
    audio.write(path, make_voice(3.0, 16_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b"noise" * 99 + content[len(content) // 2 :])
    with audio.Reader(path) as reader:
        reader.read(1 << 20)
        assert reader.notes
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_an_extension_that_lies_does_not_matter(tmp_path):
    audio.write(tmp_path / "a.mp3", make_voice(0.5, 16_000), 16_000)
    for name in ("a.wav", "a.flac", "a.m4a", "a"):
        (tmp_path / name).write_bytes((tmp_path / "a.mp3").read_bytes())
        assert audio.probe(tmp_path / name).format == "MP3"
        assert audio.read(tmp_path / name)[0].shape == (1, 8_000)


def test_only_regular_files_are_opened(tmp_path):
    # Opening a pipe would wait for a writer.
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    for name in ("pipe.wav", "loop.wav", "folder.wav", "missing.wav", "missing/a.wav", "x" * 300 + ".wav", "/dev/zero"):
        with pytest.raises(AudioError, match=r"not a file|no such file|symbolic links|too long"):
            audio.read(tmp_path / name)
    for name in ("pipe.wav", "folder.wav", "/dev/null"):
        with pytest.raises(AudioError, match="is not a file"):
            audio.write(tmp_path / name, torch.zeros(1, 10), 16_000, format="WAV")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.wav", "loop.wav", "pipe.wav"]


def test_a_file_that_this_user_may_not_read_is_refused_as_any_other(here):
    audio.write("closed.wav", torch.zeros(1, 10), 16_000)
    os.chmod("closed.wav", 0)
    with without_rights(here), pytest.raises(AudioError, match=r"closed\.wav: Permission denied"):
        audio.probe("closed.wav")


@pytest.mark.parametrize(
    ("format", "sizes"),
    [("RF64", [(b"ds64", 8, 96), (b"ds64", 16, 0)]), ("W64", [(b"riff", 16, 104), (b"data", 16, 24)])],
)
def test_files_beyond_4_gb_are_read(tmp_path, format, sizes):
    path, frames = tmp_path / "a.wav", 1_250_000_000
    with audio.Writer(path, 48_000, 2, format=format) as writer:
        writer.write(torch.ones(2, 1_000) / 2)
    content = bytearray(path.read_bytes())
    for mark, offset, extra in sizes:
        struct.pack_into("<Q", content, content.index(mark) + offset, 4 * frames + extra)
    path.write_bytes(content)
    # The rest is a hole in the file, which reads as zeros.
    os.truncate(path, len(content) - 4_000 + 4 * frames)
    with audio.Reader(path) as reader:
        assert (reader.info.format, reader.info.frames) == (format, frames)
        block = reader.read(2_000)
    assert torch.equal(block, torch.cat([torch.ones(2, 1_000) / 2, torch.zeros(2, 1_000)], dim=1))
