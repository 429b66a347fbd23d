from __future__ import annotations

import os
import resource
import struct
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import torch
from conftest import make_noise, make_voice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from denoiser import audio
from denoiser.audio import writer as writing
from denoiser.audio.formats import BITS, FLOATING
from denoiser.audio.libsndfile import TAGS
from denoiser.errors import AudioError

RATES = (8_000, 16_000, 44_100, 44_101, 192_000)
PAIRS = [
    (f, s) for f in soundfile.available_formats() for s in soundfile.available_subtypes(f) if f not in ("RAW", "SD2")
]
# What libsndfile does not bring back as it is, and the subtype that it becomes.
REPLACED = {
    ("CAF", "ALAC_20"): "ALAC_24", ("SDS", "PCM_S8"): "PCM_16", ("SDS", "PCM_24"): "PCM_16",
    ("VOC", "ULAW"): "PCM_16", ("VOC", "ALAW"): "PCM_16", ("PAF", "PCM_24"): "PCM_16",
}  # fmt: skip
LOSSLESS = [
    (f, s)
    for f, s in PAIRS
    if s in BITS
    and (f, s) != ("PAF", "PCM_24")  # libsndfile's own comes back wrong
    and f in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "NIST", "MAT5", "IRCAM", "PVF", "PAF")
]


def snr(clean, estimate):
    return float(10 * torch.log10(clean.square().sum() / (estimate - clean).square().sum().clamp(min=1e-30)))


def blocks_of(path, samples):
    with audio.Reader(path) as reader:
        return list(iter_blocks(reader, samples)), reader.info


def iter_blocks(reader, samples):
    while (block := reader.read(samples)).shape[1]:
        yield block


def wav_bytes(rate=16_000, channels=1, bits=16, claimed=None, kind=1, data=b"\x00\x01" * 500):
    """A WAV whose header says what it is told to."""
    align = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, kind, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    size = len(data) if claimed is None else claimed
    chunks = b"WAVEfmt " + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(36 + size, 0xFFFFFFFF)) + chunks


@pytest.mark.parametrize(
    ("name", "subtype", "decibels"),
    [
        ("a.wav", "PCM_U8", 35), ("a.wav", "PCM_16", 84), ("a.wav", "PCM_24", 130), ("a.wav", "PCM_32", 140),
        ("a.wav", "FLOAT", 300), ("a.flac", "PCM_16", 84), ("a.ogg", "VORBIS", 10), ("a.mp3", "MPEG_LAYER_III", 10),
        ("a.opus", "OPUS", 10),
    ],
)  # fmt: skip
def test_formats_round_trip(tmp_path, name, subtype, decibels):
    voice = make_voice(0.5, 16_000)
    stereo = torch.cat([voice, 0.5 * voice])
    audio.write(tmp_path / name, stereo, 16_000, subtype=subtype)
    info = audio.probe(tmp_path / name)
    assert (info.sample_rate, info.channels, info.frames, info.subtype) == (16_000, 2, 8_000, subtype)
    back, rate = audio.read(tmp_path / name)
    assert rate == 16_000
    assert snr(stereo, back) > decibels


@pytest.mark.parametrize(("format", "subtype"), PAIRS)
def test_every_format_and_subtype_comes_back(tmp_path, format, subtype):
    tried, voice = 0, make_voice(0.25, 16_000)
    for channels in (1, 2, 8):
        sound = voice * torch.linspace(1, 0.5, channels)[:, None] + 0.01
        source, target = tmp_path / f"{channels}.in", tmp_path / f"{channels}.out"
        with suppress(soundfile.SoundFileError):
            with soundfile.SoundFile(str(source), "w", 16_000, channels, subtype, format=format) as file:
                file.write(sound.T.numpy())
            tried += 1
            blocks, info = blocks_of(source, 777)
            before = torch.cat(blocks, dim=1)
            assert before.shape == (channels, info.frames)
            tags = {"format": info.format, "subtype": info.subtype}
            with audio.Writer(target, info.sample_rate, channels, **tags) as writer:
                for block in blocks:
                    writer.write(block)
            after, info_after = audio.read(target)[0], audio.probe(target)
            assert info_after.subtype == REPLACED.get((format, subtype), subtype)
            assert (info_after.format, info_after.sample_rate, info_after.frames) == (
                format, info.sample_rate, info.frames,
            )  # fmt: skip
            assert snr(before, after) > (80 if BITS.get(subtype, 0) > 8 else 5)
    if not tried:
        pytest.skip("libsndfile does not write it")


