"""Writing files: every format comes back as it was, and nothing half-written is left."""

import pytest
import soundfile
import torch

from conftest import largest_file, make_noise, make_voice
from denoiser import audio
from denoiser.audio import writer as writing
from denoiser.audio.formats import BITS, FLOATING, FORMATS, TAGS
from denoiser.errors import AudioError

RATES = (8_000, 16_000, 44_100, 44_101, 192_000)
NARROW = ("PCM_S8", "PCM_U8", "ULAW", "ALAW")
PAIRS = [
    (format, subtype)
    for format in sorted({*FORMATS.values(), "WAVEX"})
    for subtype in soundfile.available_subtypes(format)
    if subtype in {*BITS, "ULAW", "ALAW", "VORBIS", "OPUS", "MPEG_LAYER_III"}
    and (format, subtype) != ("WAV", "MPEG_LAYER_III")
    and not (format == "AIFF" and subtype in NARROW)
]


def read_in_blocks(reader, samples):
    blocks = [reader.read(samples)]
    while blocks[-1].shape[1]:
        blocks.append(reader.read(samples))
    return torch.cat(blocks, dim=1)


@pytest.mark.parametrize(("format", "subtype"), PAIRS)
def test_every_format_and_subtype_comes_back_in_kind(tmp_path, format, subtype):
    voice = make_voice(0.25, 16_000)
    for channels in (1, 2):
        sound = voice * torch.linspace(1, 0.5, channels)[:, None] + 0.01
        source, target = tmp_path / f"{channels}.in", tmp_path / f"{channels}.out"
        soundfile.write(source, sound.T.numpy(), 16_000, subtype, format=format)
        with audio.Reader(source) as reader:
            info, before = reader.info, read_in_blocks(reader, 777)
        assert before.shape == (channels, info.frames)
        audio.write(target, before, 16_000, format=info.format, subtype=info.subtype)
        after = audio.probe(target)
        assert (after.format, after.subtype, after.sample_rate, after.frames) == (format, subtype, 16_000, info.frames)
        error = audio.read(target)[0] - before
        assert error.norm() < before.norm() * (1e-4 if BITS.get(subtype, 0) > 8 else 0.5)


@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("a.wav", ("WAV", "GSM610"), ("WAV", "PCM_16")),
        ("a.wav", ("WAV", "MPEG_LAYER_III"), ("WAV", "PCM_16")),
        ("a.mp3", ("MP3", "MPEG_LAYER_II"), ("MP3", "MPEG_LAYER_III")),
        ("a.aiff", ("AIFF", "PCM_S8"), ("AIFF", "PCM_16")),
        ("a.caf", ("CAF", "ALAC_20"), ("CAF", "ALAC_24")),
        ("a.opus", ("matroska", "opus"), ("OGG", "OPUS")),
    ],
)
def test_rare_codecs_are_replaced_by_the_nearest_that_is_written(tmp_path, name, given, written):
    format, subtype = given
    audio.write(tmp_path / name, make_voice(0.1, 16_000), 16_000, format=format, subtype=subtype)
    info = audio.probe(tmp_path / name)
    assert (info.format, info.subtype) == written


@pytest.mark.parametrize("channels", [1, 2, 32])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus", "a.aiff", "a.caf", "a.w64", "a.rf64"])
def test_every_rate_and_number_of_channels_comes_back_or_is_refused(tmp_path, name, channels):
    most = {"a.flac": 8, "a.mp3": 2}.get(name, 1000)
    known = {"a.mp3": [*RATES[:3], 44_100, 48_000], "a.opus": [*RATES[:2], 48_000, 48_000, 48_000]}.get(name, RATES)
    for rate, written in zip(RATES, known, strict=True):
        sound = make_voice(1000 / rate, rate).repeat(channels, 1)
        if channels > most:
            with pytest.raises(AudioError, match=rf"cannot be written .* {written} Hz, {channels} channels"):
                audio.write(tmp_path / name, sound, rate)
            assert not list(tmp_path.iterdir())
            continue
        audio.write(tmp_path / name, sound, rate)
        info = audio.probe(tmp_path / name)
        # A rate of 44101 Hz is 44100 Hz, for a codec that knows no other.
        frames = 1000 if abs(rate - written) <= 1 else -(-1000 * written // rate)
        assert (info.sample_rate, info.channels, info.frames) == (written, channels, frames)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("name", "rate", "written"), [("a.opus", 44_100, 48_000), ("a.opus", 96_000, 48_000), ("a.mp3", 192_000, 48_000)]
)
def test_a_rate_that_a_codec_does_not_know_is_resampled_and_said(tmp_path, name, rate, written):
    tone = torch.sin(2 * torch.pi * 1_000 * torch.arange(2 * rate) / rate)[None] / 2
    with audio.Writer(tmp_path / name, rate, 1) as writer:
        for start in range(0, 2 * rate, 10_007):
            writer.write(tone[:, start : start + 10_007])
    kind = "Opus" if name == "a.opus" else "MP3"
    assert writer.notes == [f"resampled from {rate} to {written} Hz, as {kind} has no such rate"]
    back, found = audio.read(tmp_path / name)
    assert (back.shape[1], found) == (2 * written, written)
    assert torch.fft.rfft(back[0, :written]).abs().argmax() == 1_000


