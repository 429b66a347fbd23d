"""Heads: each can express the clean spectrum, learns under every loss, and keeps silence."""

import pytest
import torch

from conftest import TINY as QUICK
from conftest import make_loss, make_noise, make_voice, spectra, train_here
from denoiser.errors import CheckpointError, ConfigError
from denoiser.inference.denoiser import Denoiser
from denoiser.models import heads
from denoiser.models.heads import HEADS
from denoiser.spectral import Spectral, Spectrum

TINY = {"name": "unet", "depth": 2, "width": 4, "dropout": 0}


def answer(name: str, noisy: Spectrum, clean: Spectrum) -> torch.Tensor:
    """Return the output of a network that knows the clean spectrum."""
    gain = (clean.magnitude + 1) / (noisy.magnitude + 1)
    turn = clean.phase * noisy.phase.conj()
    if name == "noise":
        return (noisy.magnitude - clean.magnitude)[:, None] / 2
    if name == "mask":
        return gain[:, None] / 1.2
    if name == "complex":
        return torch.view_as_real(gain * turn).movedim(-1, 1) / 1.2
    if name == "filter":
        return torch.cat([gain[:, None] / 1.2, torch.full((1, 10, *gain.shape[1:]), 0.5)], dim=1)
    across = torch.view_as_real(turn).movedim(-1, 1)  # (1 + 2a, 2b) in that direction, both within 1
    scale = 1 / (across.abs().amax(1, keepdim=True))
    return torch.cat([gain[:, None] / 0.6 - 1, (across[:, :1] * scale - 1) / 2, across[:, 1:] * scale / 2], dim=1)


@pytest.mark.parametrize("name", HEADS)
def test_a_network_that_knows_the_clean_spectrum_can_give_it(name):
    noisy, clean = spectra()
    head = heads.build(name)
    estimate = head(answer(name, noisy, clean), noisy)
    heard = clean.linear.abs() > (0.1 if name == "filter" else 1e-3)  # its phase fades out at 1e-3
    assert torch.allclose(estimate.magnitude[heard], clean.magnitude[heard], atol=1e-3)
    phase = clean.phase if name in ("complex", "phase") else noisy.phase
    assert torch.allclose(estimate.phase[heard], phase[heard], atol=1e-2)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("loss", ["huber", "compressed", "si_sdr", "mrstft", "perceptual"])
def test_every_head_learns_under_every_loss(name, loss):
    torch.manual_seed(0)
    denoiser = Denoiser.build({**TINY, "head": {"name": name}}, {}).train()
    noisy, clean = spectra(0.25)
    denoiser.spectral.peak.copy_(noisy.spectral.peak)
    function = make_loss(loss)
    optimizer = torch.optim.Adam(denoiser.parameters(), 1e-2)
    values = []
    for _ in range(12):
        value = function(denoiser.estimate(noisy), clean, noisy)
        optimizer.zero_grad()
        value.backward()
        assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in denoiser.parameters())
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]


@pytest.mark.parametrize("name", HEADS)
def test_silence_stays_silence(name):
    denoiser = Denoiser.build({**TINY, "head": {"name": name}}, {"peak": 3.0}).eval()
    assert not denoiser.enhance(torch.zeros(1, 3_000), 16_000).any()


def test_a_mask_never_adds_more_than_its_limit():
    noisy, _ = spectra()
    for name in ("mask", "complex", "phase", "filter"):
        head = heads.build(name, limit=1.0)
        output = torch.ones(1, head.outputs, *noisy.shape[1:])
        if name == "filter":
            output[:, 1:] = 0.5
        gain = (head(output, noisy).magnitude + 1) / (noisy.magnitude + 1)
        assert gain.max() <= (2**0.5 if name == "complex" else 1) + 1e-4