@pytest.mark.parametrize("channels", [1, 2, 32])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus", "a.aiff", "a.caf", "a.w64", "a.rf64"])
def test_every_rate_and_number_of_channels_comes_back_or_is_refused(tmp_path, name, channels):
    most = {"a.flac": 8, "a.mp3": 2}.get(name, 1000)
    rates = {"a.mp3": RATES[:3], "a.opus": RATES[:2]}.get(name, RATES)
    for rate in RATES:
        sound = make_voice(1000 / rate, rate).repeat(channels, 1)
        if channels > most or rate not in rates:
            with pytest.raises(AudioError, match=rf"cannot be written .* {rate} Hz, {channels} channels"):
                audio.write(tmp_path / name, sound, rate)
            assert not list(tmp_path.iterdir())
            continue
        audio.write(tmp_path / name, sound, rate)
        info = audio.probe(tmp_path / name)
        assert (info.sample_rate, info.channels, info.frames) == (rate, channels, 1000)
        (tmp_path / name).unlink()


@given(
    pair=st.sampled_from(LOSSLESS), rate=st.integers(1_000, 192_000), channels=st.integers(1, 4),
    samples=st.integers(1, 5_000), block=st.integers(1, 6_000), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lossless_subtypes_return_the_samples(tmp_path, pair, rate, channels, samples, block, seed):
    format, subtype = pair
    sound = torch.rand(channels, samples, generator=torch.Generator().manual_seed(seed)) * 2.2 - 1.1
    step = 0.0 if subtype in FLOATING else 2.0 ** (1 - min(BITS[subtype], 24))  # read as float32: 24 bits
    path = tmp_path / "x"
    with audio.Writer(path, rate, channels, format=format, subtype=subtype, frames=samples) as writer:
        for start in range(0, samples, block):
            writer.write(sound[:, start : start + block])
    blocks, info = blocks_of(path, block)
    back = torch.cat(blocks, dim=1)
    assert (info.format, info.subtype, info.sample_rate, back.shape) == (format, subtype, rate, sound.shape)
    kept = sound if subtype in FLOATING else sound.clamp(-1, 1 - step)
    assert float((back - kept).abs().max()) <= max(step / 2, 2**-23)  # the nearest that the subtype holds
    audio.write(path, back, rate, format=format, subtype=subtype)
    assert torch.equal(audio.read(path)[0], back)  # bit for bit


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus"])
def test_blocks_make_the_file_that_one_call_makes(tmp_path, name):
    stereo = torch.cat([make_voice(2.0, 16_000), make_noise(2.0, 16_000)])
    audio.write(tmp_path / name, stereo, 16_000)
    whole, _ = audio.read(tmp_path / name)
    with audio.Reader(tmp_path / name) as reader, audio.Writer(tmp_path / f"b_{name}", 16_000, 2) as writer:
        for _ in range(2):
            assert torch.equal(torch.cat(list(iter_blocks(reader, 777)), dim=1), whole)
            assert reader.read(777).shape == (2, 0)
            reader.rewind()
        for start in range(0, 32_000, 999):
            writer.write(stereo[:, start : start + 999])
        assert not (tmp_path / f"b_{name}").exists()  # not under its name before it is whole
    assert torch.equal(audio.read(tmp_path / f"b_{name}")[0], whole)


def test_mp3_without_an_index_is_read_to_its_end(tmp_path):
    # Variable bit rate: from the first frames, which are large, libsndfile guesses that there are few.
    sound = torch.cat([make_noise(1.0, 16_000), torch.zeros(1, 48_000)], dim=1)
    audio.write(tmp_path / "a.mp3", sound, 16_000)
    whole, _ = audio.read(tmp_path / "a.mp3")
    assert whole.shape == sound.shape  # what LAME pads is cut off
    _, index, frames = (tmp_path / "a.mp3").read_bytes().split(b"\xff\xf3", 2)
    assert b"Xing" in index
    for cut in (0, 20):  # where the last frame is cut off, what is there is there
        path = tmp_path / f"{cut}.mp3"
        path.write_bytes(b"\xff\xf3" + frames[: len(frames) - cut])
        assert soundfile.info(path).frames < 50_000
        back, _ = audio.read(path)
        assert audio.probe(path).frames == 0
        assert back.shape[1] >= 64_000 - 2_000 * (cut > 0)
        assert torch.equal(back[:, 1105 : 1105 + 60_000], whole[:, :60_000])  # what LAME puts in front stays


def test_aiff_of_an_odd_number_of_bytes_ends_where_it_ends(tmp_path):
    for subtype in ("PCM_S8", "PCM_U8", "ULAW", "ALAW"):
        for samples in (1, 2, 1_001):
            audio.write(
                tmp_path / "a.aiff", torch.full((1, samples), 0.25), 8_000, subtype=subtype, tags={"title": "T"}
            )
            back, _ = audio.read(tmp_path / "a.aiff")
            assert torch.allclose(back, torch.full((1, samples), 0.25), atol=0.02)
            assert audio.probe(tmp_path / "a.aiff").tags["title"] == "T"


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.caf", "a.rf64", "a.aiff"])
def test_tags_come_back(tmp_path, name):
    kept = {
        "a.aiff": {"title", "artist", "comment", "software"},
        "a.wav": set(TAGS) - {"license"}, "a.rf64": set(TAGS) - {"license"}, "a.mp3": set(TAGS) - {"license"},
    }.get(name, set(TAGS))  # fmt: skip
    tags = {tag: f"{tag} 1" if tag == "software" else f"{tag} of Müller, 東京" for tag in TAGS}
    audio.write(tmp_path / name, make_voice(0.5, 16_000), 16_000, tags=tags | {"unknown": "x", "title": "é" * 3_000})
    found = audio.probe(tmp_path / name).tags
    assert found.pop("title") == "é" * 1_000  # 2000 bytes are what every format can hold
    assert found.pop("software").startswith("software 1")  # libsndfile puts its own name behind it
    assert {tag: tags[tag] for tag in kept - {"title", "software"}} == {k: v for k, v in found.items() if k in kept}
    audio.write(tmp_path / f"b_{name}", *audio.read(tmp_path / name), tags=audio.probe(tmp_path / name).tags)
    assert audio.probe(tmp_path / f"b_{name}").tags == audio.probe(tmp_path / name).tags
    assert audio.read(tmp_path / name)[0].shape == (1, 8_000)


@pytest.mark.parametrize(
    ("content", "samples"),
    [
        (wav_bytes(claimed=0xFFFFFFF0), 500),  # 4 GB, in 1 KB
        (wav_bytes(claimed=0xFFFFFFFF), 500),  # what a recorder writes that cannot go back
        (wav_bytes(channels=1000), 0), (wav_bytes(channels=1000, data=bytes(2000 * 3)), 3),
        (wav_bytes(channels=65_535), None), (wav_bytes(channels=0), None),
        (wav_bytes(rate=0), None), (wav_bytes(rate=2**31 - 1), None), (wav_bytes(rate=2**31), None),
        (wav_bytes(bits=0), None), (wav_bytes(data=b""), 0), (wav_bytes(data=b"\x01"), 0),
        (wav_bytes(data=b"\x00\x01" * 500 + b"\x01"), 500),
        (wav_bytes(bits=32, kind=3, data=struct.pack("<f", float("inf"))), None),
        (wav_bytes(bits=32, kind=3, data=struct.pack("<f", 3e38)), None),
        (wav_bytes()[:30], None), (b"", None), (b"this is text, not sound\n" * 40, None),
        (b"RIFF\xff\xff\xff\x7fWAVEfmt ", None), (b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(90), None),
        (b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFF0, 3, 16_000, 1000) + bytes(100), 0),
        (b"fLaC" + bytes(200), None), (b"OggS" + bytes(200), None),
    ],
)  # fmt: skip
def test_headers_that_lie_cost_one_line_and_no_memory(tmp_path, content, samples):
    path = tmp_path / "talk.wav"
    path.write_bytes(content)
    if samples is None:
        with pytest.raises(AudioError, match=r"talk\.wav: ") as error:
            audio.read(path)
        assert "\n" not in str(error.value)
        return
    with audio.Reader(path) as reader:
        assert reader.read(1 << 40).shape == (reader.info.channels, samples)  # would be 4 TB, were it taken at its word
    if not samples:
        with pytest.raises(AudioError, match="holds no samples"):
            audio.read(path)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.caf", "a.w64"])