@pytest.mark.parametrize(("format", "subtype"), [pair for pair in PAIRS if pair[1] in BITS])
def test_lossless_subtypes_hold_the_nearest_value_and_return_it(tmp_path, format, subtype):
    path, sound = tmp_path / "x", 2.2 * make_voice(0.3, 16_000)  # a peak of 1.1
    audio.write(path, sound, 16_000, format=format, subtype=subtype)
    # Read as float32, which holds 24 bits.
    step = 0.0 if subtype in FLOATING else 2.0 ** (1 - min(BITS[subtype], 24))
    kept = sound if subtype in FLOATING else sound.clamp(-1, 1 - step)
    back, _ = audio.read(path)
    # The nearest value that the subtype holds, not the next lower one.
    assert float((back - kept).abs().max()) <= max(step / 2, 2**-23)
    audio.write(path, back, 16_000, format=format, subtype=subtype)
    assert torch.equal(audio.read(path)[0], back)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus"])
def test_blocks_make_the_file_that_one_call_makes(tmp_path, name):
    stereo = torch.cat([make_voice(2.0, 16_000), make_noise(2.0, 16_000)])
    audio.write(tmp_path / name, stereo, 16_000)
    whole, _ = audio.read(tmp_path / name)
    with audio.Reader(tmp_path / name) as reader, audio.Writer(tmp_path / f"b_{name}", 16_000, 2) as writer:
        for _ in range(2):
            assert torch.allclose(read_in_blocks(reader, 777), whole, atol=1e-6)
            reader.rewind()
        for start in range(0, 32_000, 999):
            writer.write(stereo[:, start : start + 999])
        # The name appears once the file is whole.
        assert not (tmp_path / f"b_{name}").exists()
    assert torch.allclose(audio.read(tmp_path / f"b_{name}")[0], whole, atol=1e-6)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.caf", "a.rf64", "a.aiff"])
def test_tags_that_a_format_holds_come_back(tmp_path, name):
    of_aiff = {"title", "artist", "comment", "software"}
    lost = {"a.wav": {"license"}, "a.rf64": {"license"}, "a.mp3": {"license", "copyright"}, "a.aiff": {*TAGS} - of_aiff}
    kept = {*TAGS} - lost.get(name, set())
    letter, city = ("e", "Tokyo") if name == "a.mp3" else ("é", "東京")
    tags = {tag: f"{tag} 1" if tag == "software" else f"{tag} of {city}" for tag in TAGS}
    audio.write(tmp_path / name, make_voice(0.5, 16_000), 16_000, tags=tags | {"unknown": "x", "title": letter * 3_000})
    found = audio.probe(tmp_path / name).tags
    # 2000 bytes are the most that every format can hold.
    assert found.pop("title") == letter * (2_000 // len(letter.encode()))
    # libsndfile puts its own name behind the software's; LAME replaces it.
    assert found.pop("software").startswith("LAME" if name == "a.mp3" else "software 1")
    assert {tag: tags[tag] for tag in kept - {"title", "software"}} == {k: v for k, v in found.items() if k in kept}
    audio.write(tmp_path / f"b_{name}", *audio.read(tmp_path / name), tags=audio.probe(tmp_path / name).tags)
    assert audio.probe(tmp_path / f"b_{name}").tags == audio.probe(tmp_path / name).tags
    assert audio.read(tmp_path / name)[0].shape == (1, 8_000)


def test_an_mp3_leaves_out_a_tag_that_it_would_garble(tmp_path):
    with audio.Writer(tmp_path / "a.mp3", 16_000, 1, tags={"title": "Müller", "artist": "Miller"}) as writer:
        writer.write(make_voice(0.5, 16_000))
    assert writer.notes == ["not kept, as MP3 has no place for them: title"]
    assert audio.probe(tmp_path / "a.mp3").tags == {"artist": "Miller"}


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_write_that_fails_is_one_line_and_leaves_the_old_file_and_nothing_else(tmp_path, name):
    path = tmp_path / name
    audio.write(path, make_voice(0.2, 16_000), 16_000)
    before = path.read_bytes()
    with largest_file(20_000), pytest.raises(AudioError, match="no space"):
        audio.write(path, make_noise(10.0, 48_000), 48_000)
    with pytest.raises(AudioError, match=rf"{name}.*channels"):
        audio.write(path, torch.zeros(2_000, 100), 48_000)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.flac", "a.mp3", "a.ogg", "a.wav"])
def test_a_disk_that_lacks_the_very_last_byte_is_an_error(tmp_path, name):
    noise = make_noise(1.0, 48_000)
    audio.write(tmp_path / name, noise, 48_000)
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    with largest_file(size - 1), pytest.raises(AudioError, match=r"g[eo]t there|no space"):
        audio.write(tmp_path / name, noise, 48_000)
    assert not list(tmp_path.iterdir())


def test_wav_beyond_4_gb_becomes_rf64_or_is_refused(tmp_path, monkeypatch):
    frames = 1_200_000_000
    # 4 and 2 bytes each.
    for subtype, format in (("FLOAT", "RF64"), ("PCM_16", "WAV")):
        with audio.Writer(tmp_path / "a.wav", 48_000, 1, subtype=subtype, frames=frames, tags={"title": "Long"}) as out:
            out.write(torch.ones(1, 100) / 2)
        info = audio.probe(tmp_path / "a.wav")
        assert (info.format, info.subtype, info.tags["title"]) == (format, subtype, "Long")
    with pytest.raises(AudioError, match="would pass 4 GB"), audio.Writer(tmp_path / "c.aiff", 8_000, 4, frames=frames):
        pass
    # The length of this one is not known before.
    monkeypatch.setattr(writing, "MAX_BYTES", 100_000)
    with pytest.raises(AudioError, match="would pass 4 GB"), audio.Writer(tmp_path / "d.wav", 48_000, 1) as out:
        out.write(torch.zeros(1, 100_000))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
