"""Preparation of a corpus, its store, and damage to either."""

import itertools
import multiprocessing
import os
import pickle
import signal
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from conftest import TINY, largest_file, make_noise, make_voice, train_here, write_pair, write_vctk
from denoiser import audio
from denoiser.data import pairs, preparation
from denoiser.data.pairs import one_track
from denoiser.data.store import FULL_SCALE, to_float
from denoiser.errors import CorpusError
from denoiser.spectral import Spectral


def prepare(root, rate=16_000):
    """Return the store of the pairs in ``root``."""
    corpus, _ = pairs.match(root / "noisy", root / "clean")
    return preparation.prepare([corpus], rate, root / "cache")[0]


def prepare_clips(root, cache="cache"):
    """Return the store of the noises in ``root``, of one track."""
    return preparation.prepare([one_track("noise", root / "noise")], 16_000, root / cache)[0]


@pytest.fixture
def root(tmp_path):
    for i, rate in enumerate((48_000, 44_100, 16_000)):
        write_pair(tmp_path / f"noisy/u{i}.wav", tmp_path / f"clean/u{i}.wav", 0.5 + i / 10, rate, i)
    return tmp_path


def test_the_store_holds_the_files_at_the_new_rate(root):
    prepared = prepare(root)
    for i, rate in enumerate((48_000, 44_100, 16_000)):
        for side, got in zip(("noisy", "clean"), prepared.read(f"u{i}"), strict=True):
            expected = audio.resample(audio.read(root / side / f"u{i}.wav")[0][0], rate, 16_000)
            assert torch.allclose(got, expected - expected.mean(), atol=1e-4)
        assert float(prepared.levels[i]) == pytest.approx(float(Spectral.level(prepared.read(f"u{i}")[0])), rel=1e-4)


def test_a_batch_of_crops_is_read_as_one_with_zeros_beyond_the_ends_of_an_utterance(root):
    prepared = prepare(root)
    rows, offsets, length = np.array([2, 0, 1, 0, 2]), np.array([100, 4_000, -300, 7_990, -6_000]), 5_000
    crops = prepared.gather(rows, offsets, length)
    assert (crops.shape, crops.dtype) == ((2, 5, length), torch.int16)
    for crop, row, offset in zip(crops.unbind(1), rows, offsets, strict=True):
        whole = torch.stack(prepared.read(prepared.names[row]))
        padded = F.pad(whole, (6_000, 20_000))[:, 6_000 + offset :][:, :length]
        assert torch.equal(to_float(crop), padded)


def test_a_folder_of_single_clips_is_a_store_of_one_track_without_its_mean(tmp_path):
    noise = 0.2 + make_noise(0.5, 44_100)
    audio.write(tmp_path / "noise/deep/er/a.flac", torch.cat([noise, 0 * noise]), 44_100)  # channels are averaged
    audio.write(tmp_path / "noise/a.wav", make_noise(0.25, 8_000, 1), 8_000)
    prepared = prepare_clips(tmp_path)
    assert prepared.tracks == ("noise",)
    assert prepared.names == ["a.wav", "deep/er/a.flac"]
    (got,) = prepared.read("deep/er/a.flac")
    expected = audio.resample(noise / 2, 44_100, 16_000)[0]
    assert torch.allclose(got, expected - expected.mean(), atol=1e-4)
    assert prepared.lengths[0] == 4_000
    assert len(pickle.dumps(prepared)) < 2_000  # without the samples that are open


@pytest.mark.parametrize("loud", [1.0, 20.0])
@pytest.mark.parametrize("rate", [44_100, 16_000, 8_000])
def test_a_long_recording_in_blocks_equals_the_whole(tmp_path, monkeypatch, rate, loud):
    audio.write(tmp_path / "noise/a.wav", loud * (0.3 + make_noise(1.0, rate)), rate, subtype="FLOAT")
    at_once = prepare_clips(tmp_path, "at_once")
    monkeypatch.setattr(preparation, "BLOCK_SECONDS", 0.1)
    monkeypatch.setattr(preparation, "HELD_SECONDS", 0.1)
    in_blocks = prepare_clips(tmp_path, "in_blocks")
    (expected,), (got,) = at_once.read("a.wav"), in_blocks.read("a.wav")
    assert got.shape == expected.shape == (16_000,)
    assert torch.allclose(got, expected, atol=1.01 / FULL_SCALE)
    assert got.abs().max() > 0.2
    assert in_blocks.levels[0] == pytest.approx(at_once.levels[0], rel=1e-4)


def test_a_long_recording_is_read_in_blocks_that_are_not_kept(tmp_path, monkeypatch):
    audio.write(tmp_path / "noise/long.wav", make_noise(4.0, 48_000), 48_000)
    lengths, alive = [], []

    class Reader(audio.Reader):
        def read(self, frames):
            block = super().read(frames)
            alive.append(weakref.ref(block))
            lengths.append(block.shape[1])
            assert sum(reference() is not None for reference in alive) <= 2
            return block

    monkeypatch.setattr(audio, "Reader", Reader)
    monkeypatch.setattr(preparation, "BLOCK_SECONDS", 0.1)
    monkeypatch.setattr(preparation, "HELD_SECONDS", 1.0)
    prepare_clips(tmp_path)
    assert max(lengths) == 4_800
    assert sum(lengths) == 2 * 4 * 48_000


