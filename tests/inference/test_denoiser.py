from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from conftest import MODEL, checkpoint_of
from denoiser import Denoiser, Options
from denoiser.errors import CheckpointError, ConfigError, DenoiserError
from denoiser.spectral import Spectral
from untrained import Answer, noisy_voice


@pytest.mark.parametrize("shape", [(4_001,), (2, 3, 4_001), (1,)])
def test_shape_and_rate_are_kept(denoiser, shape):
    enhanced = denoiser.enhance(torch.rand(shape) - 0.5, 44_100)
    assert enhanced.shape == shape
    assert torch.isfinite(enhanced).all()


@pytest.mark.parametrize("dtype", ["float64", "int16", "int32"])
def test_arrays_keep_their_type_and_scale(denoiser, dtype):
    noisy = 0.1 * noisy_voice(0.5, 16_000).numpy()
    scale = 1 if dtype.startswith("float") else -float(np.iinfo(dtype).min)
    array = (noisy * scale).astype(dtype)
    enhanced = denoiser.enhance(array, 16_000)
    assert isinstance(enhanced, np.ndarray)
    assert enhanced.dtype == dtype
    assert np.allclose(enhanced / scale, denoiser.enhance((array / scale).astype("float32"), 16_000), atol=1e-4)
    # A view with negative strides, and a rate as other libraries give it.
    backwards = denoiser.enhance(array[..., ::-1], 16_000.0)
    copied = denoiser.enhance(array[..., ::-1].copy(), 16_000)
    assert np.allclose(backwards / scale, copied / scale, atol=1e-4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [">f4", ">i2"])
def test_arrays_of_another_byte_order_and_those_that_are_read_only_are_enhanced(denoiser, dtype):
    noisy = noisy_voice(0.2, 16_000).numpy() * (1 if dtype == ">f4" else 3_000)
    array = noisy.astype(dtype)
    array.setflags(write=False)
    enhanced = denoiser.enhance(array, 16_000)
    assert enhanced.dtype.str == dtype
    native = array.astype(array.dtype.newbyteorder("="))
    assert np.array_equal(enhanced, denoiser.enhance(native, 16_000))


def test_full_scale_integers_do_not_wrap():
    signs = torch.arange(8_000).div(20).floor().remainder(2).mul(2).sub(1)
    square = (torch.iinfo(torch.int32).max * signs.double()).to(torch.int32)
    enhanced = Denoiser(Answer(torch.zeros_like), Spectral(peak=5.0)).enhance(square, 16_000)
    assert (enhanced.sign() == square.sign()).all()


def test_channels_are_independent(denoiser):
    loud, quiet = noisy_voice(0.5, 16_000, 1), 0.01 * noisy_voice(0.5, 16_000, 2)
    both = denoiser.enhance(torch.cat([loud, quiet]), 16_000)
    assert torch.allclose(both[:1], denoiser.enhance(loud, 16_000), atol=1e-5)
    assert torch.allclose(both[1:], denoiser.enhance(quiet, 16_000), atol=1e-5)


def test_threads_share_a_denoiser(denoiser):
    noisy = [(noisy_voice(0.5 + 0.1 * seed, rate, seed), rate) for seed, rate in enumerate((8_000, 16_000, 48_000))]
    alone = [denoiser.enhance(*one) for one in noisy]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda one: denoiser.enhance(*one), noisy * 4))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(alone * 4, together, strict=True))


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(2, 0),
        torch.tensor([0.0, float("nan")]),
        torch.zeros(9, dtype=torch.uint8),
        np.zeros((16_000, 2)),  # as soundfile reads stereo: 16000 signals of 2 samples otherwise
        None,
    ],
)
def test_a_waveform_that_is_none_is_refused(denoiser, bad):
    with pytest.raises(DenoiserError, match="cannot enhance"):
        denoiser.enhance(bad, 16_000)


@pytest.mark.parametrize("rate", [None, 44_100.7, float("nan"), torch.zeros(1, 100), "CD"])
def test_a_sample_rate_that_is_no_whole_number_is_refused(denoiser, rate):
    noisy = torch.zeros(1, 100)
    for call in (denoiser.enhance, denoiser.level):
        with pytest.raises(DenoiserError, match=r"sample_rate.* expected"):
            call(noisy, rate)
    with pytest.raises(DenoiserError, match=r"sample_rate.* expected"):
        denoiser.stream(rate)


@pytest.mark.parametrize(
    "options", [{"dry": "0.5"}, {"dry": None}, {"max_attenuation_db": "6"}, {"max_attenuation_db": [6]}]
)
def test_options_that_are_no_numbers_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
        Options(**options)


@pytest.mark.parametrize(("head", "silence"), [("mask", -20), ("complex", 0), ("phase", -20), ("filter", -20)])
def test_no_head_turns_down_further_than_the_limit(head, silence):
    silent = Denoiser.build({"name": "unet", "depth": 2, "width": 4, "head": {"name": head}}, {"peak": 8.0}).eval()
    torch.nn.init.zeros_(silent.net.head.weight)
    torch.nn.init.zeros_(silent.net.head.bias)
    with torch.no_grad():
        silent.net.head.bias[0] = silence
    noisy = 0.1 * torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    limited = silent.enhance(noisy, 16_000, Options(max_attenuation_db=12))
    assert 20 * torch.log10(limited.norm() / noisy.norm()) == pytest.approx(-12, abs=0.1)
    assert silent.enhance(noisy, 16_000).norm() < 0.01 * noisy.norm()


def test_a_checkpoint_is_all_that_is_needed(denoiser, checkpoint):
    noisy = noisy_voice(0.5, 16_000)
    loaded = Denoiser.from_checkpoint(checkpoint)
    assert torch.allclose(loaded.enhance(noisy, 16_000), denoiser.enhance(noisy, 16_000), atol=1e-6)


def test_a_checkpoint_draws_none_of_the_random_numbers_of_the_caller(checkpoint):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Denoiser.from_checkpoint(checkpoint)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": None}, "no model description"),
        ({"spectral": {"n_fft": 510}}, "no sample rate"),
        ({"model": {**MODEL, "width": 8}}, "do not fit"),
        ({}, "no spectral scale"),
    ],
)
def test_checkpoints_that_cannot_be_trusted_are_refused(denoiser, tmp_path, changes, message):
    content = checkpoint_of(denoiser, **changes)
    if not changes:
        content["state_dict"]["denoiser.spectral.peak"] = torch.tensor(0.0)
    torch.save(content, tmp_path / "m.ckpt")
    with pytest.raises(CheckpointError, match=rf"m\.ckpt: .*{message}") as error:
        Denoiser.from_checkpoint(tmp_path / "m.ckpt")
    assert "\n" not in str(error.value)
