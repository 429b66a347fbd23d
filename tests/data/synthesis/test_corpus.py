"""Embedded corpus of synthetic speech and noise."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("espeakng_loader")

from conftest import active_decibels
from denoiser import audio
from denoiser.data.synthesis import corpus as synthesis
from denoiser.data.synthesis.corpus import SETS, SNRS, write_corpus
from denoiser.data.synthesis.noises import NOISES
from denoiser.data.synthesis.voices import CROWDS, SENTENCES, SPEAKERS
from denoiser.errors import ConfigError, CorpusError, DenoiserError

TINY = {"minutes": 0.01, "test_minutes": 0.01}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "corpus"
    write_corpus(root, minutes=0.5, test_minutes=0.3, workers=1)
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = tmp_path_factory.mktemp("tiny") / "corpus"
    write_corpus(root, **TINY, workers=1)
    return root


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny corpus to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "corpus"))


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def stamps(root):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [root, *root.rglob("*")]}


def log(root, split):
    lines = (root / f"log_{SETS[split]}.txt").read_text().splitlines()
    return [(name, kind, float(snr)) for name, kind, snr in (line.split(" ") for line in lines)]


def pair(root, split, name):
    """Return clean and noisy, as float64."""
    paths = [root / f"{side}_{SETS[split]}_wav/{name}.wav" for side in ("clean", "noisy")]
    return [audio.read(path)[0][0].double().numpy() for path in paths]


def test_layout_is_that_of_vctk_demand_and_length_as_asked_for(corpus):
    folders = {f"{side}_{name}_wav" for side in ("clean", "noisy") for name in ("testset", "trainset_28spk")}
    logs = {"log_testset.txt", "log_trainset_28spk.txt"}
    assert {path.name for path in corpus.iterdir()} == folders | logs | {"synthetic.json"}
    settings = {"minutes": 0.5, "test_minutes": 0.3, "seed": 0, "sample_rate": 48_000, "format": synthesis.FORMAT}
    assert json.loads((corpus / "synthetic.json").read_text()) == settings | {"corpus": "denoiser synthetic"}
    for split, name in SETS.items():
        names = [line[0] for line in log(corpus, split)]
        assert names == sorted(names)
        assert {name.split("_")[0] for name in names} <= set(SPEAKERS[split])
        assert all(len(name) == 8 and int(name[5:]) >= 1 for name in names)
        for side in ("clean", "noisy"):
            files = sorted((corpus / f"{side}_{name}_wav").iterdir())
            assert [file.name for file in files] == [f"{name}.wav" for name in names]
            infos = [audio.probe(file) for file in files]
            formats = {(info.format, info.subtype, info.sample_rate, info.channels) for info in infos}
            assert formats == {("WAV", "PCM_16", 48_000, 1)}
            assert all(1.5 < info.seconds < 6 for info in infos)
            minutes = sum(info.seconds for info in infos) / 60
            assert minutes == pytest.approx({"train": 0.5, "test": 0.3}[split], rel=0.2)


@pytest.mark.parametrize("split", SETS)
def test_smallest_corpus_has_the_held_out_and_two_more(tiny, split):
    speakers = {name.split("_")[0] for name, *_ in log(tiny, split)}
    assert speakers >= ({"p226", "p287"} if split == "train" else {"p232", "p257"})
    assert len(log(tiny, split)) == 4


@pytest.mark.parametrize("split", SETS)
def test_snr_is_the_one_in_the_log_and_levels_are_those_of_recordings(corpus, split):
    for name, _, snr in log(corpus, split):
        assert snr in SNRS[split]
        clean, noisy = pair(corpus, split, name)
        speech = active_decibels(torch.from_numpy(clean), 48_000)
        assert speech - 10 * np.log10(np.mean((noisy - clean) ** 2)) == pytest.approx(snr, abs=0.3)
        assert max(np.abs(clean).max(), np.abs(noisy).max()) < 0.992
        assert -40 < speech < -21
        for silence in (clean[:4_000], clean[-4_000:]):  # 83 ms: a room, no speech, no click
            assert -90 < 10 * np.log10(np.mean(silence**2) + 1e-30) < -73
            assert np.abs(silence).max() < 0.003


def test_loud_noise_lowers_both_instead_of_clipping(tmp_path, monkeypatch):
    utterance = synthesis.Utterance("p226_001", "train", "A few words.", "spikes", 0.0, (0, 0, 1))
    monkeypatch.setitem(NOISES["train"], "spikes", lambda rng, n, rate: (np.arange(n) % 5000 == 0) * 1.0)
    utterance.write(tmp_path)
    clean, noisy = pair(tmp_path, "train", "p226_001")
    assert np.abs(noisy).max() == pytest.approx(0.99, abs=1e-3)
    assert np.abs((noisy - clean)[np.arange(len(clean)) % 5000 != 0]).max() <= 1.01 / 32768


def test_no_voice_noise_or_sentence_of_the_test_set_is_in_training(corpus):
    def parts_of(split):
        voices = [name.split("+") for name in (*CROWDS[split], *(voice.espeak for voice in SPEAKERS[split].values()))]
        languages, variants = zip(*voices, strict=True)
        generators = [noise.func if isinstance(noise, partial) else noise for noise in NOISES[split].values()]
        return map(set, (languages, variants, SPEAKERS[split], NOISES[split], generators, SENTENCES[split]))

    for train, test in zip(parts_of("train"), parts_of("test"), strict=True):
        assert not train & test
    for split in SETS:
        assert not set(CROWDS[split]) & {voice.espeak for voice in SPEAKERS[split].values()}
        assert {kind for _, kind, _ in log(corpus, split)} == set(NOISES[split])


def test_second_call_does_nothing(mine, monkeypatch):
    monkeypatch.setattr(synthesis, "_write_all", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    before = stamps(mine)
    write_corpus(mine, **TINY, workers=1)
    assert stamps(mine) == before


def test_another_seed_gives_other_files_which_replace_the_corpus(mine, tmp_path):
    before = contents(mine)
    write_corpus(mine, **TINY, seed=1, workers=1)
    after = contents(mine)
    assert all(after[name] != before[name] for name in after.keys() & before.keys())
    assert json.loads(after["synthetic.json"])["seed"] == 1
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(("error", "present"), [(KeyboardInterrupt, False), (CorpusError, True)])
def test_interrupted_writing_changes_nothing(mine, tmp_path, monkeypatch, error, present):
    root = mine if present else tmp_path / "new"
    before = contents(tmp_path)

    def interrupted(plan, root, workers):
        plan[0].write(root)
        raise error

    monkeypatch.setattr(synthesis, "_write_all", interrupted)
    with pytest.raises(error):
        write_corpus(root, **TINY, seed=5, workers=1)
    assert contents(tmp_path) == before


def test_a_seed_gives_the_same_files_with_any_number_of_workers_whatever_a_killed_process_left(tiny, tmp_path):
    (tmp_path / "corpus").mkdir()
    shutil.copytree(tiny, tmp_path / "corpus.partial-k1ll3d/new")
    write_corpus(tmp_path / "corpus", **TINY, workers=2)
    assert contents(tmp_path / "corpus") == contents(tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


@pytest.mark.parametrize("marker", [None, "[1]", '{"corpus": "other"}'])
def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path, marker):
    (tmp_path / "thesis.txt").write_text("three years of work")
    if marker is not None:
        (tmp_path / "synthetic.json").write_text(marker)
    before = stamps(tmp_path)
    for root, said in ((tmp_path, r"synthetic\.json"), (tmp_path / "thesis.txt", r"thesis\.txt")):
        with pytest.raises(CorpusError, match=said):
            write_corpus(root, **TINY, workers=1)
    assert stamps(tmp_path) == before


def test_missing_espeak_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(synthesis, "_write_all", None)  # said before any work
    with pytest.raises(DenoiserError, match="pip install espeakng-loader") as caught:
        write_corpus(tmp_path / "corpus", **TINY, workers=1)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"minutes": float("nan")}, {"test_minutes": float("inf")}, {"seed": -1}])
def test_a_setting_out_of_range_is_named(tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        write_corpus(tmp_path / "corpus", **(TINY | wrong), workers=1)
    assert list(tmp_path.iterdir()) == []
