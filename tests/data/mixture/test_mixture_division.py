"""Mixtures: division of speakers and noises among training, validation and test, and use from the command line."""

import json
from pathlib import Path

import pytest
import torch
from mixtures import PLAIN, RATE

from conftest import TINY, make_noise, make_voice, train_here, write_vctk
from denoiser import audio
from denoiser.data import split
from denoiser.data.mixture import mix
from denoiser.data.mixture.datamodule import MixtureData
from denoiser.data.mixture.draw import Recipe
from denoiser.errors import ConfigError, CorpusError, DenoiserError
from denoiser.spectral import Spectral

pytest_plugins = ["mixture_fixtures"]


# Division


def test_validation_and_test_have_speakers_and_noises_of_their_own(make, tmp_path):
    data = make()
    data.write_split(tmp_path / "split.json")
    written = json.loads((tmp_path / "split.json").read_text())
    for what, group in (("", split.speaker), (" noise", split.recording)):
        parts = [{group(name) for name in written[part + what]} for part in ("train", "val", "test")]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)) == (8 if what else 12)
    assert "1 of 12 speakers each for val and test" in written["rule"]
    assert "1 of 8 recordings" in data.describe()
    assert data.same_split(tmp_path / "split.json")
    assert not make(speaker=r"some/(\d)").same_split(tmp_path / "split.json")
    for part in ("train", "val", "test"):  # and what is drawn is of the part
        mixtures = data.mixtures(part)
        rows = {data.material[part]["speech"].collection.names[row] for row in mixtures.speech.rows}
        assert rows == set(written[part])


def test_both_ears_of_a_place_are_on_one_side_of_the_split(tmp_path, make):
    for place in range(20):
        response = torch.zeros(1, 1_000)
        # An echo tells the places apart.
        response[0, 0], response[0, 100 + 10 * place] = 1.0, 0.5
        for name in (f"az{place:02d}_L", f"az{place:02d}_R"):
            audio.write(tmp_path / f"rooms/{name}.wav", response, RATE)
    data = make(rooms=str(tmp_path / "rooms"))
    echoes = {part: data.room_responses[part][:, 0, 50:].argmax(1).tolist() for part in ("train", "val", "test")}
    assert [len(found) for found in echoes.values()] == [32, 4, 4]
    places = [set(found) for found in echoes.values()]
    assert [len(found) for found in places] == [16, 2, 2]
    assert len(set.union(*places)) == 20
    assert "rooms: 2 of 20 places, in 40 files, for each part" in data.describe()

    data.write_split(tmp_path / "split.json")
    assert data.same_split(tmp_path / "split.json")
    # An older version split the files.
    older = (tmp_path / "split.json").read_text().replace("2 of 20 places, in 40 files,", "4 of 40 files")
    (tmp_path / "split.json").write_text(older)
    assert not data.same_split(tmp_path / "split.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/roomA_az000_18_L.flac", "a/roomA_az000_18.flac"), ("a/hall-left.wav", "a/hall.wav"),
        ("a/hall_ch12.wav", "a/hall.wav"), ("a/hall mic-2.wav", "a/hall.wav"), ("hall/R.wav", "hall"),
        ("hall/IR_1.v00.wav", "hall/IR_1.v00.wav"), ("a/h001_Bedroom.wav", "a/h001_Bedroom.wav"),
    ],
)  # fmt: skip
def test_a_place_is_a_response_s_name_without_its_channel(name, expected):
    assert split.place(Path(name)) == Path(expected)


def test_validation_and_test_do_not_depend_on_the_training_seed(make):
    one, other = make(seed=1, rooms="simulated"), make(seed=2, rooms="simulated")
    for loader in ("val_dataloader", "test_dataloader"):
        first, again, others = (list(getattr(d, loader)()) for d in (one, one, other))
        assert len(first) == 2
        for a, b, c in zip(first, again, others, strict=True):
            assert a["name"] == b["name"] == c["name"]
            assert all(torch.equal(a[k], b[k]) and torch.equal(a[k], c[k]) for k in ("noisy", "clean", "level"))
            assert a["noisy"].shape == (1, 2.5 * RATE)  # whole utterances
            assert torch.equal(a["level"][0], Spectral.level(a["noisy"][0]))
    changed = make(seed=1, corpus_seed=5, rooms="simulated")
    assert not torch.equal(first[0]["noisy"], next(iter(changed.test_dataloader()))["noisy"])
    assert len(make(val_limit=1).val_dataloader()) == len(make(test_limit=1).test_dataloader()) == 1
    facts = one.facts(first[0]["name"][0])
    assert facts["noise_type"]
    assert facts["snr_db"] % 5 == 0


