"""Chunks of sound files: headers of recorders that crashed, files cut off, and chunks beside the sound."""

import os
import struct

import pytest
import soundfile
import torch

from conftest import make_noise
from denoiser import audio
from denoiser.errors import AudioError

RATE = 16_000
NOISE = make_noise(10.0, RATE)
BEXT = b"Scene 1".ljust(256, b"\0") + b"Recorder".ljust(82, b"\0") + struct.pack("<Q", 86_400 * 48_000) + bytes(264)
CUE = struct.pack("<IIIIIII", 1, 7, 500, 0x61746164, 0, 0, 500)
LABEL = b"adtl" + b"labl" + struct.pack("<I", 10) + struct.pack("<I", 7) + b"Take!\0"
EXTRAS = [(b"bext", BEXT), (b"iXML", b"<BWFXML><TAPE>A01</TAPE></BWFXML>"), (b"cue ", CUE), (b"LIST", LABEL)]


def written(path, format, subtype="PCM_16", sound=NOISE):
    soundfile.write(path, sound.T.numpy(), RATE, subtype, format=format)
    return bytearray(path.read_bytes())


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks of a WAV, by a parser of its own."""
    assert len(content) == 8 + struct.unpack_from("<I", content, 4)[0]
    found, place = [], 12
    while place < len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        found.append((name, content[place + 8 : place + 8 + size]))
        place += 8 + size + size % 2
    assert place == len(content)
    return found


def with_extras(content: bytes) -> bytes:
    """Return a WAV with a chunk before its sound, and the others behind it."""
    parts = [struct.pack("<4sI", name, len(text)) + text + bytes(len(text) % 2) for name, text in EXTRAS]
    body = content[12:36] + parts[0] + content[36:] + b"".join(parts[1:])
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


CRASHED = {
    "WAV of no length": ("WAV", [(4, bytes(4)), (40, bytes(4))]),
    "WAV whose data alone has none": ("WAV", [(40, bytes(4))]),
    "WAV of an earlier second": ("WAV", [(4, struct.pack("<I", 32_036)), (40, struct.pack("<I", 32_000))]),
    "WAVE_FORMAT_EXTENSIBLE of no length": ("WAVEX", [(4, bytes(4)), (76, bytes(4))]),
    "RF64 of no length": ("RF64", [(20, bytes(24))]),
    "W64 of no length": ("W64", [(16, bytes(8)), ("data", 16, bytes(8))]),
    "AIFF of no length": ("AIFF", [(4, bytes(4)), (22, bytes(4)), ("SSND", 4, bytes(4))]),
    "CAF of no length": ("CAF", [("data", 4, bytes(8))]),
    "AU of no length": ("AU", [(8, bytes(4))]),
}  # fmt: skip


@pytest.mark.parametrize("case", CRASHED)
def test_a_file_whose_recorder_crashed_is_read_to_its_end_with_a_line(tmp_path, case):
    format, changes = CRASHED[case]
    path = tmp_path / "a.wav"
    content = written(path, format)
    expected, _ = audio.read(path)
    for *mark, offset, bytes_there in changes:
        start = offset + (content.index(mark[0].encode()) if mark else 0)
        content[start : start + len(bytes_there)] = bytes_there
    path.write_bytes(content)
    with audio.Reader(path) as reader:
        assert torch.equal(reader.read(1 << 20), expected)
        assert reader.info.frames == expected.shape[1]
        (note,) = reader.notes
        reader.rewind()
        assert torch.equal(reader.read(1000), expected[:, :1000])
    assert "read to the end of the file" in note
    assert "header" in note


@pytest.mark.parametrize(("format", "offsets"), [("WAV", (4, 40)), ("AU", (8,))])
def test_a_file_that_was_written_into_a_pipe_is_whole(tmp_path, format, offsets):
    content = written(tmp_path / "a.wav", format)
    for offset in offsets:
        content[offset : offset + 4] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    with audio.Reader(tmp_path / "a.wav") as reader:
        assert reader.read(1 << 20).shape == NOISE.shape
        assert not reader.notes


def test_what_lies_behind_the_sound_and_is_none_is_not_read(tmp_path):
    path = tmp_path / "a.wav"
    content = written(path, "WAV")
    for tail in (b"TAG" + b"x" * 125, bytes(1 << 17), b"LIST\x04\0\0\0INFO", b"\0"):
        path.write_bytes(content + tail)
        assert audio.read(path)[0].shape == NOISE.shape
        assert not audio.probe(path).notes
    empty = written(path, "WAV", sound=NOISE[:, :0])
    path.write_bytes(empty + b"LIST\x04\0\0\0INFO")
    assert (audio.probe(path).frames, audio.probe(path).notes) == (0, ())


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "MP3"])
def test_a_file_that_was_cut_off_says_how_much_its_header_promises(tmp_path, format):
    path = tmp_path / "a.wav"
    content = written(path, format, "MPEG_LAYER_III" if format == "MP3" else "PCM_16")
    os.truncate(path, len(content) * 58 // 100)
    with audio.Reader(path) as reader:
        seconds = reader.read(1 << 20).shape[1] / RATE
        (note,) = reader.notes
    assert seconds == pytest.approx(5.8, abs=0.2)
    assert note == f"cut off: its header promises {10 - seconds:.1f} s more"


@pytest.mark.parametrize(("format", "said"), [("FLAC", "cut off: its header promises"), ("OGG", "cut off: its stream")])
def test_a_stream_that_was_cut_off_is_read_as_far_as_it_goes_with_a_line(tmp_path, format, said):
    path = tmp_path / "a"
    content = written(path, format, "VORBIS" if format == "OGG" else "PCM_16")
    whole = audio.read(path)[0]
    assert not audio.probe(path).notes
    os.truncate(path, len(content) * 58 // 100)
    with audio.Reader(path) as reader:
        # The second time as the first.
        for _ in range(2):
            reader.rewind()
            sound = reader.read(1 << 20)
            (note,) = reader.notes
            assert note.startswith(said)
            assert sound.shape[1] / RATE == pytest.approx(5.8, abs=1.2)
            assert torch.equal(sound, whole[:, : sound.shape[1]])
            assert reader.read(1 << 20).shape == (1, 0)
    if format == "FLAC":
        # Whoever reads a file as a whole wants all of it.
        with pytest.raises(AudioError, match=r"a: damaged after \d+ samples"):
            audio.read(path)


def test_a_flac_that_was_cut_off_gives_all_of_its_whole_frames(tmp_path):
    path = tmp_path / "a.flac"
    content = written(path, "FLAC")
    whole = audio.read(path)[0]
    os.truncate(path, len(content) * 58 // 100)
    lengths = []
    for first in (4096, 1000):
        with audio.Reader(path) as reader:
            # Frames of 4096 samples, of which the second time each call begins amid one.
            sound = torch.cat([reader.read(first), reader.read(1 << 20)], dim=1)
        assert torch.equal(sound, whole[:, : sound.shape[1]])
        lengths.append(sound.shape[1])
    assert lengths[0] == lengths[1]


def test_a_flac_that_is_damaged_in_its_middle_is_an_error(tmp_path):
    path = tmp_path / "a.flac"
    content = written(path, "FLAC")
    path.write_bytes(content[: len(content) // 3] + bytes(99) + content[len(content) // 3 + 99 :])
    with audio.Reader(path) as reader, pytest.raises(AudioError, match="damaged after"):
        reader.read(1 << 20)


def test_a_big_wave_of_the_itu_is_read(tmp_path):
    content = written(tmp_path / "a.wav", "RF64")
    expected, _ = audio.read(tmp_path / "a.wav")
    content[:4] = b"BW64"
    (tmp_path / "a.wav").write_bytes(content)
    assert torch.equal(audio.read(tmp_path / "a.wav")[0], expected)


@pytest.mark.parametrize(("format", "offset"), [("W64", 16), ("CAF", 4)])
def test_a_crashed_recorder_may_have_stored_more_than_4_gb(tmp_path, format, offset):
    path = tmp_path / "a.wav"
    content = written(path, format)
    start = content.index(b"data") + offset
    content[start : start + 8] = bytes(8)
    path.write_bytes(content)
    frames = audio.probe(path).frames
    os.truncate(path, len(content) + (5 << 30))
    assert audio.probe(path).frames == frames + (5 << 29)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
def test_a_wav_of_no_length_is_read_beyond_4_gb(tmp_path, format, size):
    path = tmp_path / "a.wav"
    content = written(path, format)
    start = content.index(b"data") + 4
    content[4:8] = content[start : start + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    sound, _ = audio.read(path)
    os.truncate(path, len(content) + (5 << 30))
    with audio.Reader(path) as reader:
        assert reader.info.frames == sound.shape[1] + (5 << 29)
        assert torch.equal(reader.read(NOISE.shape[1]), sound)


@pytest.mark.parametrize(("format", "size"), [("WAV", (2 << 30) - 1000), ("RF64", 5 << 30)])
def test_chunks_behind_a_sound_of_a_size_that_streams_state_are_no_sound(tmp_path, format, size):
    path = tmp_path / "a.wav"
    content = written(path, format)
    place = content.index(b"data") + 4
    start = place + 4
    if format == "RF64":
        struct.pack_into("<Q", content, 28, size)
    else:
        struct.pack_into("<I", content, place, size)
    path.write_bytes(content)
    with open(path, "r+b") as file:
        file.seek(start + size)
        file.write(b"LIST" + struct.pack("<I", len(LABEL)) + LABEL)
    info = audio.probe(path)
    assert (info.frames, info.extras.parts) == (size // 2, ((b"LIST", LABEL),))
    os.truncate(path, start + size // 2)
    # A WAV that is cut off could as well be of a stream.
    assert [note.partition(":")[0] for note in audio.probe(path).notes] == ["cut off"] * (format == "RF64")


@pytest.mark.parametrize("name", ["b.wav", "b.rf64"])
def test_chunks_of_a_field_recorder_come_back(tmp_path, name):
    path, target = tmp_path / "a.wav", tmp_path / name
    path.write_bytes(with_extras(bytes(written(path, "WAV"))))
    info = audio.probe(path)
    audio.write(target, *audio.read(path), extras=info.extras, tags=info.tags)
    assert torch.equal(audio.read(target)[0], audio.read(path)[0])
    assert sorted(audio.probe(target).extras.parts) == sorted(EXTRAS)
    if name == "b.wav":
        assert [chunk for chunk in chunks_of(target.read_bytes()) if chunk in EXTRAS] == EXTRAS
    # Twice is the same as once.
    audio.write(path, *audio.read(target), extras=audio.probe(target).extras)
    assert sorted(audio.probe(path).extras.parts) == sorted(EXTRAS)


def test_chunks_behind_the_sound_of_a_w64_are_not_sound(tmp_path):
    path = tmp_path / "a.w64"
    content = (
        written(path, "W64") + b"bext" + bytes.fromhex("f3acd3118cd100c04f8edb8a") + struct.pack("<Q", 32) + b"12345678"
    )
    struct.pack_into("<Q", content, 16, len(content))
    path.write_bytes(content)
    assert audio.read(path)[0].shape == NOISE.shape
    assert audio.probe(path).extras.parts == ((b"bext", b"12345678"),)


@pytest.mark.parametrize(("format", "name"), [("AIFF", b"MARK"), ("CAF", b"mark")])
def test_markers_of_aiff_and_caf_come_back(tmp_path, format, name):
    path, target = tmp_path / "a", tmp_path / "b"
    content = written(path, format) + name + struct.pack(">I" if format == "AIFF" else ">q", 10) + b"0123456789"
    if format == "AIFF":
        struct.pack_into(">I", content, 4, len(content) - 8)
    path.write_bytes(content)
    audio.write(target, *audio.read(path), format=format, extras=audio.probe(path).extras)
    assert audio.probe(target).extras.parts == ((name, b"0123456789"),)
    assert torch.equal(audio.read(target)[0], audio.read(path)[0])


def test_a_format_without_a_place_for_chunks_says_so(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(with_extras(bytes(written(path, "WAV"))))
    with audio.Writer(tmp_path / "a.flac", RATE, 1, extras=audio.probe(path).extras) as writer:
        writer.write(NOISE)
    assert writer.notes == ["not kept, as FLAC has no place for them: adtl, bext, cue, iXML"]


@pytest.mark.parametrize(
    ("name", "unknown"),
    [("b.flac", ["IENG"]), ("b.aiff", ["IENG", "album"]), ("b.w64", ["IENG", "title", "album"]), ("b.wav", [])],
)
def test_texts_of_a_wav_that_another_format_does_not_keep_are_said_once(tmp_path, name, unknown):
    path, target = tmp_path / "a.wav", tmp_path / name
    texts = b"INFOINAM\4\0\0\0SongIPRD\4\0\0\0DiskIENG\2\0\0\0Jo"
    content = written(path, "WAV") + b"LIST" + struct.pack("<I", len(texts)) + texts
    struct.pack_into("<I", content, 4, len(content) - 8)
    path.write_bytes(content)
    info = audio.probe(path)
    with audio.Writer(target, RATE, 1, tags=info.tags, extras=info.extras) as writer:
        writer.write(NOISE)
    assert [note.partition(": ")[2] for note in writer.notes] == ([", ".join(unknown)] if unknown else [])
    assert audio.probe(target).tags == {tag: text for tag, text in info.tags.items() if tag not in unknown}
    assert unknown or (b"LIST", texts) in audio.probe(target).extras.parts


@pytest.mark.parametrize(
    ("mask", "channels"),
    [(0x63F, 8), (0xFF, 8), (0x60F, 6), (0x3F, 6), (0x603, 4), (0x33, 4), (0x7, 3), (0x103, 3), (0x4, 1), (0, 5)],
)
def test_the_layout_of_speakers_comes_back(tmp_path, mask, channels):
    path = tmp_path / "a.wav"
    content = written(path, "WAVEX", sound=NOISE[:, : 100 * channels].reshape(channels, 100))
    struct.pack_into("<I", content, 40, mask)
    path.write_bytes(content)
    info = audio.probe(path)
    assert info.mask == mask
    for name in ("b.wav", "b.rf64"):
        audio.write(tmp_path / name, *audio.read(path), format=info.format, mask=info.mask)
        assert audio.probe(tmp_path / name).mask == mask
        assert torch.equal(audio.read(tmp_path / name)[0], audio.read(path)[0])
    with audio.Writer(tmp_path / "b.w64", RATE, channels, mask=mask) as writer:
        writer.write(torch.zeros(channels, 9))
    lost = ["not kept, as W64 has no place for it: the layout of the speakers"]
    assert writer.notes == (lost if mask and channels > 2 else [])


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "a.flac"])
@pytest.mark.parametrize("channels", [3, 4, 5, 6, 7, 8])
def test_each_speaker_keeps_its_sound_in_the_order_of_another_format(tmp_path, name, channels):
    frequencies = 300 * (1 + torch.arange(channels))[:, None]
    tones = 0.2 * torch.sin(2 * torch.pi * frequencies * torch.arange(48_000) / 48_000)
    audio.write(tmp_path / name, tones, 48_000)
    info = audio.probe(tmp_path / name)
    back = audio.read(tmp_path / name)[0]
    heard = 2 * torch.fft.rfft(back[:, 12_000:36_000]).abs().argmax(dim=1)
    # Opus takes all but the lowest sound from the speaker of low frequencies.
    kept = [c for c in range(channels) if not (name != "a.flac" and channels > 5 and c == 3)]
    assert heard[kept].tolist() == frequencies[kept, 0].tolist()
    audio.write(tmp_path / "b.wav", back, 48_000, format=info.format, subtype="PCM_16", mask=info.mask)
    assert info.mask == {3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}[channels]