def test_damage_is_an_error_or_what_is_left(tmp_path, name):
    path = tmp_path / name
    audio.write(path, make_noise(1.0, 48_000).repeat(2, 1), 48_000)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for cut in (len(whole) // 2 + 1, len(whole) - 3, 50, 200):
        path.write_bytes(whole[:cut])
        with suppress(AudioError):
            assert audio.read(path)[0].shape[1] <= 48_000
    for start in generator.integers(100, len(whole) - 400, 5):
        path.write_bytes(whole[:start] + generator.bytes(300) + whole[start + 300 :])
        with suppress(AudioError):
            assert audio.read(path)[0].shape[1] <= 48_000 + 1152


def test_a_flac_that_is_cut_off_is_an_error_not_a_short_file(tmp_path):
    audio.write(tmp_path / "a.flac", make_noise(3.0, 16_000), 16_000)
    (tmp_path / "a.flac").write_bytes((tmp_path / "a.flac").read_bytes()[:-2000])
    with pytest.raises(AudioError, match=r"a\.flac: damaged after \d+ samples"):
        audio.read(tmp_path / "a.flac")


def test_an_extension_that_lies_does_not_matter(tmp_path):
    audio.write(tmp_path / "a.mp3", make_voice(0.5, 16_000), 16_000)
    for name in ("a.wav", "a.flac", "a.m4a", "a"):
        (tmp_path / name).write_bytes((tmp_path / "a.mp3").read_bytes())
        assert audio.probe(tmp_path / name).format == "MP3"
        assert audio.read(tmp_path / name)[0].shape == (1, 8_000)


def test_samples_that_are_not_numbers_are_refused(tmp_path):
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        audio.read(tmp_path / "nan.wav")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for a writer
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "folder.wav").mkdir()
    for name in ("pipe.wav", "loop.wav", "folder.wav", "missing.wav", "missing/a.wav", "x" * 300 + ".wav", "/dev/zero"):
        with pytest.raises(AudioError, match=r"not a file|no such file|symbolic links|too long"):
            audio.read(tmp_path / name)
    for name in ("pipe.wav", "folder.wav", "/dev/null"):
        with pytest.raises(AudioError, match="is not a file"):
            audio.write(tmp_path / name, torch.zeros(1, 10), 16_000, format="WAV")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.wav", "loop.wav", "pipe.wav"]


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    audio.write(tmp_path / "a.wav", torch.zeros(1, 10), 16_000)
    (tmp_path / "a.wav").chmod(0)
    if os.access(tmp_path / "a.wav", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(AudioError, match="no permission"):
        audio.read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    "name", ["-", "--help.wav", "a:b 'c\" [1] (2), =.wav", "東京 é.flac", b"caf\xe9.wav", "é" * 125 + ".wav"]
)
def test_names_as_people_have_them(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(name)
    audio.write(name, torch.ones(1, 10) / 2, 16_000, format="WAV")
    assert torch.equal(audio.read(name)[0], torch.ones(1, 10) / 2)
    assert os.listdir() == [name]


def test_values_beyond_full_scale_are_clipped_not_wrapped(tmp_path):
    for name in ("loud.wav", "loud.flac", "loud.aiff"):
        audio.write(tmp_path / name, torch.tensor([[1.5, -1.5, 0.5]]), 16_000)
        assert torch.allclose(audio.read(tmp_path / name)[0], torch.tensor([[1.0, -1.0, 0.5]]), atol=1e-4)


def test_a_writer_that_is_left_by_an_exception_leaves_nothing(tmp_path):
    with suppress(KeyboardInterrupt), audio.Writer(tmp_path / "a.wav", 16_000, 1) as writer:
        writer.write(torch.zeros(1, 100_000))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.ogg"
    audio.write(path, make_voice(0.2, 16_000), 16_000)
    before = path.read_bytes()
    with pytest.raises(AudioError, match=r"a\.ogg"):
        audio.write(path, torch.zeros(300, 100), 16_000)  # more channels than Vorbis can hold
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ogg"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, name):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(AudioError, match="no space"):
            audio.write(tmp_path / name, make_noise(10.0, 48_000), 48_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_a_format_that_would_change_the_rate_is_refused(tmp_path):
    with pytest.raises(AudioError, match="it would say 8000 Hz"):
        audio.write(tmp_path / "a.wve", make_voice(0.1, 16_000), 16_000)
    assert not list(tmp_path.iterdir())


def test_wav_beyond_4_gb_becomes_rf64(tmp_path):
    frames = 1_200_000_000  # of 4 bytes
    with audio.Writer(tmp_path / "a.wav", 48_000, 1, subtype="FLOAT", frames=frames, tags={"title": "Long"}) as writer:
        writer.write(torch.ones(1, 100) / 2)
    info = audio.probe(tmp_path / "a.wav")
    assert (info.format, info.subtype, info.tags["title"]) == ("RF64", "FLOAT", "Long")
    with audio.Writer(tmp_path / "b.wav", 48_000, 1, subtype="PCM_16", frames=frames) as writer:
        writer.write(torch.ones(1, 100) / 2)  # half of it
    assert audio.probe(tmp_path / "b.wav").format == "WAV"
    with pytest.raises(AudioError, match="would pass 4 GB"), audio.Writer(tmp_path / "c.aiff", 8_000, 4, frames=frames):
        pass


def test_a_wav_of_unknown_length_does_not_pass_4_gb_unnoticed(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MAX_BYTES", 100_000)
    with pytest.raises(AudioError, match="would pass 4 GB"), audio.Writer(tmp_path / "a.wav", 48_000, 1) as writer:
        writer.write(torch.zeros(1, 100_000))
    assert not list(tmp_path.iterdir())


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
    os.truncate(path, len(content) - 4_000 + 4 * frames)  # the rest is a hole, and zeros
    with audio.Reader(path) as reader:
        assert (reader.info.format, reader.info.frames) == (format, frames)
        block = reader.read(2_000)
    assert torch.equal(block, torch.cat([torch.ones(2, 1_000) / 2, torch.zeros(2, 1_000)], dim=1))