def test_a_full_disk_is_one_line_and_leaves_nothing(root):
    with largest_file(20_000), pytest.raises(CorpusError, match=r"^data\.cache=.*cannot be written.*another place$"):
        prepare(root)
    assert list((root / "cache").iterdir()) == []


def test_prepared_once_and_again_when_something_changes_or_is_cut_short(root, monkeypatch):
    first = prepare(root)
    samples = first.folder / "noisy.i16"
    stamp, content = samples.stat().st_mtime_ns, samples.read_bytes()
    assert prepare(root).folder == first.folder
    assert samples.stat().st_mtime_ns == stamp
    os.truncate(samples, 1000)
    assert prepare(root).folder == first.folder
    assert samples.read_bytes() == content
    assert prepare(root, 8_000).folder != first.folder
    write_pair(root / "noisy/u0.wav", root / "clean/u0.wav", 0.5, 48_000, 99)
    os.utime(root / "noisy/u0.wav", ns=(1, 1))
    again = prepare(root)
    assert again.folder != first.folder
    assert not torch.equal(again.read("u0")[0], first.read("u0")[0])
    for side in ("noisy", "clean"):
        (root / side / "u2.wav").unlink()
    assert prepare(root).names == ["u0", "u1"]
    monkeypatch.setattr(preparation, "VERSION", preparation.VERSION - 1)
    assert prepare(root).folder not in (first.folder, again.folder)


def test_corpora_that_differ_in_their_sound_alone_share_no_store_and_one_that_moved_keeps_its_own(tmp_path):
    folders = []
    for seed in range(2):
        path = tmp_path / f"{seed}/noise/a.wav"
        audio.write(path, make_noise(0.5, 16_000, seed), 16_000)
        os.utime(path, (1, 1))
        folders.append(prepare_clips(tmp_path / f"{seed}", "../cache").folder.resolve())
    assert folders[0] != folders[1]
    (tmp_path / "1").rename(tmp_path / "moved")
    assert prepare_clips(tmp_path / "moved", "../cache").folder.resolve() == folders[1]


@pytest.mark.parametrize(
    ("place", "content", "said"),
    [
        (-3_000, bytes(3_000), ""),
        # The number of samples in STREAMINFO; 0: unknown, as a FLAC written to a pipe has it.
        (22, (16_000).to_bytes(4, "big"), ".*header .*promises 16000 samples, 8000 came"),
        (22, bytes(4), ".*header .*does not say how many"),
    ],
)
def test_a_damaged_file_or_a_header_with_a_wrong_length_is_refused_and_leaves_nothing(tmp_path, place, content, said):
    path = tmp_path / "noise/a.flac"
    audio.write(path, make_noise(0.5, 16_000), 16_000)
    with open(path, "r+b") as file:
        file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
        file.write(content)
    with pytest.raises(CorpusError, match=rf"1 problem in the corpus.*a\.flac: {said}"):
        prepare_clips(tmp_path)
    assert list(tmp_path.glob("cache/*")) == []


def test_after_a_killed_preparation_the_next_one_starts_over(root, monkeypatch):
    blocks, read = itertools.count(1), audio.Reader.read

    def read_or_die(reader, frames):
        if next(blocks) == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(reader, frames)

    with monkeypatch.context() as patch:
        patch.setattr(audio.Reader, "read", read_or_die)
        killed = multiprocessing.get_context("fork").Process(target=prepare, args=(root,))
        killed.start()
        killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert sorted(path.name for path in root.glob("cache/*.partial-*/*")) == ["clean.i16", "noisy.i16"]
    prepared = prepare(root)
    assert all(noisy.any() for noisy, _ in map(prepared.read, prepared.names))
    assert [path.name for path in (root / "cache").iterdir()] == [prepared.folder.name]


def test_pairs_beyond_full_scale_are_scaled_down_together(tmp_path):
    voice, noise = 1.5 * make_voice(0.5, 16_000), 10 * make_noise(0.5, 16_000)
    audio.write(tmp_path / "noisy/a.wav", voice + noise, 16_000, subtype="FLOAT")
    audio.write(tmp_path / "clean/a.wav", voice - 0.2, 16_000, subtype="FLOAT")
    noisy, clean = prepare(tmp_path).read("a")  # each without its mean
    gain = float(noisy.std() / (voice + noise).std())
    assert gain < 1
    assert torch.allclose((noisy - clean) / gain, (noise - noise.mean())[0], atol=1e-3)


def test_damaged_files_of_training_and_test_are_one_error_before_training(tmp_path):
    root = write_vctk(tmp_path / "corpus", train=4)
    (root / "noisy_trainset_28spk_wav/p225_000.wav").write_text("not sound")
    (root / "clean_testset_wav/p232_000.wav").write_text("not sound")
    with pytest.raises(CorpusError, match=r"^2 problems in the corpus"):
        train_here(tmp_path / "run", *TINY, f"data.root={root}", f"data.cache={tmp_path}/cache")
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "run/split.json").exists()


@pytest.mark.parametrize("gain", [1, 0.9])
def test_channels_that_cancel_each_other_are_named(root, gain):
    sound, rate = audio.read(root / "clean/u0.wav")
    audio.write(root / "clean/u0.wav", torch.cat([sound, -gain * sound]), rate)
    audio.write(root / "noisy/u0.wav", (sound + make_noise(0.5, rate)).expand(2, -1), rate)
    with pytest.raises(CorpusError, match=r"clean/u0.wav: its channels cancel each other"):
        prepare(root)
