"""Training on samples that are not finite, and on silence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from conftest import TINY, train_here, write_vctk
from denoiser.data.augment import Transform
from denoiser.data.store import Store
from denoiser.errors import CorpusError, DivergedError
from denoiser.training import record


def options(root: Path, *more: str) -> list[str]:
    quick = ("metrics=[si_sdr]", "trainer.max_epochs=2", "callbacks.clips=null", "logger=csv", "test=false")
    return [*TINY, f"data.root={root}", f"data.cache={root}/cache", *quick, *more]


@pytest.fixture
def root(tmp_path):
    return write_vctk(tmp_path / "corpus", train=8, test=2, rate=16_000, seconds=0.6)


def stores(root: Path) -> list[Store]:
    return [Store(path.parent) for path in sorted((root / "cache").glob("*/index.json"))]


class Spoil(Transform):
    """Transform with a mistake: the third row of a batch is divided by zero."""

    def change(self, noise, clean, level, rng):
        clean = clean.clone()
        clean[2] = clean[2] / 0.0
        return noise, clean


def test_a_batch_that_is_not_finite_ends_the_training_with_its_step_and_advice(root, tmp_path):
    spoil = "+augment.spoil._target_=test_bad_samples.Spoil"
    with pytest.raises(
        DivergedError, match=r"^the loss is nan at step 1, in epoch 1: .* augment, may help$"
    ) as failure:
        train_here(tmp_path / "bad", *options(root, "trainer.log_every_n_steps=1", spoil))
    assert record.read(tmp_path / "bad")["reason"] == str(failure.value)
    assert not (tmp_path / "bad/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused_with_the_name_of_the_file(root, value):
    (path,) = root.glob("noisy_trainset*/p225_000.wav")
    sound, rate = soundfile.read(path)
    sound[100] = value
    soundfile.write(path, sound, rate, subtype="FLOAT")
    with pytest.raises(CorpusError, match=rf"^1 problem in the corpus.*{path.name}: holds NaN, infinite"):
        train_here(root / "run", *options(root))
    assert not list((root / "cache").glob("16000hz-*/index.json")) or len(stores(root)) == 1


def test_training_with_silent_files_works(root, tmp_path):
    for path in root.glob("*_trainset*/p22[56]_*.wav"):
        soundfile.write(path, np.zeros(9600), 16_000)
    train_here(tmp_path / "run", *options(root, "data.batch_size=1"))
    assert record.read(tmp_path / "run")["status"] == "finished"
