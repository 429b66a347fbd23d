"""The test at the end of a training, and what it writes."""

import json

import pytest
import torch

from conftest import TINY, make_module, make_noise, make_voice, train_here, write_pair
from denoiser.audio import write
from denoiser.errors import CheckpointError, ConfigError
from denoiser.training import record


def test_the_test_in_tensorboard_is_that_of_the_scores(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for i in range(6):
        part = "test/" if i < 3 else ""
        write_pair(tmp_path / f"{part}noisy/{i}.wav", tmp_path / f"{part}clean/{i}.wav", 0.6, 16_000, i)
    # Of these, the one has no speech, and the other is recorded as silence.
    write(tmp_path / "test/clean/0.wav", torch.zeros(1, 9600), 16_000)
    write(tmp_path / "test/noisy/1.wav", torch.zeros(1, 9600), 16_000)
    more = ("data=folders", f"data.root={tmp_path}", f"data.cache={tmp_path}/cache", "trainer.max_epochs=1", "clips=0")
    train_here(tmp_path / "run", *TINY, *more, "metrics=[si_sdr]", "callbacks.clips=null")
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert scores["undefined"] == {"si_sdr": 1}
    assert scores["enhanced"]["si_sdr"] < -30
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert events.Scalars("test/si_sdr")[0].value == pytest.approx(scores["enhanced"]["si_sdr"], abs=1e-4)


def test_validation_and_test_score_a_recording_without_its_offset():
    module = make_module(metrics=("si_sdr",), metric_workers=0).eval().requires_grad_(False)
    module.denoiser.spectral.peak.fill_(5.0)
    clean = make_voice(1.0, 16_000)
    noisy = clean + make_noise(1.0, 16_000)
    found = []
    for offset in (0.0, 0.1):
        batch = {"noisy": noisy + offset, "clean": clean + offset, "level": torch.full((1, 1), 0.1)}
        batch |= {"bandwidth": torch.tensor([8_000.0]), "name": ["a"], "index": torch.tensor([0])}
        module.validation_step(batch, 0)
        found.append(module._rows[0]["scores"].result()["si_sdr"])
        module.test_step(batch, 0)
        found.append(module._rows[0]["enhanced"].result()["si_sdr"])
    assert found == pytest.approx([found[0]] * 4, abs=0.01)


def test_a_run_that_is_resumed_without_a_test_or_clips_keeps_none_of_its_earlier_end(vctk, tmp_path):
    more = ("metrics=[si_sdr]", "callbacks.clips=null", f"data.root={vctk}", f"data.cache={tmp_path}/cache")
    train_here(tmp_path / "run", *TINY, *more, "trainer.max_epochs=1", "clips=2")
    names = ("scores.csv", "scores.json", "clips/clips.json")
    assert all((tmp_path / "run" / name).is_file() for name in names)
    resumed = ("trainer.max_epochs=2", "ckpt_path=last")
    train_here(tmp_path / "run", *TINY, *more, *resumed, "clips=1")
    assert len(list((tmp_path / "run/clips").glob("*.mp3"))) == 3
    train_here(tmp_path / "run", *TINY, *more, *resumed, "test=false", "clips=0")
    assert not any((tmp_path / "run" / name).exists() for name in names)


@pytest.mark.parametrize("limit", ["0", "0.4"])
def test_a_test_of_no_file_is_refused_before_the_training(vctk, tmp_path, limit):
    more = (f"data.root={vctk}", f"data.cache={tmp_path}/cache", "trainer.max_epochs=1", "metrics=[si_sdr]", "clips=0")
    with pytest.raises(ConfigError, match=rf"^trainer\.limit_test_batches={limit}: none of 2 test files"):
        train_here(tmp_path / "run", *TINY, *more, f"trainer.limit_test_batches={limit}")
    assert not (tmp_path / "run").exists()
    train_here(tmp_path / "run", *TINY, *more, f"trainer.limit_test_batches={limit}", "test=false")


def test_a_run_does_not_go_on_with_another_validation(vctk, tmp_path):
    more = (f"data.root={vctk}", f"data.cache={tmp_path}/cache", "metrics=[si_sdr]", "clips=0", "test=false")
    train_here(tmp_path / "run", *TINY, *more, "trainer.max_epochs=1")
    resumed = ("trainer.max_epochs=2", "ckpt_path=last")
    with pytest.raises(CheckpointError, match=r"settings differ: training\.val_limit was 64, is 1;"):
        train_here(tmp_path / "run", *TINY, *more, *resumed, "data.val_limit=1")
    # An older version did not write it.
    path = tmp_path / "run/checkpoints/last.ckpt"
    older = torch.load(path, weights_only=True)
    for key in ("val_limit", "corpus_seed"):
        del older["hyper_parameters"]["training"][key]
    torch.save(older, path)
    train_here(tmp_path / "run", *TINY, *more, *resumed, "data.val_limit=1")
    assert len(record.read(tmp_path / "run")["curve"]) == 2