def test_a_filter_lets_a_steady_tone_through_and_takes_the_noise_beside_it():
    generator = torch.Generator().manual_seed(0)
    tone = torch.sin(2 * torch.pi * 500 / 16_000 * torch.arange(16_000))[None]
    noisy = tone + 0.5 * torch.randn(1, 16_000, generator=generator)
    spectral = Spectral(n_fft=512, hop=256, peak=5.0)  # 500 Hz is in the middle of a bin
    spectrum, clean = spectral(noisy, torch.ones(1, 1)), spectral(tone, torch.ones(1, 1))
    head = heads.build("filter", taps=5, lowest=32)
    turns = head.features(spectral(tone, torch.ones(1, 1)))[0, 1:, 16, 5:-5]
    assert torch.allclose(turns[1], torch.zeros(()), atol=1e-3)  # it has not turned beyond what its bin's middle does
    assert (turns[0] > 0.1).all()
    output = torch.full((1, head.outputs, *spectrum.shape[1:]), 0.5)
    output[:, 0] = 1 / 1.2  # a gain of one
    output[:, 1::2], output[:, 5] = 0.6, 0.1  # the mean over five frames: a fifth of each
    before, after = (
        (s.linear - clean.linear)[0, 16, 5:-5].abs().square().mean() for s in (spectrum, head(output, spectrum))
    )
    assert after < before / 2
    above = head(output, spectrum).linear[:, 32:]
    assert torch.allclose(above, spectrum.linear[:, 32:], rtol=1e-3, atol=1e-3)


def test_blocks_equal_the_whole_with_a_filter():
    torch.manual_seed(0)
    denoiser = Denoiser.build({**TINY, "head": {"name": "filter", "taps": 9}}, {"peak": 3.0}).eval()
    for parameter in denoiser.net.parameters():
        parameter.data.mul_(1.5)
    noisy = make_voice(2.0, 16_000) + make_noise(2.0, 16_000)
    whole = denoiser.enhance(noisy, 16_000)
    denoiser.block_seconds = 0.3
    assert torch.allclose(denoiser.enhance(noisy, 16_000), whole, atol=1e-5)


@pytest.mark.parametrize("net", [TINY, {**TINY, "stem": 2}, {"name": "crn", "widths": [4, 4], "hidden": 4}])
def test_an_untrained_complex_mask_turns_nothing(net):
    torch.manual_seed(0)
    noisy, _ = spectra()
    estimate = Denoiser.build({**net, "head": {"name": "complex"}}, {"peak": 3.0}).estimate(noisy)
    heard = noisy.linear.abs() > 1e-3
    assert (estimate.phase * noisy.phase.conj()).real[heard].median() > 0.7


@pytest.mark.parametrize(
    "wrong",
    [{"name": "mask", "limit": 0}, {"name": "mask", "limit": "x"}, {"name": "mosk"}, {"name": "filter", "taps": 4}],
)
def test_a_wrong_head_is_one_line(wrong):
    with pytest.raises(ConfigError, match=r"model\.head"):
        heads.build(**wrong)


@pytest.mark.parametrize("two_levels", ["false", "true"])
def test_a_head_that_gives_more_begins_as_the_one_it_grew_from(vctk, tmp_path, two_levels):
    arguments = [*QUICK, "model.width=8", "loss=compressed", "trainer.max_epochs=1", "test=false"]
    arguments += [f"spectral.two_levels={two_levels}"]
    arguments += [f"data.root={vctk}", f"data.cache={tmp_path}/cache"]
    train_here(tmp_path / "a", *arguments, "model/head=mask", "model.stem=2")
    path = tmp_path / "a/checkpoints/last.ckpt"
    grown = (*arguments, "model/head=filter", "model.stem=2", "optimizer.lr=0", f"init_from={path}")
    train_here(tmp_path / "b", *grown)
    noisy = make_voice(1.0, 16_000) + make_noise(1.0, 16_000)
    before, after = (
        Denoiser.from_checkpoint(tmp_path / run / "checkpoints/last.ckpt", "cpu").enhance(noisy, 16_000) for run in "ab"
    )
    assert torch.allclose(after, before, atol=1e-4)
    with pytest.raises(CheckpointError, match=r"model\.head\.name was mask, is filter"):
        train_here(tmp_path / "c", *grown, "model.width=10")
