import pytest
import torch
from torch.nn import functional as F

from denoiser import Denoiser
from denoiser.errors import ConfigError
from denoiser.inference.options import Options
from untrained import noisy_voice, streamed

NETS = {
    "crn": {"name": "crn", "stem": 2, "widths": [4, 8, 8], "hidden": 16},
    "dualpath": {"name": "dualpath", "stem": 4, "widths": [4, 8], "hidden": 8, "layers": 2},
}


def build(name: str, hop: int = 128, head: str = "complex", level_seconds: float = 0.0, **changes) -> Denoiser:
    torch.manual_seed(0)
    spectral = {"hop": hop, "peak": 3.0, "level_seconds": level_seconds}
    denoiser = Denoiser.build({**NETS[name], **changes, "head": {"name": head}}, spectral).eval()
    for parameter in denoiser.net.parameters():
        parameter.data.mul_(1.3)  # far from an output of zero
    return denoiser


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    ("head", "hop", "rate"), [("filter", 128, 16_000), ("complex", 255, 48_000), ("filter", 100, 8_000)]
)
def test_frame_by_frame_equals_the_whole_recording(name, head, hop, rate):
    denoiser = build(name, hop, head)
    noisy = noisy_voice(0.5, rate, channels=2)[:, :-77]
    whole = denoiser.enhance(noisy, rate)
    assert whole.shape == noisy.shape
    assert not torch.allclose(whole, noisy, atol=0.1)
    stream = denoiser.stream(rate, denoiser.level(noisy, rate), block_seconds=0.02)
    assert torch.allclose(streamed(stream, noisy, rate // 77), whole, atol=1e-5)
    denoiser.block_seconds = 0.3
    assert torch.allclose(denoiser.enhance(noisy, rate), whole, atol=1e-5)


@pytest.mark.parametrize("length", [1, 127, 128, 255, 256, 510, 511])
@pytest.mark.parametrize("hop", [128, 255])
def test_recordings_of_every_length_come_back_whole(hop, length):
    noisy = noisy_voice(0.1, 16_000)[:, :length]
    enhanced = build("crn", hop, "mask").enhance(noisy, 16_000)
    assert enhanced.shape == noisy.shape
    # No sample is divided by the foot of a window.
    assert enhanced.abs().max() < 4 * noisy.abs().max()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("head", "level_seconds"), [("complex", 0.0), ("filter", 0.0), ("complex", 2.0)])
def test_a_causal_network_does_not_look_ahead_and_states_its_latency(name, head, level_seconds):
    denoiser = build(name, head=head, level_seconds=level_seconds)
    stream = denoiser.stream(16_000, block_seconds=0.008)
    assert stream.latency == pytest.approx(510 / 16_000)  # 32 ms
    noisy, returned = noisy_voice(0.5, 16_000), 0
    for count, part in enumerate(noisy.split(80, dim=-1), 1):
        returned += stream.process(part).shape[-1]
        assert 80 * count - returned <= 510
    other = noisy.clone()
    other[:, 4_000:] = 0
    level = denoiser.level(noisy, 16_000)
    enhanced = [streamed(denoiser.stream(16_000, level), sound, 8_000)[:, : 4_000 - 510] for sound in (noisy, other)]
    assert torch.allclose(*enhanced, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("name", NETS)
def test_a_network_that_looks_ahead_gives_blocks_that_equal_the_whole(name, layers):
    net = build(name, causal=False, segment=8, layers=layers).net.double()  # rounding cannot hide a short context
    x = torch.rand(1, 3, 256, 203).double() * 2 - 1
    first, last = net.context + 5 * net.stride, net.context + 8 * net.stride
    with torch.no_grad():
        block = net(x[..., first - net.context : last + net.context])[..., net.context :][..., : last - first]
        assert torch.allclose(net(x)[..., first:last], block, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("shifts", [2, 3])
def test_a_causal_network_averages_shifts_within_the_same_largest_delay(name, shifts):
    denoiser = build(name, head="filter", level_seconds=2.0)
    noisy = noisy_voice(0.5, 16_000, channels=2)[:, :-77]
    level = denoiser.level(noisy, 16_000)
    stream = denoiser.stream(16_000, level, Options(shifts=shifts))
    parts, returned = [], 0
    for count, part in enumerate(noisy.split(80, dim=-1), 1):
        parts.append(stream.process(part))
        returned += parts[-1].shape[-1]
        assert min(80 * count, noisy.shape[-1]) - returned <= 510
    averaged = torch.cat([*parts, stream.flush()], dim=-1)

    single = []
    for shift in (part * denoiser.spectral.hop // shifts for part in range(shifts)):
        later = F.pad(noisy, (shift, 0), "replicate")
        single.append(streamed(denoiser.stream(16_000, level), later, 9_000)[:, shift:])
    assert torch.allclose(averaged, torch.stack(single).mean(0), atol=1e-5)
    assert not torch.allclose(averaged, single[0], atol=1e-3)
    assert torch.allclose(denoiser.enhance(noisy, 16_000, Options(shifts=shifts)), averaged, atol=1e-5)


def test_a_causal_network_refuses_phase_iterations_which_need_later_frames():
    with pytest.raises(ConfigError, match="causal"):
        build("crn").enhance(noisy_voice(0.2, 16_000), 16_000, Options(phase_iters=2))
