from __future__ import annotations

import shutil

import pytest
import torch
from conftest import make_voice, write_pair

from denoiser import audio
from denoiser.data import pairs
from denoiser.data.split import PREFIX, speaker
from denoiser.errors import CorpusError


def test_vctk_demand_may_be_nested_and_hold_what_macos_adds(vctk, tmp_path):
    root = tmp_path / "corpus"
    for folder in vctk.iterdir():
        shutil.copytree(folder, root / folder.name / folder.name)  # unpacked into a folder of its own name
    inner = root / "noisy_testset_wav" / "noisy_testset_wav"
    (inner / "._p232_000.wav").write_bytes(b"\0" * 100)
    (inner / "__MACOSX").mkdir()
    (inner / "__MACOSX" / "p232_000.wav").write_bytes(b"\0" * 100)
    found = pairs.vctk_demand(root)
    assert found.held_out == ("p226", "p287")
    assert [p.name for p in pairs.match(*found.test)[0]] == ["p232_000", "p257_001"]
    assert len(pairs.match(*found.train)[0]) == 8


def test_missing_folders_are_named(tmp_path):
    (tmp_path / "noisy_trainset_28spk_wav").mkdir()
    with pytest.raises(CorpusError, match="clean_trainset_28spk_wav, noisy_testset_wav, clean_testset_wav are missing"):
        pairs.vctk_demand(tmp_path)
    with pytest.raises(CorpusError, match=r"noisy/ and clean/"):
        pairs.folders(tmp_path)


def test_pairing_is_by_name_whatever_the_format(tmp_path):
    voice = make_voice(0.2, 16_000)
    for name in ("noisy/a/x.wav", "noisy/b/x.wav", "clean/a/x.flac", "clean/b/x.wav"):
        audio.write(tmp_path / name, voice, 16_000)
    matched, _ = pairs.match(tmp_path / "noisy", tmp_path / "clean")
    assert [(p.name, p.clean.name) for p in matched] == [("a/x", "x.flac"), ("b/x", "x.wav")]


def test_files_without_a_twin_are_one_error(tmp_path):
    voice = make_voice(0.1, 16_000)
    for i in range(12):
        audio.write(tmp_path / f"noisy/n{i:02d}.wav", voice, 16_000)
    audio.write(tmp_path / "clean/other.wav", voice, 16_000)
    with pytest.raises(CorpusError) as error:
        pairs.refuse(pairs.match(tmp_path / "noisy", tmp_path / "clean")[1])
    text = str(error.value)
    assert text.startswith("13 problems in the corpus")
    assert text.count("no file of this name") == 10  # the first ten
    assert text.endswith("and 3 more")
    (tmp_path / "empty").mkdir()
    matched, problems = pairs.match(tmp_path / "noisy", tmp_path / "empty")
    assert not matched
    assert "no sound files" in problems[0]


def test_files_that_cannot_be_used_are_one_error(tmp_path):
    noisy, clean = tmp_path / "noisy", tmp_path / "clean"
    for name in ("good", "rate", "length", "text", "empty", "nothing"):
        write_pair(noisy / f"{name}.wav", clean / f"{name}.wav", 0.2, 16_000, 0)
    audio.write(clean / "rate.wav", make_voice(0.2, 8_000), 8_000)
    audio.write(clean / "length.wav", make_voice(0.3, 16_000), 16_000)
    (noisy / "text.wav").write_text("not sound")
    (noisy / "empty.wav").write_bytes(b"")
    audio.write(clean / "nothing.wav", torch.zeros(1, 0), 16_000)
    with pytest.raises(CorpusError) as error:
        pairs.refuse(pairs.check([p.paths for p in pairs.match(noisy, clean)[0]], workers=2)[1])
    text = str(error.value)
    assert text.startswith("5 problems")
    for expected in ("16000 Hz, its clean twin 8000 Hz", "3200 samples, its clean twin 4800", "text.wav: not readable",
                     "empty.wav: the file is empty", "nothing.wav: holds no samples"):  # fmt: skip
        assert expected in text
    assert "good" not in text


def test_split_holds_out_the_named_speakers():
    names = [f"p{s}_{i}" for s in (225, 226, 287) for i in range(3)]
    train, held, rule = pairs.split(names, pairs.VCTK_HELD_OUT)
    assert {speaker(n, PREFIX) for n in held} == {"p226", "p287"}
    assert {speaker(n, PREFIX) for n in train} == {"p225"}
    assert rule == "speakers p226 + p287 held out"


@pytest.mark.parametrize("mark", ["-", "_", "/"])
def test_split_by_speaker_if_there_are_enough(mark):
    names = [f"s{s:02d}{mark}{i}" for s in range(20) for i in range(4)]
    train, held, rule = pairs.split(names)
    # The same as ever: a run that is resumed insists on its split.
    assert {speaker(n, PREFIX) for n in held} == {"s07", "s13"}
    assert len(train) + len(held) == len(names)
    assert rule == "2 of 20 speakers each for val, by hash"


def test_split_by_name_if_there_are_not():
    names = [f"p226_{i:03d}" for i in range(10)]
    train, held, rule = pairs.split(names, pairs.VCTK_HELD_OUT)
    assert (len(train), len(held)) == (9, 1)
    assert rule == "1 of 10 files each for val, by hash, of fewer than 4 speakers"
    assert pairs.split(names[::-1], pairs.VCTK_HELD_OUT) == (train, held, rule)
    assert held[0] in pairs.split([*names, "zzz"])[1]
    with pytest.raises(CorpusError, match="at least two"):
        pairs.split(["only"])