def test_long_files_are_several_utterances(tmp_path, make):
    for i in range(8):
        audio.write(tmp_path / f"speech/p{i:03d}_1.wav", make_voice(25.0, 8_000, i), 8_000)
    data = make(tmp_path / "speech", test_limit=None)
    lengths = [batch["noisy"].shape[1] for batch in data.test_dataloader()]
    assert len(lengths) == 3
    assert sum(lengths) == 25 * RATE


def test_files_without_sound_are_left_out_before_the_split_and_named(tmp_path, make, capsys):
    for i in range(12):
        # One in each three has no sound that is long enough.
        voice = make_voice(0.05 if i == 0 else 0.5, RATE, i) * (i not in (3, 6, 9))
        for kind in ("speech", "noise"):
            audio.write(tmp_path / f"{kind}/p{i:03d}_1.wav", voice, RATE)
    data = make(tmp_path / "speech", tmp_path / "noise")
    lines = capsys.readouterr().out.splitlines()
    for kind in ("speech", "noise"):
        said = "left out 4 of 12 files without a sound of 0.1 s or more, first p000_1.wav"
        assert f"warning: data.{kind}: {said}" in lines
    assert "speech: 1 of 8 speakers each for val and test" in data.describe()
    assert "noise: 1 of 8 recordings each for val and test" in data.describe()
    for names in data.names.values():
        assert names
        assert not {"p000_1.wav", "p003_1.wav", "p006_1.wav", "p009_1.wav"} & set(names)
    audio.write(tmp_path / "silent/a.wav", torch.zeros(1, RATE), RATE)
    with pytest.raises(CorpusError, match=r"^data\.noise: 1 of 1 files without a sound .* first a\.wav$"):
        make(noise=tmp_path / "silent")


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        (split.speaker, "61/70968/61-70968-0000.flac", "61"), (split.speaker, "61_70968_000007_000000.wav", "61"),
        (split.speaker, "p225/p225_001_mic1.flac", "p225"), (split.speaker, "LJ001-0001.wav", "."),
        (split.speaker, "cmu_arctic/wav/arctic_a0001.wav", "cmu_arctic/wav"), (split.speaker, "ann/one.wav", "ann"),
        (split.recording, "1-100032-A-0.wav", "100032"), (split.recording, "us8k_119067-0-3.ogg", "119067"),
        (split.recording, "DKITCHEN/ch01.wav", "DKITCHEN"), (split.recording, "a/noise1.wav", "a/noise1.wav"),
    ],
)  # fmt: skip
def test_speakers_and_recordings_are_found_in_names(group, name, expected):
    assert group(name) == expected


def test_few_speakers_are_split_by_file_and_few_files_in_time(tmp_path, make):
    for i in range(6):
        audio.write(tmp_path / f"one/take{i}.wav", make_voice(1.0, RATE, i), RATE)
    data = make(tmp_path / "one")
    assert "1 of 6 files each for val and test, by hash, of fewer than 4 speakers" in data.describe()
    assert "no babble in train, val, test: it takes 4 speakers" in data.describe()
    sound = torch.cat([torch.full((1, 8 * RATE), 0.1), torch.full((1, RATE), 0.2), torch.full((1, RATE), 0.4)], 1)
    sound *= torch.tensor([1.0, -1.0]).repeat(5 * RATE)  # as loud everywhere as the part it is for
    audio.write(tmp_path / "noise.wav", sound, RATE)
    data = make(noise=tmp_path / "noise.wav", mix={**PLAIN, "snr": [0, 0]})
    assert "noise: 1 file cut in time, train 0 to 80 %, val 80 to 90 %, test 90 to 100 %" in data.describe()
    for part, level in (("train", 0.1), ("val", 0.2), ("test", 0.4)):
        draws = [data.mixtures(part, 3_200).draw(epoch, 0) for epoch in range(40)]
        batch = data.mixtures(part, 3_200).batch(draws)
        noises = batch["crops"][len(draws) :, -3_200:].abs().float() / 32_768
        assert torch.allclose(noises, torch.tensor(level), atol=1e-3)
    data = make(tmp_path / "noise.wav", noise=None, mix={**PLAIN, "generated": 1}, frames=250)
    for part, seconds in (("train", 2), ("val", 1), ("test", 1)):  # crops of 2 s, of which that much is the part's own
        batch = data.mixtures(part, 2 * RATE).__getitems__([(0, 0)])
        heard = data.spectral.sample_rate * seconds
        clean = mix.mix(batch, 2 * RATE, RATE)["clean"]
        assert int((clean.abs() > 1e-4).sum()) == heard


