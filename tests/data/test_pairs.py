import re
import shutil

import pytest
import torch

from conftest import make_voice, write_pair
from denoiser import audio
from denoiser.data import pairs
from denoiser.data.split import PREFIX, speaker
from denoiser.errors import ConfigError, CorpusError


def test_vctk_demand_may_be_nested_and_hold_what_macos_adds(vctk, tmp_path):
    root = tmp_path / "corpus"
    for folder in vctk.iterdir():
        shutil.copytree(folder, root / folder.name / folder.name)  # unpacked into a folder of its own name
    inner = root / "noisy_testset_wav" / "noisy_testset_wav"
    (inner / "__MACOSX").mkdir()
    for name in ("._p232_000.wav", "__MACOSX/p232_000.wav"):
        (inner / name).write_bytes(b"\0" * 100)
    found = pairs.vctk_demand(root)
    assert found.held_out == ("p226", "p287")
    assert pairs.match(*found.test)[0].names == ["p232_000", "p257_001"]
    assert len(pairs.match(*found.train)[0].names) == 8


def test_missing_folders_are_named(tmp_path):
    (tmp_path / "noisy_trainset_28spk_wav").mkdir()
    with pytest.raises(CorpusError, match="missing: clean_trainset_28spk_wav, noisy_testset_wav, clean_testset_wav;"):
        pairs.vctk_demand(tmp_path)
    with pytest.raises(CorpusError, match=r"noisy/ and clean/.*it holds noisy_trainset_28spk_wav;.*data=vctk_demand"):
        pairs.folders(tmp_path)
    (tmp_path / "mine/train/clean").mkdir(parents=True)
    with pytest.raises(CorpusError, match=r"it holds train;.*data=folders"):
        pairs.vctk_demand(tmp_path / "mine")


@pytest.mark.parametrize("name", ["trainset_wav", "trainset_28spk_wav_16k", "trainset_56spk_wav", "train_16k"])
def test_folders_named_like_those_of_vctk_demand_are_known(tmp_path, name):
    test = name.replace("train", "test").replace("_28spk", "").replace("_56spk", "")
    for part in (name, test):
        for side in ("noisy", "clean"):
            (tmp_path / f"{side}_{part}").mkdir()
    found = pairs.vctk_demand(tmp_path)
    assert found.train == (tmp_path / f"noisy_{name}", tmp_path / f"clean_{name}")
    assert found.test == (tmp_path / f"noisy_{test}", tmp_path / f"clean_{test}")
    (tmp_path / "noisy_trainset_28spk_wav").mkdir()
    (tmp_path / "clean_trainset_28spk_wav").mkdir()
    assert pairs.vctk_demand(tmp_path).train[0].name == "noisy_trainset_28spk_wav"  # the published one before all


