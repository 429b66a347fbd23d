import pytest
import torch

from conftest import write_pair
from denoiser import audio
from denoiser.data.datamodule import PairedData
from denoiser.data.store import Resident, fits
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral


def make_data(root, tmp_path, **options) -> PairedData:
    options = {"batch_size": 3, "frames": 64, **options}
    data = PairedData(Spectral(), str(root), cache=str(tmp_path / "cache"), **options)
    data.prepare_data()
    data.setup()
    data.spectral.fit(data.calibration())
    return data


def waveforms(data: PairedData, *epochs: int, context: str | None = None) -> list[torch.Tensor]:
    """Return the batches of these epochs, ``[2, B, N]``: noisy and clean."""
    loader, batches = data.train_dataloader(), []
    loader.multiprocessing_context = context
    for epoch in epochs:
        loader.batch_sampler.sampler.set_epoch(epoch)
        batches += [data.waveforms(batch) for batch in loader]
    assert all(batch["level"].shape == (len(batch["noisy"]), 1) for batch in batches)
    return [torch.stack([batch["noisy"], batch["clean"]]) for batch in batches]


@pytest.mark.parametrize(("workers", "context"), [(1, "fork"), (2, "spawn")])
def test_the_same_batches_from_any_number_of_workers(vctk, tmp_path, workers, context):
    alone = waveforms(make_data(vctk, tmp_path), 0, 1)
    helped = waveforms(make_data(vctk, tmp_path, workers=workers), 0, 1, context=context)
    assert len(alone) == len(helped) == 4
    assert all(torch.equal(a, b) for a, b in zip(alone, helped, strict=True))


@pytest.mark.parametrize("frames", [64, 256])
def test_a_resident_corpus_gives_the_same_batches(vctk, tmp_path, frames):
    mapped, resident = (make_data(vctk, tmp_path, frames=frames) for _ in range(2))
    resident.resident = Resident([resident.store], torch.device("cpu"))
    assert "crops" not in next(iter(resident.train_dataloader()))
    for expected, got in zip(waveforms(mapped, 0, 1), waveforms(resident, 0, 1), strict=True):
        assert torch.equal(expected, got)


def test_a_corpus_lives_on_a_gpu_with_room_for_it():
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    assert not fits(cpu, "auto", 1)
    for choice, size, expected in (("cpu", 1, False), ("auto", 49, True), ("auto", 50, False), ("gpu", 99, True)):
        assert fits(gpu, choice, size, free=100) == expected
    with pytest.raises(ConfigError, match=r"takes 2.00 GB and 1.00 GB are free on cuda:0"):
        fits(gpu, "gpu", 2 * 10**9, free=10**9)
    with pytest.raises(ConfigError, match="runs on the CPU"):
        fits(cpu, "gpu", 1)
    with pytest.raises(ConfigError, match="expected auto, cpu, gpu"):
        PairedData(Spectral(), "corpus", device="cuda")


def test_epochs_and_seeds_differ_and_repeat(vctk, tmp_path):
    data = make_data(vctk, tmp_path)
    first, second = torch.cat(waveforms(data, 0), 1), torch.cat(waveforms(data, 1), 1)
    assert not torch.equal(first, second)
    torch.manual_seed(2)
    assert torch.equal(first, torch.cat(waveforms(data, 0), 1))
    assert not torch.equal(first, torch.cat(waveforms(make_data(vctk, tmp_path, seed=1), 0), 1))
    fixed = make_data(vctk, tmp_path, shuffle=False)
    assert torch.equal(torch.cat(waveforms(fixed, 0), 1), torch.cat(waveforms(fixed, 5), 1))


def test_patches_are_the_spectra_of_the_crops_at_the_level_of_the_whole_utterance(vctk, tmp_path):
    data = make_data(vctk, tmp_path, frames=256, batch_size=4)
    batch = data.waveforms(next(iter(data.train_dataloader())))
    assert batch["noisy"].shape == (4, data.spectral.samples(256))
    assert set(batch["level"].flatten().tolist()) <= set(data.store.levels.tolist())
    patch = data.patches(batch)
    for key in ("noisy", "clean"):
        assert patch[key].shape == patch[key].magnitude.shape == (4, 256, 256)
        assert torch.equal(patch[key].magnitude, data.spectral(batch[key], batch["level"], center=False).magnitude)
    assert (patch["noisy"].magnitude < 1).float().mean() > 0.99


def test_validation_and_test_serve_whole_utterances(vctk, tmp_path):
    data = make_data(vctk, tmp_path, val_limit=2)
    assert [batch["name"][0] for batch in data.val_dataloader()] == ["p226_001", "p287_002"]
    assert [batch["name"][0] for batch in data.test_dataloader()] == ["p232_000", "p257_001"]
    batch = next(iter(data.test_dataloader()))
    assert batch["noisy"].shape == batch["clean"].shape == (1, 19_200)


def test_folders_without_a_test_split_hold_one_out(tmp_path):
    for i in range(6):
        write_pair(tmp_path / f"noisy/p287_{i}.wav", tmp_path / f"clean/p287_{i}.wav", 0.5, 16_000, i)
    data = make_data(tmp_path, tmp_path, layout="folders")
    parts = [set(data.names[part]) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [4, 1, 1]
    assert len(set.union(*parts)) == 6
    for path in tmp_path.glob("*/p287_[2-5].wav"):
        path.unlink()
    with pytest.raises(CorpusError, match="too few pairs"):
        make_data(tmp_path, tmp_path, layout="folders")


def test_a_validation_set_of_its_own_is_used_and_said(tmp_path):
    for part, count in (("train", 3), ("valid", 2), ("test", 1)):
        for i in range(count):
            sides = [tmp_path / part / side / f"{part}{i}.wav" for side in ("noisy", "clean")]
            write_pair(*sides, 0.5, 16_000, i + 10 * count)
    data = make_data(tmp_path, tmp_path, layout="folders")
    assert data.names == {"train": ["train0", "train1", "train2"], "val": ["valid0", "valid1"], "test": ["test0"]}
    assert "validation: its own, valid/noisy" in data.describe()
    noisy = next(iter(data.val_dataloader()))["noisy"][0]
    assert torch.allclose(noisy, audio.read(tmp_path / "valid/noisy/valid0.wav")[0], atol=2e-2)


@pytest.mark.parametrize("written", [b'{"rule": "x", "train": ["a"', b"[]", b"\xff\xff"])
def test_a_damaged_split_is_one_line(vctk, tmp_path, written):
    data = make_data(vctk, tmp_path)
    (tmp_path / "split.json").write_bytes(written)
    with pytest.raises(CorpusError, match=r"split\.json: damaged \(.*\); .*delete this file"):
        data.same_split(tmp_path / "split.json")


def test_test_files_within_the_folders_of_training_are_not_trained_on(tmp_path):
    for name in ("a", "b", "c", "test/x", "test/y"):
        write_pair(tmp_path / f"noisy/{name}.wav", tmp_path / f"clean/{name}.wav", 0.5, 16_000, ord(name[-1]))
    data = make_data(tmp_path, tmp_path, layout="folders")
    assert data.names["test"] == ["x", "y"]
    assert sorted(data.names["train"] + data.names["val"]) == ["a", "b", "c"]
