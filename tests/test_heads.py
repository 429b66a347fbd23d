from __future__ import annotations

import pytest
import torch
from conftest import make_noise, make_voice

from denoiser import heads, losses
from denoiser.enhance import Denoiser
from denoiser.errors import ConfigError
from denoiser.heads import HEADS
from denoiser.spectral import Spectral, Spectrum

TINY = {"name": "unet", "depth": 2, "width": 4, "dropout": 0}


def spectra(seconds: float = 0.5) -> tuple[Spectrum, Spectrum]:
    """Noisy and clean, in a representation fitted to them."""
    clean = make_voice(seconds, 16_000)
    noisy = clean + make_noise(seconds, 16_000)
    spectral, level = Spectral(), Spectral.level(noisy)
    spectral.fit([(noisy[0], level[0])])
    return spectral(noisy, level, center=False), spectral(clean, level, center=False)


def answer(name: str, noisy: Spectrum, clean: Spectrum) -> torch.Tensor:
    """The output of a network that knows the truth."""
    gain = (clean.magnitude + 1) / (noisy.magnitude + 1)
    turn = clean.phase * noisy.phase.conj()
    if name == "noise":
        return Spectral.difference(noisy.magnitude, clean.magnitude)[:, None]
    if name == "mask":
        return gain[:, None] / 1.2
    if name == "complex":
        return torch.view_as_real(gain * turn).movedim(-1, 1) / 1.2
    across = torch.view_as_real(turn).movedim(-1, 1)  # (1 + 2a, 2b) in that direction, both within 1
    scale = 1 / (across.abs().amax(1, keepdim=True))
    return torch.cat([gain[:, None] / 0.6 - 1, (across[:, :1] * scale - 1) / 2, across[:, 1:] * scale / 2], dim=1)


@pytest.mark.parametrize("name", HEADS)
def test_a_network_that_knows_gives_the_clean_spectrum(name):
    noisy, clean = spectra()
    head = heads.build(name)
    estimate = head(answer(name, noisy, clean), noisy)
    heard = clean.linear.abs() > 1e-3
    assert torch.allclose(estimate.magnitude[heard], clean.magnitude[heard], atol=1e-3)
    phase = clean.phase if name in ("complex", "phase") else noisy.phase
    assert torch.allclose(estimate.phase[heard], phase[heard], atol=1e-2)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("loss", ["huber", "compressed", "si_sdr", "mrstft", "pmsqe"])
def test_every_head_learns_under_every_loss(name, loss):
    torch.manual_seed(0)
    denoiser = Denoiser.build({**TINY, "head": {"name": name}}, {}).train()
    noisy, clean = spectra(0.25)
    denoiser.spectral.peak.copy_(noisy.spectral.peak)
    function = losses.build(loss)
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
def test_silence_in_silence_out(name):
    denoiser = Denoiser.build({**TINY, "head": {"name": name}}, {"peak": 3.0}).eval()
    assert not denoiser.enhance(torch.zeros(1, 3_000), 16_000).any()


def test_a_mask_never_adds_more_than_its_limit():
    noisy, _ = spectra()
    for name in ("mask", "complex", "phase"):
        head = heads.build(name, limit=1.0)
        output = torch.ones(1, head.outputs, *noisy.shape[1:])
        gain = (head(output, noisy).magnitude + 1) / (noisy.magnitude + 1)
        assert gain.max() <= (2**0.5 if name == "complex" else 1) + 1e-4


@pytest.mark.parametrize("net", [TINY, {**TINY, "stem": 2}, {"name": "crn", "widths": [4, 4], "hidden": 4}])
def test_an_untrained_complex_mask_turns_nothing(net):
    torch.manual_seed(0)
    noisy, _ = spectra()
    estimate = Denoiser.build({**net, "head": {"name": "complex"}}, {"peak": 3.0}).estimate(noisy)
    heard = noisy.linear.abs() > 1e-3
    assert (estimate.phase * noisy.phase.conj()).real[heard].median() > 0.7


@pytest.mark.parametrize("wrong", [{"name": "mask", "limit": 0}, {"name": "mask", "limit": "x"}, {"name": "mosk"}])
def test_a_wrong_head_is_one_line(wrong):
    with pytest.raises(ConfigError, match=r"model\.head"):
        heads.build(**wrong)
