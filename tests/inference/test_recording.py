import pyloudnorm
import pytest
import soundfile
import torch

from denoiser import Denoiser, audio
from denoiser.errors import AudioError
from denoiser.spectral import Spectral
from untrained import Answer, noisy_voice


@pytest.mark.parametrize("blocks_at_once", [1, 3])
def test_a_file_is_enhanced_as_its_waveform_is(denoiser, tmp_path, blocks_at_once):
    noisy = noisy_voice(3.0, 44_100, channels=2)
    audio.write(tmp_path / "in.wav", noisy, 44_100, subtype="FLOAT")
    in_blocks, seen = Denoiser(denoiser.net, denoiser.spectral, block_seconds=0.7).eval(), []
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    done = in_blocks.enhance_file(source, target, progress=seen.append, blocks_at_once=blocks_at_once)
    enhanced, rate = audio.read(target)
    assert torch.allclose(enhanced, denoiser.enhance(noisy, 44_100), atol=1e-4)
    assert (rate, done.info.channels, round(done.seconds, 3), done.gain) == (44_100, 2, 3.0, 1.0)
    assert sum(seen) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.flac", 48_000, 2, "PCM_24"),
        ("a.wav", 8_000, 1, "PCM_U8"),
        ("a.mp3", 44_100, 2, "MPEG_LAYER_III"),
    ],
)
def test_a_file_keeps_its_format(denoiser, tmp_path, name, rate, channels, subtype):
    source, target = tmp_path / name, tmp_path / "out" / name
    audio.write(source, noisy_voice(0.5, rate).repeat(channels, 1), rate, subtype=subtype)
    denoiser.enhance_file(source, target)
    before, after = soundfile.info(source), soundfile.info(target)
    for field in ("samplerate", "channels", "frames", "format", "subtype"):
        assert getattr(before, field) == getattr(after, field)


def test_the_input_is_never_overwritten(denoiser, tmp_path):
    audio.write(tmp_path / "a.wav", noisy_voice(0.2, 16_000), 16_000)
    with pytest.raises(AudioError, match="the input itself"):
        denoiser.enhance_file(tmp_path / "a.wav", tmp_path / "a.wav")


@pytest.mark.parametrize("amplitude", [0.01, 0.9])
def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, amplitude):
    source, target = tmp_path / "a.wav", tmp_path / "b.wav"
    audio.write(source, noisy_voice(1.0, 16_000), 16_000)
    more = (amplitude * noisy_voice(1.0, 16_000) * 32_767).short().numpy().tobytes()
    content = source.read_bytes()
    # As a recorder leaves it that has not finished.
    source.write_bytes(content[:40] + bytes(4) + content[44:])

    def grow(seconds: float) -> None:
        with open(source, "ab") as file:
            file.write(more)

    louder = Answer(lambda magnitude: torch.full_like(magnitude, -0.1))
    with pytest.raises(AudioError, match=r"a\.wav: changed while it was read; is it still being"):
        Denoiser(louder, Spectral(peak=5.0)).eval().enhance_file(source, target, progress=grow)
    assert sorted(tmp_path.iterdir()) == [source]


def test_a_result_beyond_full_scale_is_turned_down_as_a_whole(tmp_path):
    louder = Answer(lambda magnitude: torch.full_like(magnitude, -0.1))
    denoiser = Denoiser(louder, Spectral(peak=5.0)).eval()
    noisy = noisy_voice(1.0, 16_000)
    noisy *= 0.9 / noisy.abs().max()
    audio.write(tmp_path / "in.wav", noisy, 16_000)
    done = denoiser.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    expected = denoiser.enhance(audio.read(tmp_path / "in.wav")[0], 16_000)
    enhanced, _ = audio.read(tmp_path / "out.wav")
    assert done.gain == pytest.approx(1 / float(expected.abs().max()), rel=1e-4)
    assert torch.allclose(enhanced, done.gain * expected, atol=1e-4)
    # A format of floats has room beyond full scale.
    audio.write(tmp_path / "float.wav", noisy, 16_000, subtype="FLOAT")
    assert denoiser.enhance_file(tmp_path / "float.wav", tmp_path / "out2.wav").gain == 1
    assert audio.read(tmp_path / "out2.wav")[0].abs().max() > 1


def test_a_file_gets_the_loudness_asked_for(denoiser, tmp_path):
    audio.write(tmp_path / "in.wav", 0.2 * noisy_voice(3.0, 48_000, channels=2), 48_000)
    done = denoiser.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", loudness=-30.0)
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert abs(pyloudnorm.Meter(rate).integrated_loudness(samples) + 30) < 0.1
    assert done.gain != 1