def test_test_pairs_of_another_corpus_are_used_and_their_speakers_not_trained_on(corpus, tmp_path, make):
    pairs = write_vctk(tmp_path / "pairs", train=2)
    for name in ("p232_001", "p257_001"):
        audio.write(corpus[0] / f"{name}.wav", make_voice(1.0, RATE), RATE)
    try:
        data = make(test_root=str(pairs))
    finally:
        for name in ("p232_001", "p257_001"):
            (corpus[0] / f"{name}.wav").unlink()
    names = {part: {split.speaker(name) for name in data.names[part]} for part in ("train", "val")}
    assert len(names["train"]) == 11
    assert not (names["train"] | names["val"]) & {"p232", "p257"}
    assert [batch["name"][0] for batch in data.test_dataloader()] == ["p232_000", "p257_001"]
    assert "its 2 known speakers not in training" in data.describe()


# Command line


def test_it_trains_from_the_command_to_a_tested_checkpoint(corpus, cache, few, tmp_path):
    monitor = train_here(
        tmp_path / "run", "data=mixture", f"data.speech=[{corpus[0]}]", f"data.noise={corpus[1]}", *TINY,
        f"data.cache={cache}", "data.rooms=simulated", "metrics=[si_sdr]", "trainer.max_epochs=1", "data.mix.snr=[0,5]",
    )  # fmt: skip
    assert monitor is not None
    scores = json.loads((tmp_path / "run/scores.json").read_text())
    assert scores["n"] == 2
    settings = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["hyper_parameters"]
    assert settings["training"]["mix"]["snr"] == [0, 5]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "data.speech missing; give data.speech=FOLDER"),
        (["data.speech=nowhere"], "data.speech: nowhere: no such file or folder"),
        (["data.speech=empty"], "data.speech: empty: no sound files in this folder"),
        (["data.speech=all"], "1 problem in the corpus, mend or remove these files: all/bad.wav: not readable"),
        (["data.speech=all", "data.noise=all/noise"], "data.noise=all/noise: lies in data.speech=all"),
        (["data.speech=all/noise", "data.noise=all"], "data.noise=all: holds data.speech=all/noise"),
        (["data.speech=empty", "data.corpus_seed=abc"], "data.corpus_seed=abc: expected a whole number, 0 or more"),
        (["data.speech=empty", "data.corpus_seed=-1"], "data.corpus_seed=-1: expected a whole number"),
        (["data.speech=empty", "data.test_limit=0"], "data.test_limit=0: expected null, or a whole number, 1 or more"),
        (["data.speech=empty", "data.test_limit=many"], "data.test_limit=many: expected null, or a whole number"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, few, options, said):
    (tmp_path / "empty").mkdir()
    audio.write(tmp_path / "all/noise/a.wav", make_noise(0.5, RATE), RATE)
    (tmp_path / "all/bad.wav").write_text("not sound")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DenoiserError) as caught:
        train_here(tmp_path / "run", "data=mixture", *options, *TINY)
    assert str(caught.value).startswith(said)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_settings_out_of_range_are_refused(make, corpus):
    for changes, said in (
        ({"snr": [5, 0]}, "snr"), ({"snr": 5}, "snr"), ({"babble": 2}, "babble"), ({"noises": 0}, "noises"),
        ({"babble": 0.6, "generated": 0.6}, "together"), ({"target": "dry"}, "direct, early, all"),
        ({"level": ["a", "b"]}, "level"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            Recipe(**changes)
    with pytest.raises(CorpusError, match="nothing to mix speech with"):
        make(noise=None, mix={"generated": 0, "babble": 0}).train_dataloader()
    with pytest.raises(ConfigError, match=r"data\.speaker=.*not found in"):
        make(speaker="talker(.)")
    with pytest.raises(ConfigError, match="not a regular expression"):
        make(recording="(")
    with pytest.raises(CorpusError, match=r"data\.test_root"):
        make(test_root=str(corpus[0]))
    assert MixtureData(Spectral(), [str(corpus[0])] * 2).speech == [corpus[0]]