@pytest.mark.parametrize("place", ["{part}/{side}", "{side}/{part}"])
@pytest.mark.parametrize("names", [("train", "valid", "test"), ("tr", "cv", "tt"), ("training", "dev", "testing")])
def test_a_split_of_its_own_is_found_under_the_names_that_people_give_it(tmp_path, place, names):
    for part in names:
        for side in ("noisy", "clean"):
            (tmp_path / place.format(part=part, side=side)).mkdir(parents=True)
    found = pairs.folders(tmp_path)
    for part, sides in zip(names, (found.train, found.val, found.test), strict=True):
        assert sides == tuple(tmp_path / place.format(part=part, side=side) for side in ("noisy", "clean"))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("{side}", "{side}/Test"),
        ("{side}/train", "test/{side}"),
        ("Train/{side}", "{side}/test"),
        ("{side}", "TEST/{side}"),
    ],
)
def test_each_part_of_a_corpus_may_have_either_form(tmp_path, train, test):
    places = [[tmp_path / place.format(side=side) for side in ("noisy", "clean")] for place in (train, test)]
    for part, sides in zip(("train", "test"), places, strict=True):
        for side in sides:
            write_sounds(side, f"{part}.wav")
    found = pairs.folders(tmp_path)
    assert [list(found.train), list(found.test), found.val] == [*places, None]
    matched, problems = pairs.match(*found.train, without=found.without)
    assert (matched.names, problems) == (["train"], [])


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (["valid/noisy", "valid/cleann"], "valid/noisy has no counterpart valid/clean; missing: clean; it holds clean"),
        (["noisy/test"], "noisy/test has no counterpart clean/test; missing: test;"),
        (["clean/Dev", "noisy/develop"], "clean/Dev has no counterpart noisy/dev; missing: dev; it holds a, develop;"),
    ],
)
def test_a_part_of_one_side_is_refused(tmp_path, folders, said):
    for folder in (*folders, "noisy/a", "clean/a"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(CorpusError, match=f"^data.root={tmp_path}: {said}"):
        pairs.folders(tmp_path)


def test_a_corpus_of_test_files_alone_is_refused(tmp_path):
    write_sounds(tmp_path, "noisy/test/a.wav", "clean/test/a.wav")
    found = pairs.folders(tmp_path)
    assert "no sound files beside those of other parts" in pairs.match(*found.train, without=found.without)[1][0]


def write_sounds(root, *names):
    for name in names:
        audio.write(root / name, torch.full((1, 10), 0.1), 16_000)


def test_pairing_is_by_name_whatever_the_format(tmp_path):
    write_sounds(tmp_path, "noisy/a/x.wav", "noisy/b/x.wav", "clean/a/x.flac", "clean/b/x.wav")
    matched, problems = pairs.match(tmp_path / "noisy", tmp_path / "clean")
    assert matched.names == ["a/x", "b/x"]
    assert [[path.name for path in paths] for paths in matched.files] == [["x.wav", "x.flac"], ["x.wav", "x.wav"]]
    assert not problems


def test_files_without_a_counterpart_are_one_error_that_lists_the_first_ten(tmp_path):
    write_sounds(tmp_path, *(f"noisy/n{i:02d}.wav" for i in range(12)), "clean/other.wav")
    with pytest.raises(CorpusError, match=r"^13 problems in the corpus(.*no file of this name){10}[^;]*; and 3 more$"):
        pairs.refuse(pairs.match(tmp_path / "noisy", tmp_path / "clean")[1])
    (tmp_path / "empty").mkdir()
    matched, problems = pairs.match(tmp_path / "noisy", tmp_path / "empty")
    assert not matched.names
    assert "no sound files" in problems[0]


@pytest.mark.parametrize(
    ("noisy", "clean", "pattern"),
    [
        ("book_{0}_snr7_fileid_{0}", "clean_fileid_{0}", r"fileid_(\d+)"),
        ("s{0}aNoisy", "s{0}aClean", r"(.*)(?:[Nn]oisy|[Cc]lean)$"),
        ("p232_{0}_noisy", "p232_{0}_clean", "(.*)_"),
        ("{0}-mix", "{0}-speech", "(.*)-"),
        ("p232/noisy_{0}", "p232/clean_{0}", "(.*/)?[^/_]*_(.*)"),
        ("mixture{0}", "target{0}", r"(\d+)$"),
    ],
)
def test_pairs_of_other_names_are_paired_by_the_pattern_that_the_message_proposes(tmp_path, noisy, clean, pattern):
    for i in (7, 12, 130):
        for side, name in (("noisy", noisy), ("clean", clean)):
            audio.write(tmp_path / side / f"{name.format(i)}.wav", torch.full((1, 100), i / 200), 16_000)
    sides = (tmp_path / "noisy", tmp_path / "clean")
    with pytest.raises(CorpusError, match=re.escape(f"data.pair='{pattern}' pairs all 3 of them")):
        pairs.match(*sides)
    matched, problems = pairs.match(*sides, pattern)
    assert not problems
    assert sorted(matched.names) == matched.names == sorted(noisy.format(i) for i in (7, 12, 130))
    for paths in matched.files:
        assert torch.equal(*(audio.read(path)[0] for path in paths))


def test_a_pattern_that_pairs_nothing_is_one_line(tmp_path):
    write_sounds(tmp_path, "noisy/a.wav", "clean/b.wav")
    sides = (tmp_path / "noisy", tmp_path / "clean")
    assert "data.pair= takes a regular expression" in pairs.match(*sides)[1][0]
    for pattern, message in (("(", "not a regular expression"), ("x", "not found in a")):
        with pytest.raises(ConfigError, match=message):
            pairs.match(*sides, pattern)
    write_sounds(tmp_path, "noisy/aa.wav")
    assert "aa.wav: a.wav has the same name, a" in pairs.match(*sides, "^[ab]")[1][0]


def test_files_that_cannot_be_used_are_named(tmp_path):
    noisy, clean = tmp_path / "noisy", tmp_path / "clean"
    for name in ("good", "channels", "rate", "length", "text", "empty", "nothing"):
        write_pair(noisy / f"{name}.wav", clean / f"{name}.wav", 0.2, 16_000, 0)
    audio.write(clean / "rate.wav", make_voice(0.2, 8_000), 8_000)
    audio.write(noisy / "channels.wav", make_voice(0.2, 16_000).expand(2, -1), 16_000)
    audio.write(clean / "length.wav", make_voice(0.3, 16_000), 16_000)
    (noisy / "text.wav").write_text("not sound")
    (noisy / "empty.wav").write_bytes(b"")
    audio.write(clean / "nothing.wav", torch.zeros(1, 0), 16_000)
    matched, _ = pairs.match(noisy, clean)
    text = {name: pairs.check(paths)[1] for name, paths in zip(matched.names, matched.files, strict=True)}
    assert not text.pop("good")
    expected = {"rate": "16000 Hz, its clean counterpart 8000 Hz", "length": "3200 samples, its clean counterpart 4800",
                "channels": "2 channels, its clean counterpart 1",
                "text": "text.wav: not readable", "empty": "empty.wav: the file is empty",
                "nothing": "nothing.wav: holds no samples"}  # fmt: skip
    assert {name for name, (line,) in text.items() if expected[name] in line} == set(expected)


@pytest.mark.parametrize(
    ("names", "held_out", "rule"),
    [
        ([f"p{s}_{i}" for s in (225, 226, 287) for i in range(3)], {"p226", "p287"}, "speakers p226 + p287 held out"),
        # The same as ever: a run that is resumed insists on its split.
        ([f"s{s:02d}-{i}" for s in range(20) for i in "012"], {"s07", "s13"}, "2 of 20 speakers each for val, by hash"),
    ],
)
def test_the_split_is_by_speaker_if_there_are_enough(names, held_out, rule):
    train, held, found = pairs.split(names, pairs.VCTK_HELD_OUT)
    assert {speaker(name, PREFIX) for name in held} == held_out
    assert not {speaker(name, PREFIX) for name in train} & held_out
    assert sorted(train + held) == sorted(names)
    assert found == rule


def test_the_split_is_by_name_if_there_are_not():
    names = [f"p226_{i:03d}" for i in range(10)]
    train, held, rule = pairs.split(names, pairs.VCTK_HELD_OUT)
    assert (len(train), len(held)) == (9, 1)
    assert rule == "1 of 10 files each for val, by hash, as there are too few speakers"
    assert pairs.split(names[::-1], pairs.VCTK_HELD_OUT) == (train, held, rule)
    assert held[0] in pairs.split([*names, "zzz"])[1]
    with pytest.raises(CorpusError, match="too few pairs"):
        pairs.split(["only"])
