"""Callbacks of a training: averaged weights, and norms that keep their statistics."""

import json
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

from conftest import options, train_here
from denoiser import Denoiser
from denoiser.audio import read, resample
from denoiser.errors import CheckpointError
from denoiser.evaluation.metrics import si_sdr
from denoiser.training import record
from denoiser.training.callbacks import FrozenNorms, _averaged


def test_inference_loads_the_average_of_the_weights(vctk, tmp_path):
    quick = ("test=false", "trainer.max_epochs=1", "data.batch_size=1", "metrics=[si_sdr]", "callbacks.clips=null")
    train_here(tmp_path, *options(vctk, *quick, "callbacks=ema", "callbacks.ema.decay=0.5"))
    path = tmp_path / "checkpoints/last.ckpt"
    kept = torch.load(path, weights_only=True)
    net = "denoiser.net.encoder.0.0.weight"
    assert not torch.equal(kept["state_dict"][net], kept["current_model_state"][net])
    denoiser = Denoiser.from_checkpoint(path, "cpu")
    assert torch.equal(denoiser.net.encoder[0][0].weight, kept["state_dict"][net])


def test_a_validation_before_the_first_step_needs_no_average_of_the_weights(vctk, tmp_path):
    quick = ("test=false", "trainer.max_epochs=1", "metrics=[si_sdr]", "callbacks.clips=null", "clips=0")
    train_here(tmp_path, *options(vctk, *quick, "callbacks=ema", "trainer.num_sanity_val_steps=1"))
    assert len(record.read(tmp_path)["curve"]) == 1


def test_the_test_scores_the_average_of_the_weights(vctk, tmp_path):
    quick = ("trainer.max_epochs=2", "data.batch_size=1", "metrics=[si_sdr]", "callbacks.clips=null", "clips=0")
    train_here(tmp_path, *options(vctk, *quick, "optimizer.lr=1e-2", "callbacks=ema", "callbacks.ema.decay=0.9"))
    path = tmp_path / "checkpoints/best.ckpt"
    denoiser = Denoiser.from_checkpoint(path, "cpu")
    averaged = mean_score(vctk, denoiser)
    raw = torch.load(path, weights_only=True)["current_model_state"]
    denoiser.net.load_state_dict(
        {key.removeprefix("denoiser.net."): value for key, value in raw.items() if ".net." in key}
    )
    found = json.loads((tmp_path / "scores.json").read_text())["enhanced"]["si_sdr"]
    assert abs(mean_score(vctk, denoiser) - averaged) > 0.1
    assert found == pytest.approx(averaged, abs=0.03)


def mean_score(corpus: Path, denoiser: Denoiser) -> float:
    """Return the mean SI-SDR that a denoiser brings the two test pairs of a corpus to, in dB."""
    scores = []
    for name in ("p232_000", "p257_001"):
        clean, noisy = (
            resample(*read(corpus / f"{kind}_testset_wav/{name}.wav"), denoiser.sample_rate)
            for kind in ("clean", "noisy")
        )
        scores.append(si_sdr(clean[0], denoiser.enhance(noisy, denoiser.sample_rate)[0], denoiser.sample_rate))
    return sum(scores) / len(scores)


def test_frozen_norms_hold_for_those_of_several_gpus_too():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(3)))
    FrozenNorms().on_train_batch_start(Trainer(logger=False), model.train(), None, 0)
    assert not model[0].training


def test_frozen_norms_keep_their_statistics(vctk, tmp_path):
    quick = ("test=false", "trainer.max_epochs=1", "metrics=[si_sdr]", "callbacks.clips=null", "model.norm=batch")
    train_here(tmp_path, *options(vctk, *quick, "+callbacks.norms._target_=denoiser.training.callbacks.FrozenNorms"))
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    counts = [int(value) for name, value in state.items() if name.endswith("num_batches_tracked")]
    assert counts
    assert not any(counts)


def test_an_average_forgets_the_first_weights_soon():
    average = torch.tensor(1.0)
    for count in range(1, 100):
        average = _averaged(average, torch.tensor(0.0), torch.tensor(count), decay=0.999)
    assert 0 < average < 1e-6


@pytest.mark.parametrize("averages", [True, False])
def test_a_resumed_run_goes_on_with_its_average_or_without_one(vctk, tmp_path, averages):
    quick = ("test=false", "metrics=[si_sdr]", "callbacks.clips=null", "clips=0", f"data.cache={tmp_path}/cache")
    arguments = {name: options(vctk, *quick, f"callbacks={name}") for name in ("ema", "default")}
    same, other = ("ema", "default") if averages else ("default", "ema")
    train_here(tmp_path / "run", *arguments[same], "trainer.max_epochs=1")
    path = tmp_path / "run/checkpoints/last.ckpt"
    change = {"ema": r"training\.ema was 0\.999, is None", "default": r"training\.ema was None, is 0\.999"}[same]
    with pytest.raises(CheckpointError, match=f"settings differ: {change}"):
        train_here(tmp_path / "run", *arguments[other], "trainer.max_epochs=2", "ckpt_path=last")
    # An older version did not say so in its settings.
    older = torch.load(path, weights_only=True)
    del older["hyper_parameters"]["training"]["ema"]
    torch.save(older, path)
    with pytest.raises(CheckpointError, match=r"settings differ: training\.ema"):
        train_here(tmp_path / "run", *arguments[other], "trainer.max_epochs=2", "ckpt_path=last")
    train_here(tmp_path / "run", *arguments[same], "trainer.max_epochs=2", "ckpt_path=last")
    assert [row["epoch"] for row in record.read(tmp_path / "run")["curve"]] == [1, 2]
