"""Bandwidth of a recording, found when a corpus is prepared, and the bands above it, which no loss counts."""

import pytest
import torch

from conftest import TINY, make_module, train_here
from denoiser import Denoiser, audio
from denoiser.data import pairs, preparation
from denoiser.data.bandwidth import Bandwidth

RATE = 48_000


def hiss(rate: int = RATE) -> torch.Tensor:
    """Return a second of noise."""
    return 0.1 * torch.randn(1, rate, generator=torch.Generator().manual_seed(0))


def cut(sound: torch.Tensor, edge: int) -> torch.Tensor:
    """Return a second of sound without all that lies above ``edge`` Hz."""
    spectrum = torch.fft.rfft(sound)
    spectrum[:, edge:] = 0
    return torch.fft.irfft(spectrum)


def measured(sound: torch.Tensor, source_rate: int = RATE) -> float:
    meter = Bandwidth(RATE)
    for block in sound.split(20_000, dim=-1):
        meter.add(block)
    return meter.measure(source_rate)


def test_an_edge_that_a_codec_or_an_earlier_rate_left_is_found():
    noise = hiss()
    assert measured(noise) == 24_000
    for edge in (8_000, 11_025, 16_000):
        assert measured(cut(noise, edge)) == pytest.approx(edge, abs=500), edge
    assert measured(torch.zeros(1, RATE)) == 24_000


def test_the_store_knows_the_bandwidth_of_each_recording(tmp_path):
    for rate in (16_000, 44_100, 48_000):
        audio.write(tmp_path / f"sound/{rate}.wav", hiss(rate), rate)
    corpus = pairs.one_track("speech", tmp_path / "sound")
    (store,) = preparation.prepare([corpus], RATE, tmp_path / "cache")
    assert store.bandwidths.tolist() == [8_000, 22_050, 24_000]


def test_bands_above_the_bandwidth_count_in_no_loss():
    torch.manual_seed(0)
    module = make_module(metrics=())
    spectral = {"sample_rate": RATE, "n_fft": 1530, "hop": 765, "peak": 5.0, "bands": 32}
    module.denoiser = Denoiser.build({"name": "unet", "depth": 2, "width": 4}, spectral)
    clean, noise = hiss(), hiss().flip(-1)
    low = cut(clean, 8_000)

    def loss(target: torch.Tensor, bandwidth: float) -> float:
        spectra = module.denoiser.spectral.spectra(clean + noise, target, torch.ones(1, 1))
        return module.step({**spectra, "bandwidth": torch.tensor([bandwidth])}).item()

    counted, uncounted = (abs(loss(low, hertz) - loss(clean, hertz)) for hertz in (24_000, 8_000))
    assert uncounted < 0.2 * counted


def test_a_corpus_at_48_khz_trains_and_tests_with_bands(vctk, tmp_path):
    settings = ["spectral=48k_bands", "trainer.max_epochs=1", "model/head=filter", "loss=perceptual", "test=true"]
    train_here(tmp_path, *TINY, *settings, f"data.root={vctk}", f"data.cache={tmp_path}/cache")
    denoiser = Denoiser.from_checkpoint(tmp_path)
    assert (denoiser.sample_rate, denoiser.spectral.bins) == (RATE, 288)
    assert denoiser.enhance(hiss(), RATE).shape == (1, RATE)
