from __future__ import annotations

import json

import pytest
import torch
from conftest import write_pair

from denoiser.data.datamodule import PairedData
from denoiser.errors import CorpusError
from denoiser.spectral import Spectral


def make_data(root, tmp_path, **options) -> PairedData:
    data = PairedData(
        Spectral(), str(root), cache=str(tmp_path / "cache"), **{"batch_size": 3, "frames": 64, **options}
    )
    data.prepare_data()
    data.setup()
    data.spectral.fit(data.calibration())
    return data


def waveforms(data: PairedData, epoch: int) -> list[torch.Tensor]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [torch.stack([batch["noisy"], batch["clean"]]) for batch in loader]


@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_batches_from_any_number_of_workers(vctk, tmp_path, workers):
    for epoch in (0, 1):
        alone = waveforms(make_data(vctk, tmp_path), epoch)
        helped = waveforms(make_data(vctk, tmp_path, workers=workers), epoch)
        assert len(alone) == len(helped) == 2
        assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


def test_epochs_and_seeds_differ_and_repeat(vctk, tmp_path):
    data = make_data(vctk, tmp_path)
    first, second = torch.cat(waveforms(data, 0), 1), torch.cat(waveforms(data, 1), 1)
    assert not torch.equal(first, second)
    assert torch.equal(first, torch.cat(waveforms(data, 0), 1))
    assert not torch.equal(first, torch.cat(waveforms(make_data(vctk, tmp_path, seed=1), 0), 1))
    fixed = make_data(vctk, tmp_path, shuffle=False)
    assert torch.equal(torch.cat(waveforms(fixed, 0), 1), torch.cat(waveforms(fixed, 5), 1))


def test_global_randomness_has_no_say(vctk, tmp_path):
    data = make_data(vctk, tmp_path)
    torch.manual_seed(1)
    first = torch.cat(waveforms(data, 0), 1)
    torch.manual_seed(2)
    assert torch.equal(first, torch.cat(waveforms(data, 0), 1))


def test_patches_are_scaled_magnitudes_of_the_crops(vctk, tmp_path):
    data = make_data(vctk, tmp_path, frames=256, batch_size=4)
    batch = next(iter(data.train_dataloader()))
    assert batch["noisy"].shape == (4, data.spectral.samples(256))
    patch = data.patches(batch)
    for key in ("noisy", "noise"):
        assert patch[key].shape == (4, 1, 256, 256)
        assert patch[key].abs().max() <= 1
    clean = data.spectral.magnitude(batch["clean"], batch["level"], center=False)
    rebuilt = data.spectral.subtract(patch["noisy"], patch["noise"])[:, 0]
    inside = patch["noisy"][:, 0] < 1  # the loudest in a thousand are clamped
    assert inside.float().mean() > 0.99
    assert torch.allclose(rebuilt[inside], clean[inside], atol=1e-5)


def test_levels_are_of_the_whole_utterance(vctk, tmp_path):
    data = make_data(vctk, tmp_path)
    levels = {round(float(level), 6) for batch in data.train_dataloader() for level in batch["level"]}
    whole = {round(u.level, 6) for u in data.store.utterances.values()}
    assert levels <= whole


def test_validation_and_test_serve_whole_utterances(vctk, tmp_path):
    data = make_data(vctk, tmp_path, val_limit=2)
    assert [batch["name"][0] for batch in data.val_dataloader()] == ["p226_001", "p287_002"]
    assert [batch["name"][0] for batch in data.test_dataloader()] == ["p232_000", "p257_001"]
    batch = next(iter(data.test_dataloader()))
    assert batch["noisy"].shape == batch["clean"].shape == (1, 16_000)


def test_the_split_is_written_with_its_rule(vctk, tmp_path):
    data = make_data(vctk, tmp_path)
    data.write_split(tmp_path / "split.json")
    split = json.loads((tmp_path / "split.json").read_text())
    assert split["val"] == ["p226_001", "p226_005", "p287_002", "p287_006"]
    assert "p226 + p287" in split["rule"]
    assert "p226 + p287" in data.describe()
    assert not set(split["train"]) & set(split["val"])


def test_folders_without_a_test_split_hold_one_out(tmp_path):
    for i in range(6):
        write_pair(tmp_path / f"noisy/p287_{i:03d}.wav", tmp_path / f"clean/p287_{i:03d}.wav", 0.5, 16_000, i)
    data = make_data(tmp_path, tmp_path, layout="folders")
    parts = [set(data.names[part]) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [4, 1, 1]
    assert len(set.union(*parts)) == 6
    for i in range(2, 6):
        (tmp_path / f"noisy/p287_{i:03d}.wav").unlink()
        (tmp_path / f"clean/p287_{i:03d}.wav").unlink()
    with pytest.raises(CorpusError, match="need three"):
        make_data(tmp_path, tmp_path, layout="folders")
