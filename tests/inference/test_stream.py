from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from conftest import make_noise, make_voice, unbounded
from hypothesis import example, given, settings
from hypothesis import strategies as st

from denoiser import Denoiser, audio, models
from denoiser.audio.loudness import Meter
from denoiser.errors import ConfigError, DenoiserError
from denoiser.inference.level import Level
from denoiser.inference.options import Options
from denoiser.spectral import Spectral

RATES = [8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 48_000, 96_000, 192_000]


def build(block_seconds: float = 16.0) -> Denoiser:
    """A network that has not learned, yet answers in earnest: of many frames and bins, and far from zero."""
    torch.manual_seed(0)
    net = models.build(name="unet", depth=3, width=4)
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    return Denoiser(net, Spectral(peak=5.0), block_seconds).eval()


WHOLE = build(1e9)


def recording(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    pairs = [make_voice(seconds, rate, seed + c) + make_noise(seconds, rate, seed + c) for c in range(channels)]
    waveform = torch.cat(pairs)
    return waveform - waveform.mean(-1, keepdim=True)


def pieces(waveform: torch.Tensor, seed: int, largest: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(seed)
    cuts = np.cumsum(rng.integers(0, largest, size=1 + 3 * waveform.shape[-1] // largest))
    return list(torch.tensor_split(waveform, [int(c) for c in cuts if c < waveform.shape[-1]], dim=-1))


@settings(max_examples=25)
@example(rate=8_000, channels=1, samples=480_000, dtype="int16", block=7.0, options=Options())  # a minute
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
    ),
)
def test_blocks_equal_the_whole_and_nothing_else_changes(rate, channels, samples, dtype, block, options):
    noisy = recording(samples / rate + 0.1, rate, channels, seed=samples)[:, :samples]
    scale = 1.0 if dtype.startswith("float") else -float(np.iinfo(dtype).min)
    given_ = (noisy.numpy() * scale).astype(dtype)
    whole = WHOLE.enhance(given_, rate, options)
    assert whole.shape == given_.shape
    assert whole.dtype == dtype
    assert np.isfinite(whole).all()
    assert np.abs(build(block).enhance(given_, rate, options) - whole).max() < 1e-4 * scale

    stream = WHOLE.stream(rate, WHOLE.level(given_, rate), options, block_seconds=block)
    out = [stream.process(piece.numpy()) for piece in pieces(torch.from_numpy(given_), samples, rate)]
    joined = np.concatenate([*out, stream.flush()], axis=-1)
    assert joined.dtype == dtype
    assert np.abs(joined - whole).max() < 1e-4 * scale


def test_many_threads_get_what_one_gets():
    noisy = [(recording(0.5 + 0.1 * i, rate, seed=i), rate) for i, rate in enumerate(RATES)]
    alone = [WHOLE.enhance(*one) for one in noisy]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: WHOLE.enhance(*one), noisy * 4))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(alone * 4, together, strict=True))


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 1e9])
def test_what_is_finite_stays_finite_at_any_level(scale):
    out = WHOLE.enhance(scale * recording(0.5, 44_100), 44_100) / scale
    assert torch.isfinite(out).all()
    assert (out - WHOLE.enhance(recording(0.5, 44_100), 44_100)).abs().max() < 1e-3


def lag(a: torch.Tensor, b: torch.Tensor) -> int:
    n = 2 * a.shape[-1]
    peak = int(torch.fft.irfft(torch.fft.rfft(a, n) * torch.fft.rfft(b, n).conj(), n=n).argmax())
    return peak if peak < n // 2 else peak - n


@pytest.mark.parametrize("rate", RATES)
def test_no_delay_at_any_rate(rate):
    noisy = recording(1.5, rate)
    for options in (Options(), Options(full_band=False), Options(phase_iters=2)):
        assert lag(WHOLE.enhance(noisy, rate, options)[0], noisy[0]) == 0


class Answer(torch.nn.Module):
    """Calls this share of every bin noise."""

    stride, context = 1, 0

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
        return self.share * (magnitude + 1) / 2


def answering(share: float) -> Denoiser:
    return unbounded(Answer(share), peak=50.0)


