import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conftest import ROOT
from denoiser import Denoiser, models
from denoiser.errors import AudioError, ConfigError, DenoiserError
from denoiser.inference.options import Options
from denoiser.spectral import Spectral
from untrained import centred

RATES = [8_000, 11_025, 16_000, 44_100, 47_999, 48_000, 192_000]


def build(block_seconds: float = 16.0) -> Denoiser:
    """Return an untrained network whose output depends on many frames and bins, and is far from zero."""
    torch.manual_seed(0)
    net = models.build(name="unet", depth=3, width=4)
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    return Denoiser(net, Spectral(peak=5.0), block_seconds).eval()


WHOLE = build(1e9)


def pieces(waveform: torch.Tensor, seed: int, largest: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    cuts = np.cumsum(rng.integers(0, largest, size=1 + 3 * waveform.shape[-1] // largest))
    return list(torch.tensor_split(waveform, [int(c) for c in cuts if c < waveform.shape[-1]], dim=-1))


def rms_db(waveform: torch.Tensor) -> float:
    return 20 * math.log10(float(waveform.double().square().mean().sqrt()))


@settings(max_examples=25)
@example(rate=8_000, channels=1, samples=240_000, dtype="int16", block=7.0, options=Options())
@given(
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 3),
    samples=st.integers(1, 100_000),
    dtype=st.sampled_from(["float32", "float64", "int16", "int32"]),
    block=st.floats(0.05, 3.0),
    options=st.builds(
        Options,
        dry=st.sampled_from([0.0, 0.3]),
        max_attenuation_db=st.sampled_from([None, 12.0]),
        phase_iters=st.sampled_from([0, 2]),
        full_band=st.booleans(),
        shifts=st.sampled_from([None, 3]),
    ),
)
def test_blocks_and_streams_equal_the_whole_recording(rate, channels, samples, dtype, block, options):
    noisy = centred(samples / rate + 0.1, rate, samples, channels)[:, :samples]
    scale = 1.0 if dtype.startswith("float") else -float(np.iinfo(dtype).min)
    array = (noisy.numpy() * scale).astype(dtype)
    whole = WHOLE.enhance(array, rate, options)
    assert whole.shape == array.shape
    assert whole.dtype == dtype
    assert np.isfinite(whole).all()
    # An untrained network makes sounds far beyond full scale.
    tolerance = 1e-4 * max(scale, np.abs(whole.astype(float)).max())
    assert np.abs(build(block).enhance(array, rate, options) - whole).max() < tolerance

    stream = WHOLE.stream(rate, WHOLE.level(array, rate), options, block_seconds=block)
    parts = [stream.process(piece.numpy()) for piece in pieces(torch.from_numpy(array), samples, rate)]
    joined = np.concatenate([*parts, stream.flush()], axis=-1)
    assert joined.dtype == dtype
    assert np.abs(joined - whole).max() < tolerance


@pytest.mark.parametrize("rate", [16_000, 48_000])
@pytest.mark.parametrize(("scale", "offset"), [(1e-20, 0), (1e-6, 0), (0.01, 0), (1e9, 0), (1, 0.3)])
def test_level_and_offset_do_not_matter(rate, scale, offset):
    noisy = centred(1.0, rate)
    expected = WHOLE.enhance(noisy, rate)
    enhanced = WHOLE.enhance(scale * noisy + offset, rate) / scale
    assert abs(rms_db(enhanced) - rms_db(expected)) < 0.1
    assert rms_db(enhanced - expected) < rms_db(expected) - 40


def test_constant_and_silent_recordings_become_silent():
    assert WHOLE.enhance(torch.full((2, 9_000), 0.5), 48_000).abs().max() < 1e-3
    assert not WHOLE.enhance(torch.zeros(2, 9_000), 48_000).any()


@pytest.mark.parametrize("rate", [8_000, 44_100, 47_999])
def test_nothing_is_delayed_at_any_rate(rate):
    noisy = centred(1.5, rate)
    for options in (Options(), Options(full_band=False), Options(phase_iters=2), Options(shifts=3)):
        enhanced = torch.fft.rfft(WHOLE.enhance(noisy, rate, options), 2 * noisy.shape[-1])
        similarity = torch.fft.irfft(enhanced * torch.fft.rfft(noisy, 2 * noisy.shape[-1]).conj())
        assert int(similarity.argmax()) == 0


def test_dry_mixes_the_input_in():
    noisy = centred(1.0, 44_100) + 0.1
    wet = WHOLE.enhance(noisy, 44_100)
    assert torch.allclose(WHOLE.enhance(noisy, 44_100, Options(dry=1.0)), noisy, atol=1e-6)
    assert torch.allclose(WHOLE.enhance(noisy, 44_100, Options(dry=0.25)), 0.75 * wet + 0.25 * noisy, atol=1e-6)


def test_shifts_average_results_of_frames_that_begin_at_other_places():
    noisy = centred(1.0, 16_000)
    half = WHOLE.spectral.hop // 2
    later = WHOLE.enhance(torch.nn.functional.pad(noisy, (half, 0)), 16_000)[:, half:]
    both = (WHOLE.enhance(noisy, 16_000) + later) / 2
    # The level is that of the recording with the silence before it.
    assert rms_db(WHOLE.enhance(noisy, 16_000, Options(shifts=2)) - both) < rms_db(both - later) - 30
    shifted = build()
    shifted.spectral.shifts = 2
    assert torch.equal(shifted.enhance(noisy, 16_000), WHOLE.enhance(noisy, 16_000, Options(shifts=2)))
    assert torch.equal(shifted.enhance(noisy, 16_000, Options(shifts=1)), WHOLE.enhance(noisy, 16_000))


def test_phase_iterations_bring_the_spectrum_nearer_to_its_magnitude():
    spectral, noisy = Spectral(peak=5.0), centred(1.0, 16_000)
    level = spectral.level(noisy)
    spectrum = spectral(noisy, level)
    wanted = spectral.scale(spectral.unscale(spectrum.magnitude) * (torch.rand_like(spectrum.magnitude) > 0.3))

    def miss(iterations: int) -> float:
        waveform = spectral.inverse(wanted, spectrum.phase, level, noisy.shape[-1], iterations)
        made = spectral(waveform, level).magnitude
        return float((spectral.unscale(made) - spectral.unscale(wanted)).square().sum())

    assert miss(4) < 0.95 * miss(1) < 0.95 * miss(0)


def test_without_a_level_a_stream_soon_finds_it_and_keeps_to_its_latency():
    noisy, parts, returned = centred(8.0, 48_000), [], 0
    stream = WHOLE.stream(48_000, block_seconds=0.5)
    for count, piece in enumerate(noisy.split(4_800, dim=-1)):
        parts.append(stream.process(piece))
        returned += parts[-1].shape[-1]
        assert returned >= 4_800 * count - 48_000 * stream.latency
    assert returned > 48_000
    enhanced, whole = torch.cat([*parts, stream.flush()], dim=-1), WHOLE.enhance(noisy, 48_000)
    assert enhanced.shape == noisy.shape
    assert rms_db((enhanced - whole)[:, 192_000:]) < rms_db(whole[:, 192_000:]) - 20


def test_a_stream_refuses_another_number_of_channels_and_nan():
    stream = WHOLE.stream(16_000)
    stream.process(torch.zeros(2, 100))
    with pytest.raises(DenoiserError, match="2 channels"):
        stream.process(torch.zeros(1, 100))
    with pytest.raises(DenoiserError, match="NaN"):
        stream.process(torch.full((2, 4), math.nan))


@pytest.mark.parametrize("shape", [(512, 2), (64, 1), (16, 8), (960, 6), (1, 480, 2), (44_100, 2)])
def test_the_arrays_of_an_audio_callback_are_refused_as_they_are(shape):
    block = np.zeros(shape, np.float32)
    for call in (lambda: WHOLE.enhance(block, 16_000), lambda: WHOLE.stream(16_000).process(block)):
        with pytest.raises(DenoiserError, match=r"expected \[channels, samples\]; transpose"):
            call()
    assert WHOLE.stream(16_000).process(np.zeros((8, 4), np.float32)).shape == (8, 0)  # channels of a short block


def test_blocks_of_many_channels_may_be_short_once_their_number_is_known():
    stream = WHOLE.stream(16_000)
    noisy = torch.rand(32, 4_000) - 0.5
    parts = [stream.process(part) for part in noisy.split([100, 8, 1, 3_891], dim=1)]
    assert torch.cat([*parts, stream.flush()], dim=1).shape == noisy.shape


@pytest.mark.parametrize("rate", [0, -5, 10_000_000])
def test_a_rate_of_no_recording_is_refused(rate):
    for call in (lambda: WHOLE.enhance(torch.zeros(100), rate), lambda: WHOLE.stream(rate)):
        with pytest.raises(AudioError, match="expected 1000 to 768000"):
            call()


def test_a_stream_that_was_flushed_takes_no_more_until_it_begins_anew():
    stream, noisy = WHOLE.stream(16_000), centred(0.5, 16_000)
    first = torch.cat([stream.process(noisy), stream.flush()], dim=-1)
    with pytest.raises(DenoiserError, match=r"was flushed; reset\(\) begins"):
        stream.process(noisy)
    stream.reset()
    assert torch.equal(torch.cat([stream.process(noisy), stream.flush()], dim=-1), first)


@pytest.mark.parametrize(("measured", "given"), [(1, 2), (2, 1)])
def test_a_level_of_other_channels_is_refused(measured, given):
    noisy = centred(0.5, 16_000, channels=2)
    stream = WHOLE.stream(16_000, WHOLE.level(noisy[:measured], 16_000))
    with pytest.raises(DenoiserError, match=f"level of {measured} channels and was given {given}"):
        stream.process(noisy[:given])
    assert stream.process(noisy[:measured]).shape == (measured, 0)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ((Options(dry=0.2),), "level is of type Options"),
        ((0.1,), "level is of type float"),
        ((None, "dry=1"), "options is of type str"),
    ],
)
def test_what_is_no_level_and_no_options_is_refused(given, line):
    with pytest.raises(ConfigError, match=line):
        WHOLE.stream(16_000, *given)


