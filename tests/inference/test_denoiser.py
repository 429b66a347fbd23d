from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
import torch
from conftest import MODEL, checkpoint_of, make_noise, make_voice, unbounded

from denoiser import Denoiser, audio
from denoiser.errors import AudioError, CheckpointError, ConfigError, DenoiserError
from denoiser.spectral import Spectral


def noisy_voice(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    noisy = make_voice(seconds, rate, seed) + make_noise(seconds, rate, seed)
    return noisy - noisy.mean()


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("shape", [(4_001,), (2, 4_001), (2, 3, 4_001), (1,), (2, 1)])
def test_shape_and_rate_are_kept(denoiser, rate, shape):
    out = denoiser.enhance(torch.rand(shape) - 0.5, rate)
    assert out.shape == shape
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32"])
def test_arrays_keep_their_type_and_scale(denoiser, dtype):
    noisy = 0.1 * noisy_voice(0.5, 16_000).numpy()
    scale = 1 if dtype.startswith("float") else -float(np.iinfo(dtype).min)
    given = (noisy * scale).astype(dtype)
    out = denoiser.enhance(given, 16_000)
    assert isinstance(out, np.ndarray)
    assert out.dtype == dtype
    assert np.allclose(out / scale, denoiser.enhance((given / scale).astype("float32"), 16_000), atol=1e-4)
    # a view of negative strides, and a rate as other libraries give it
    backwards = denoiser.enhance(given[..., ::-1], 16_000.0)
    assert (backwards == denoiser.enhance(given[..., ::-1].copy(), 16_000)).all()


def test_full_scale_integers_do_not_wrap():
    class Nothing(torch.nn.Module):
        stride, context = 1, 0

        def forward(self, magnitude):
            return 0 * magnitude

    square = (
        torch.iinfo(torch.int32).max * torch.ones(8_000).cumsum(0).div(20).floor().remainder(2).mul(2).sub(1).double()
    )
    given = square.clamp(-(2**31), 2**31 - 1).to(torch.int32)
    out = Denoiser(Nothing(), Spectral(peak=5.0)).enhance(given, 16_000)
    assert (out.sign() == given.sign()).all()


def test_channels_are_independent(denoiser):
    a, b = noisy_voice(0.5, 16_000, 1), noisy_voice(0.5, 16_000, 2)
    both = denoiser.enhance(torch.cat([a, 0.01 * b]), 16_000)
    assert torch.allclose(both[:1], denoiser.enhance(a, 16_000), atol=1e-5)
    assert torch.allclose(both[1:], denoiser.enhance(0.01 * b, 16_000), atol=1e-5)


def test_turned_down_by_20_db_gives_the_same_turned_down_by_20_db(denoiser):
    noisy = noisy_voice(1.0, 48_000)
    loud, quiet = denoiser.enhance(noisy, 48_000), denoiser.enhance(0.1 * noisy, 48_000)
    assert (10 * quiet - loud).abs().max() < 1e-4 * loud.abs().max()


def test_blocks_equal_the_whole(denoiser):
    noisy = noisy_voice(6.0, 16_000)[0]
    blocks = Denoiser(denoiser.net, denoiser.spectral, block_seconds=1.0).eval()
    assert (blocks.enhance(noisy, 16_000) - denoiser.enhance(noisy, 16_000)).abs().max() < 1e-4


def test_no_delay(denoiser):
    noisy = noisy_voice(1.0, 44_100)[0]
    out = denoiser.enhance(noisy, 44_100)
    assert int(torch.fft.irfft(torch.fft.rfft(out) * torch.fft.rfft(noisy).conj(), n=len(noisy)).argmax()) == 0


def test_the_noise_is_subtracted(denoiser):
    # A network that answers "all of it is noise" leaves silence, one that answers "none" the signal itself.
    class Answer(torch.nn.Module):
        stride, context = 1, 0

        def __init__(self, share):
            super().__init__()
            self.share = share

        def forward(self, magnitude):
            return self.share * (magnitude + 1) / 2

    noisy = noisy_voice(0.5, 16_000)
    none, half, everything = (unbounded(Answer(s)).enhance(noisy, 16_000) for s in (0.0, 0.5, 1.5))
    assert torch.allclose(none, noisy, atol=1e-5)
    assert torch.allclose(half, noisy * 0.5 ** (1 / 0.3), atol=1e-5)  # half in the compressed domain
    assert everything.abs().max() < 1e-6


def test_silence_stays_silent(denoiser):
    assert not denoiser.enhance(torch.zeros(2, 8_000), 16_000).any()


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(0),
        torch.zeros(2, 0),
        torch.tensor([0.0, float("nan")]),
        torch.zeros(9, dtype=torch.uint8),
        np.zeros((16_000, 2)),  # as soundfile reads stereo: 16000 signals of 2 samples otherwise
    ],
)
def test_what_cannot_be_enhanced_is_refused(denoiser, bad):
    with pytest.raises(DenoiserError, match="cannot enhance"):
        denoiser.enhance(bad, 16_000)


def test_a_checkpoint_is_all_that_is_needed(denoiser, checkpoint):
    noisy = noisy_voice(0.5, 16_000)
    run = checkpoint.parent / "run/checkpoints/best.ckpt"
    run.parent.mkdir(parents=True)
    shutil.copy(checkpoint, run)
    assert Denoiser.from_checkpoint(checkpoint.parent / "run").sample_rate == 16_000  # a run's folder will do
    loaded = Denoiser.from_checkpoint(checkpoint)
    assert torch.allclose(loaded.enhance(noisy, 16_000), denoiser.enhance(noisy, 16_000), atol=1e-6)


class Evil:
    def __reduce__(self):
        return (open, ("evil.txt", "w"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hyper_parameters": Evil()}, "holds code"),
        ({"state_dict": {}}, "no model description"),
        ([1, 2], "no model description"),
        ("rate", "no sample rate"),
        ("model", "unknown"),
        ("weights", "do not fit"),
        ("untrained", "no spectral scale"),
        (b"", "damaged"),
        (b"PK\x03\x04 not a zip", "damaged"),
    ],
)
def test_checkpoints_that_cannot_be_trusted_are_refused(denoiser, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.ckpt"
    if content == "rate":
        content = checkpoint_of(denoiser, spectral={"n_fft": 510})
    elif content == "model":
        content = checkpoint_of(denoiser, model={"name": "os.system", "command": "touch evil.txt"})
    elif content == "weights":
        content = checkpoint_of(denoiser, model={**MODEL, "width": 8})
    elif content == "untrained":
        content = checkpoint_of(denoiser)
        content["state_dict"]["denoiser.spectral.peak"] = torch.tensor(0.0)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as error:
        Denoiser.from_checkpoint(path)
    assert "m.ckpt" in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "evil.txt").exists()


def test_a_missing_checkpoint_and_device_are_refused(checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        Denoiser.from_checkpoint(tmp_path / "nothing.ckpt")
    with pytest.raises(ConfigError, match="not there"):
        Denoiser.from_checkpoint(checkpoint, device="cuda:99")


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [("a.flac", 48_000, 2, "PCM_24"), ("a.wav", 8_000, 1, "PCM_U8"), ("a.wav", 44_100, 3, "FLOAT"),
     ("a.mp3", 44_100, 2, "MPEG_LAYER_III"), ("a.ogg", 22_050, 1, "VORBIS"), ("a.wav", 16_000, 1, "ULAW")],
)  # fmt: skip
def test_a_file_comes_back_as_it_was(denoiser, tmp_path, name, rate, channels, subtype):
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
