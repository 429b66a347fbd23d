from __future__ import annotations

import pytest
import torch
from conftest import make_noise, make_voice

from denoiser.errors import ConfigError
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.options import Options

NETS = {
    "crn": {"name": "crn", "stem": 2, "widths": [4, 8, 8], "hidden": 16},
    "dualpath": {"name": "dualpath", "stem": 4, "widths": [4, 8], "hidden": 8, "layers": 2},
}


def build(name: str, hop: int = 128, head: str = "complex", **changes) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser.build({**NETS[name], **changes, "head": {"name": head}}, {"hop": hop, "peak": 3.0}).eval()
    for parameter in denoiser.net.parameters():
        parameter.data.mul_(1.3)  # far from an output of zero
    return denoiser


def noisy_voice(seconds: float, rate: int, channels: int = 2) -> torch.Tensor:
    return torch.cat([make_voice(seconds, rate, c) + make_noise(seconds, rate, c) for c in range(channels)])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("head", ["complex", "filter"])
@pytest.mark.parametrize(("hop", "rate"), [(128, 16_000), (255, 16_000), (255, 48_000), (100, 8_000)])
def test_frame_by_frame_is_the_whole(name, head, hop, rate):
    denoiser = build(name, hop, head)
    waveform = noisy_voice(1.0, rate)[:, : rate - 77]
    whole = denoiser.enhance(waveform, rate)
    assert whole.shape == waveform.shape
    assert not torch.allclose(whole, waveform, atol=0.1)
    stream = denoiser.stream(rate, denoiser.level(waveform, rate), block_seconds=0.02)
    parts = [stream.process(part) for part in waveform.split(rate // 77, dim=-1)]
    assert torch.allclose(torch.cat([*parts, stream.flush()], dim=-1), whole, atol=1e-5)
    denoiser.block_seconds = 0.3
    assert torch.allclose(denoiser.enhance(waveform, rate), whole, atol=1e-5)


@pytest.mark.parametrize("length", [1, 100, 127, 128, 129, 254, 255, 256, 509, 510, 511, 1021])
@pytest.mark.parametrize("hop", [128, 255])
def test_every_length_comes_back_whole(hop, length):
    denoiser = build("crn", hop, "mask")
    waveform = noisy_voice(0.1, 16_000, 1)[:, :length]
    out = denoiser.enhance(waveform, 16_000)
    assert out.shape == waveform.shape
    assert out.abs().max() < 4 * waveform.abs().max()  # no sample is divided by the foot of a window


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("head", ["complex", "filter"])
def test_it_does_not_look_ahead_and_says_by_how_much_it_is_late(name, head):
    denoiser = build(name, head=head)
    stream = denoiser.stream(16_000, block_seconds=0.008)
    assert stream.latency == pytest.approx(510 / 16_000)  # 32 ms
    waveform, given = noisy_voice(1.0, 16_000, 1), 0
    for count, part in enumerate(waveform.split(80, dim=-1), 1):
        given += stream.process(part).shape[-1]
        assert 80 * count - given <= 510
    other = waveform.clone()
    other[:, 8_000:] = 0
    level = denoiser.level(waveform, 16_000)
    outs = []
    for signal in (waveform, other):
        stream = denoiser.stream(16_000, level)
        outs.append(torch.cat([stream.process(signal), stream.flush()], dim=-1))
    assert torch.equal(outs[0][:, : 8_000 - 510], outs[1][:, : 8_000 - 510])


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("name", NETS)
def test_a_network_that_looks_ahead_gives_blocks_that_equal_the_whole(name, layers):
    net = build(name, causal=False, segment=8, layers=layers).net.double()  # rounding cannot hide a short context
    x = torch.rand(1, 3, 256, 203).double() * 2 - 1
    first, last = net.context + 5 * net.stride, net.context + 8 * net.stride
    with torch.no_grad():
        block = net(x[..., first - net.context : last + net.context])[..., net.context :][..., : last - first]
        assert torch.allclose(net(x)[..., first:last], block, rtol=0, atol=1e-12)


def test_options_of_a_listener():
    denoiser, noisy = build("crn", head="mask"), noisy_voice(1.0, 48_000)
    assert torch.allclose(denoiser.enhance(noisy, 48_000, Options(dry=1.0)), noisy, atol=1e-5)
    assert torch.allclose(denoiser.enhance(noisy, 48_000, Options(max_attenuation_db=0.0)), noisy, atol=1.0)
    with pytest.raises(ConfigError, match="causal"):
        denoiser.enhance(noisy, 48_000, Options(phase_iters=2))


def test_full_band_keeps_what_lies_above():
    denoiser, noisy = build("crn", head="mask"), noisy_voice(1.0, 48_000)

    def high(waveform: torch.Tensor) -> float:
        return float(torch.fft.rfft(waveform).abs()[:, 9_000:].square().sum())

    assert high(denoiser.enhance(noisy, 48_000)) > 100 * high(denoiser.enhance(noisy, 48_000, Options(full_band=False)))
