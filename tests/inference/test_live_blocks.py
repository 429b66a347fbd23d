"""Blocks of a microphone, without one."""

import asyncio

import numpy as np
import pytest
import torch

from conftest import ROOT
from denoiser import Denoiser
from denoiser.errors import ConfigError, DenoiserError
from denoiser.inference.live import Live
from denoiser.inference.options import Options
from untrained import build, noisy_voice, streamed

NET = {"name": "crn", "stem": 8, "widths": [4, 8], "hidden": 8, "head": {"name": "mask"}}


@pytest.fixture(scope="module")
def causal() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser.build(NET, {"peak": 3.0, "level_seconds": 2.0}).eval()


def answers(live: Live, sound: torch.Tensor) -> torch.Tensor:
    """Return what the blocks of ``[1, N]`` become."""
    blocks = [live(part.numpy()) for part in sound[0].split(live.block)]
    assert all(len(block) == live.block for block in blocks)
    return torch.from_numpy(np.concatenate(blocks))


@pytest.mark.parametrize(("rate", "block"), [(16_000, 160), (16_000, 77), (48_000, 480), (44_100, 64)])
def test_each_block_is_answered_by_one_as_long_at_the_stated_short_delay(causal, rate, block):
    live = Live(causal, rate, block, Options(dry=1.0))
    # Blocks of 10 ms hold few steps of the ratio of 44.1 to 16 kHz.
    assert live.delay < (0.08 if rate == 44_100 else 0.06)
    sound = noisy_voice(1.0, rate)[:, : rate // block * block]
    delay = round(live.delay * rate)
    answer = answers(live, sound)
    assert not answer[:delay].any()
    assert torch.allclose(answer[delay:], sound[0, : len(answer) - delay], atol=1e-5)


def test_the_blocks_are_those_of_a_stream(causal):
    live, stream = Live(causal, 16_000, 160), causal.stream(16_000)
    sound = noisy_voice(1.0, 16_000)
    delay = round(live.delay * 16_000)
    expected = torch.cat([stream.process(part) for part in sound.split(160, dim=-1)], dim=-1)[0]
    answer = answers(live, sound)[delay:]
    assert torch.allclose(answer, expected[: len(answer)], atol=1e-6)
    assert not torch.allclose(answer, sound[0, : len(answer)], atol=0.05)


def test_a_bypass_passes_the_noise_at_the_same_delay_and_fades(causal):
    live = Live(causal, 16_000, 160, keeps=True)
    sound = torch.full((1, 8_000), 0.25) + noisy_voice(0.5, 16_000)
    first = answers(live, sound[:, :4_000])
    live.bypass = True
    second = answers(live, sound[:, 4_000:])
    delay = round(live.delay * 16_000)
    assert torch.equal(second[160:], sound[0, 4_160 - delay : 8_000 - delay])
    noisy, enhanced = torch.cat(list(live.kept()), dim=1)
    assert torch.equal(enhanced, torch.cat([first, second]))
    assert torch.equal(noisy[delay:], sound[0, : 8_000 - delay])
    # In the block of the change, the first sample is still the enhanced one and the last is the noise.
    assert second[159] == noisy[4_159]
    assert (second[0] - noisy[4_000]).abs() > 0.01


def test_levels_load_and_what_is_kept_are_told_once(causal):
    live = Live(causal, 16_000, 160, keeps=True)
    assert live.levels() == (-99, -99)
    answers(live, torch.full((1, 1_600), 0.1))
    before, _ = live.levels()
    assert before == pytest.approx(-20, abs=0.01)
    assert live.levels() == (-99, -99)
    assert live.blocks == 10
    assert 0 < live.load <= live.worst_load
    assert len(list(live.kept())) == 10
    assert not list(live.kept())


def test_a_network_that_looks_ahead_is_refused():
    with pytest.raises(ConfigError, match=r"late; live needs a causal one"):
        Live(build(), 16_000, 160)


def test_a_stream_begins_anew(causal):
    sound = noisy_voice(0.5, 16_000)
    stream = causal.stream(16_000)
    first = streamed(stream, sound, 8_000)
    stream.reset()
    with pytest.raises(DenoiserError, match="before it was given anything"):
        stream.flush()
    assert torch.equal(streamed(stream, sound, 8_000), first)


def test_the_voice_agent_of_the_documentation_hears_its_caller():
    text = (ROOT / "docs/inference.md").read_text()
    (example,) = (part for part in text.split("```python\n")[1:] if part.startswith("import asyncio"))
    ckpt = str(ROOT / "tests/reference/crn.ckpt")
    names: dict = {}
    exec(example.partition("```")[0].replace('"live"', repr(ckpt)), names)
    sound = (20_000 * noisy_voice(0.5, 48_000)[0]).to(torch.int16).numpy()
    blocks = np.split(sound, range(480, len(sound), 480))

    async def call() -> list[np.ndarray]:
        caller, recogniser = asyncio.Queue(), asyncio.Queue()
        for block in [*blocks, None]:
            caller.put_nowait(block)
        await names["hear"](caller, recogniser)
        return [recogniser.get_nowait() for _ in range(recogniser.qsize())]

    *heard, end = asyncio.run(call())
    assert end is None
    stream = Denoiser.from_checkpoint(ckpt).stream(48_000)
    expected = np.concatenate([*(stream.process(block) for block in blocks), stream.flush()])
    assert expected.dtype == np.int16
    assert len(expected) == len(sound)
    assert (np.concatenate(heard) == expected).all()