@pytest.mark.parametrize("given", [math.nan, math.inf, -1, "2"])
def test_a_length_of_blocks_that_is_none_is_refused(given):
    with pytest.raises(ConfigError, match=r"^block_seconds=.*: expected a number"):
        WHOLE.stream(16_000, block_seconds=given)


def test_samples_that_no_sound_has_are_refused_and_change_nothing():
    stream, noisy = WHOLE.stream(16_000), centred(0.5, 16_000)
    for absurd in (1e12, -1e30):
        with pytest.raises(DenoiserError, match=r"absurd samples \(over 1e\+10\)"):
            stream.process(torch.full((1, 160), absurd))
    enhanced = torch.cat([stream.process(noisy), stream.flush()], dim=-1)
    other = WHOLE.stream(16_000)
    assert torch.equal(enhanced, torch.cat([other.process(noisy), other.flush()], dim=-1))


@pytest.mark.parametrize(
    ("setter", "value", "usual"),
    [(torch.set_default_dtype, torch.float64, torch.float32), (torch.set_default_device, "meta", None)],
    ids=["type", "device"],
)
def test_the_default_type_and_device_of_the_caller_do_not_matter(setter, value, usual):
    ckpt, noisy = ROOT / "tests/reference/filter.ckpt", centred(0.5, 48_000).numpy()
    loaded = Denoiser.from_checkpoint(ckpt, "cpu")

    def results() -> list[np.ndarray]:
        stream = WHOLE.stream(48_000, WHOLE.level(noisy, 48_000))
        streamed = np.concatenate([stream.process(noisy), stream.flush()], axis=-1)
        return [streamed, loaded.enhance(noisy, 48_000), loaded.enhance(noisy, 16_000)]

    expected = results()
    setter(value)
    try:
        found = results()
        if value == torch.float64:
            found[1] = Denoiser.from_checkpoint(ckpt, "cpu").enhance(noisy, 48_000)
    finally:
        setter(usual)
    for result, wanted in zip(found, expected, strict=True):
        assert result.dtype == np.float32
        assert np.abs(result - wanted).max() < 1e-5 * np.abs(wanted).max()
