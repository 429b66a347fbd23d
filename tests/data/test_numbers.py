"""What is no number, no sound or not what it was: where it is refused, and that a line names it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY, make_loss, train_here, write_vctk

from denoiser.data import augment_changes
from denoiser.data.pairs import match
from denoiser.data.preparation import paired, prepare
from denoiser.data.store import Store, is_whole
from denoiser.errors import CorpusError, DivergedError
from denoiser.inference.denoiser import Denoiser
from denoiser.models import heads
from denoiser.training import record


def options(root: Path, *more: str) -> list[str]:
    quick = ("metrics=[si_sdr]", "trainer.max_epochs=2", "callbacks.clips=null", "logger=csv", "test=false")
    return [*TINY, f"data.root={root}", f"data.cache={root}/cache", *quick, *more]


@pytest.fixture
def root(tmp_path):
    return write_vctk(tmp_path / "corpus", train=8, test=2, rate=16_000, seconds=0.6)


def stores(root: Path) -> list[Store]:
    return [Store(path.parent) for path in sorted((root / "cache").glob("*/index.json"))]


class Spoil(augment_changes.Change):
    """An augmentation with a mistake: the third row of a batch is divided by zero."""

    def change(self, noise, clean, level, rng):
        clean = clean.clone()
        clean[2] = clean[2] / 0.0
        return noise, clean


def test_a_batch_of_no_numbers_ends_the_training_and_names_the_files(root, tmp_path, monkeypatch):
    monkeypatch.setitem(augment_changes.CHANGES, "spoil", Spoil)
    arguments = options(root, "data.shuffle=false", "trainer.log_every_n_steps=1")
    train_here(tmp_path / "run", *arguments, "trainer.max_epochs=1", "+augment.spoil={probability: 0}")
    with pytest.raises(DivergedError) as failure:
        train_here(tmp_path / "bad", *arguments, "+augment.spoil={probability: 1}")
    third = sorted(name for store in stores(root) for name in store.names if name[:4] in ("p225", "p288"))[2]
    assert f"the loss is nan at step 1, in epoch 1: the batch held no finite numbers, for {third}; is it" in str(
        failure.value
    )
    assert record.read(tmp_path / "bad")["reason"] == str(failure.value)
    assert not (tmp_path / "bad/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_with_their_files_names(root, value):
    (path,) = root.glob("noisy_trainset*/p225_000.wav")
    sound, rate = soundfile.read(path)
    sound[100] = value
    soundfile.write(path, sound, rate, subtype="FLOAT")
    with pytest.raises(CorpusError, match=rf"^1 problem in the corpus.*{path.name}: holds NaN, infinite"):
        train_here(root / "run", *options(root))
    assert not list((root / "cache").glob("16000hz-*/index.json")) or len(stores(root)) == 1  # the test set's


@pytest.mark.parametrize("loss", ["huber", "l1", "mse", "compressed", "si_sdr", "mrstft"])
def test_silence_gives_losses_and_gradients_that_are_numbers(loss):
    for head in heads.HEADS:
        torch.manual_seed(0)
        denoiser = Denoiser.build({"name": "unet", "depth": 2, "width": 4, "head": {"name": head}}, {})
        denoiser.spectral.peak.fill_(5.0)
        silence = torch.zeros(2, denoiser.spectral.samples(16))
        spectrum = denoiser.spectral(silence, torch.zeros(2, 1), center=False)
        value = make_loss(loss)(denoiser.estimate(spectrum), spectrum, spectrum)
        assert value.isfinite()
        value.backward()
        for parameter in denoiser.net.parameters():
            assert parameter.grad is None or parameter.grad.isfinite().all()


def test_a_training_with_silent_files_goes_on(root, tmp_path):
    for path in root.glob("*_trainset*/p225_*.wav"):  # half of what trains
        soundfile.write(path, np.zeros(9600), 16_000)
    for path in root.glob("*_trainset*/p226_*.wav"):  # and of what validates
        soundfile.write(path, np.zeros(9600), 16_000)
    train_here(tmp_path / "run", *options(root, "data.batch_size=1"))
    assert record.read(tmp_path / "run")["status"] == "finished"


def test_a_clip_that_is_damaged_in_the_store_is_named(root, tmp_path):
    train_here(tmp_path / "run", *options(root, "trainer.max_epochs=1"))
    (store,) = (store for store in stores(root) if len(store.names) == 8)
    place = store.utterances["p226_001"].start + 1000
    path = store.folder / "clean.i16"
    samples = np.memmap(path, np.int16, mode="r+")
    samples[place] += 1
    samples.flush()
    with pytest.raises(CorpusError, match=r"^p226_001: was prepared well and is damaged now, in .*\(checksum\)"):
        train_here(tmp_path / "run", *options(root, "ckpt_path=last"))
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"] == 0
    samples[place] -= 1
    samples.flush()
    train_here(tmp_path / "run", *options(root, "ckpt_path=last"))


def test_a_store_that_was_cut_short_is_prepared_again(root):
    corpus = paired(match(root / "noisy_trainset_28spk_wav", root / "clean_trainset_28spk_wav")[0])
    (first,) = prepare([corpus], 16_000, root / "cache")
    before = first.read("p225_000")
    with open(first.folder / "noisy.i16", "r+b") as file:
        file.truncate(1000)
    assert not is_whole(first.folder)
    (second,) = prepare([corpus], 16_000, root / "cache")
    assert second.folder == first.folder
    assert all(torch.equal(a, b) for a, b in zip(before, second.read("p225_000"), strict=True))


def test_a_store_from_before_there_were_checksums_is_read(root):
    corpus = paired(match(root / "noisy_trainset_28spk_wav", root / "clean_trainset_28spk_wav")[0])
    (store,) = prepare([corpus], 16_000, root / "cache")
    index = json.loads((store.folder / "index.json").read_text())
    for utterance in index["utterances"]:
        del utterance["checksum"]
    (store.folder / "index.json").write_text(json.dumps(index))
    (again,) = prepare([corpus], 16_000, root / "cache")
    assert torch.equal(again.read("p225_000")[0], store.read("p225_000")[0])