def high_energy(waveform: torch.Tensor, rate: int, above: float) -> float:
    spectrum = torch.fft.rfft(waveform * torch.hann_window(waveform.shape[-1])).abs().square()
    return float(spectrum[..., int(above / rate * 2 * (spectrum.shape[-1] - 1)) :].sum())


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_full_band(rate):
    noisy = recording(1.0, rate)
    # Nothing is noise: the recording itself comes back, at its full band.
    assert (answering(0.0).enhance(noisy, rate) - noisy).abs().max() < 1e-4
    cut = answering(0.0).enhance(noisy, rate, Options(full_band=False))
    assert high_energy(cut, rate, 9_000) < 1e-5 * high_energy(noisy, rate, 9_000)
    # Half of every compressed bin is noise: the band above is turned down by what the band below it is.
    factor = 0.5 ** (1 / 0.3)
    assert torch.allclose(answering(0.5).enhance(noisy, rate), factor * noisy, atol=1e-4)
    # All is noise: silence, above as well.
    assert answering(1.5).enhance(noisy, rate).abs().max() < 1e-5


def test_the_band_above_follows_the_gain_over_time():
    class Late(torch.nn.Module):
        stride, context = 1, 0

        def forward(self, magnitude):  # the second half of the recording is noise
            noise = (magnitude + 1) / 2
            noise[..., : noise.shape[-1] // 2] = 0
            return noise

    noisy = recording(2.0, 48_000)
    out = unbounded(Late()).enhance(noisy, 48_000)
    assert torch.allclose(out[:, :46_000], noisy[:, :46_000], atol=1e-4)
    assert out[:, 50_000:].abs().max() < 1e-5


def test_nothing_is_invented_above_a_low_rate():
    noisy = recording(1.0, 8_000)
    assert (answering(0.0).enhance(noisy, 8_000) - noisy).abs().max() < 0.02  # the filter's edge at 4 kHz alone
    assert WHOLE.enhance(noisy, 8_000).shape == noisy.shape


def rms_db(waveform: torch.Tensor) -> float:
    return 20 * math.log10(float(waveform.double().square().mean().sqrt()))


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_level_and_offset_do_not_matter(rate):
    noisy = recording(1.0, rate)
    expected = WHOLE.enhance(noisy, rate)
    for changed, factor in ((0.01 * noisy, 0.01), (noisy / noisy.abs().max(), 1 / noisy.abs().max()), (noisy + 0.3, 1)):
        out = WHOLE.enhance(changed, rate)
        assert abs(rms_db(out / factor) - rms_db(expected)) < 0.1
        assert rms_db(out / factor - expected) < rms_db(expected) - 40


def test_constant_and_silent_recordings_are_silent():
    assert WHOLE.enhance(torch.full((2, 9_000), 0.5), 48_000).abs().max() < 1e-3
    assert not WHOLE.enhance(torch.zeros(2, 9_000), 48_000).any()


def test_dry():
    noisy = recording(1.0, 44_100) + 0.1
    wet = WHOLE.enhance(noisy, 44_100)
    assert torch.equal(WHOLE.enhance(noisy, 44_100, Options(dry=1.0)), noisy)
    assert torch.allclose(WHOLE.enhance(noisy, 44_100, Options(dry=0.25)), 0.75 * wet + 0.25 * noisy, atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_no_bin_is_turned_down_by_more_than_asked(rate):
    noisy = recording(1.0, rate)
    out = answering(1.5).enhance(noisy, rate, Options(max_attenuation_db=12))
    assert torch.allclose(out, 10 ** (-12 / 20) * noisy, atol=1e-4)


def test_phase_iterations_bring_the_spectrum_nearer_to_its_magnitude():
    spectral, noisy = Spectral(peak=5.0), recording(1.0, 16_000)
    level = spectral.level(noisy)
    spectrum = spectral(noisy, level)
    wanted = spectral.scale(spectral.unscale(spectrum.magnitude) * (torch.rand_like(spectrum.magnitude) > 0.3))

    def miss(iterations: int) -> float:
        out = spectral.inverse(wanted, spectrum.phase, level, noisy.shape[-1], iterations)
        return float((spectral.unscale(spectral(out, level).magnitude) - spectral.unscale(wanted)).square().sum())

    assert miss(4) < 0.95 * miss(1) < 0.95 * miss(0)


def test_without_a_level_a_stream_finds_it():
    noisy = recording(8.0, 16_000)
    stream = WHOLE.stream(16_000, block_seconds=0.5)
    out = torch.cat([*(stream.process(piece) for piece in pieces(noisy, 0, 4_000)), stream.flush()], dim=-1)
    whole = WHOLE.enhance(noisy, 16_000)
    assert out.shape == noisy.shape
    assert rms_db((out - whole)[:, 64_000:]) < rms_db(whole[:, 64_000:]) - 20


def test_a_stream_gives_what_is_ready_within_its_latency():
    stream = WHOLE.stream(48_000, block_seconds=0.5)
    given_ = came = 0
    for piece in recording(6.0, 48_000).split(4_800, dim=-1):
        came += stream.process(piece).shape[-1]
        given_ += 4_800
        assert came >= given_ - 48_000 * stream.latency - 4_800
    assert came > 48_000


def test_a_stream_refuses_what_it_cannot_join():
    stream = WHOLE.stream(16_000)
    stream.process(torch.zeros(2, 100))
    with pytest.raises(DenoiserError, match="2 channels"):
        stream.process(torch.zeros(1, 100))
    with pytest.raises(DenoiserError, match="NaN"):
        stream.process(torch.full((2, 4), math.nan))


@pytest.mark.parametrize(
    "wrong", [{"dry": 1.5}, {"dry": -0.1}, {"max_attenuation_db": -3}, {"phase_iters": -1}, {"phase_iters": 1.5}]
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Options(**wrong)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_loudness_in_blocks_is_pyloudnorm_s(rate, channels):
    waveform = 0.3 * recording(3.0, rate, channels)
    waveform[:, rate : 2 * rate] *= 0.01  # a pause, for the gate
    meter = Meter(rate, channels)
    for piece in pieces(waveform, channels, rate // 3):
        meter.add(piece)
    assert abs(meter.loudness - pyloudnorm.Meter(rate).integrated_loudness(waveform.T.double().numpy())) < 0.02
    assert not math.isfinite(Meter(rate, channels).loudness)


def test_a_file_is_enhanced_as_its_waveform_is(tmp_path):
    noisy = recording(3.0, 44_100, 2)
    audio.write(tmp_path / "in.wav", noisy, 44_100, subtype="FLOAT")
    seen: list[float] = []
    done = build(0.7).enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", progress=seen.append)
    out, rate = audio.read(tmp_path / "out.wav")
    assert (out - WHOLE.enhance(noisy, 44_100)).abs().max() < 1e-4
    assert (rate, done.channels, round(done.seconds, 3), done.gain) == (44_100, 2, 3.0, 1.0)
    assert abs(sum(seen) - 3.0) < 1e-6


def test_what_passes_full_scale_is_turned_down_as_a_whole(tmp_path):
    class Louder(torch.nn.Module):
        stride, context = 1, 0

        def forward(self, magnitude):
            return torch.full_like(magnitude, -0.1)

    denoiser = Denoiser(Louder(), Spectral(peak=5.0)).eval()
    noisy = 0.9 * recording(1.0, 16_000) / recording(1.0, 16_000).abs().max()
    audio.write(tmp_path / "in.wav", noisy, 16_000)
    done = denoiser.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    expected = denoiser.enhance(audio.read(tmp_path / "in.wav")[0], 16_000)
    out, _ = audio.read(tmp_path / "out.wav")
    assert done.gain == pytest.approx(1 / float(expected.abs().max()), rel=1e-4)
    assert (out - done.gain * expected).abs().max() < 1e-4
    # a format of floats holds it as it is
    audio.write(tmp_path / "float.wav", noisy, 16_000, subtype="FLOAT")
    assert denoiser.enhance_file(tmp_path / "float.wav", tmp_path / "out2.wav").gain == 1
    assert audio.read(tmp_path / "out2.wav")[0].abs().max() > 1


def test_loudness_of_a_file(tmp_path):
    audio.write(tmp_path / "in.wav", 0.2 * recording(3.0, 48_000, 2), 48_000)
    done = WHOLE.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", loudness=-30.0)
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert abs(pyloudnorm.Meter(rate).integrated_loudness(samples) + 30) < 0.1
    assert done.gain != 1
    with pytest.raises(ConfigError, match="loudness"):
        WHOLE.enhance_file(tmp_path / "in.wav", tmp_path / "out3.wav", loudness=3.0)
    assert not (tmp_path / "out3.wav").exists()


def test_level_is_plain(tmp_path):
    level = WHOLE.level(np.ones((2, 1_000), np.float32), 16_000)
    assert isinstance(level, Level)
    assert level.mean.tolist() == [[1.0], [1.0]]
