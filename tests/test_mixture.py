"""Training without pairs: what is mixed, how loud, of whom, and always the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED, TINY, make_noise, make_voice, needs_recordings, train_here, write_vctk

from denoiser import audio
from denoiser.data import division, mixing, mixture, rooms
from denoiser.data.draws import OPEN
from denoiser.data.mixing import Recipe
from denoiser.data.mixture import MixtureData
from denoiser.data.store import Resident, to_float
from denoiser.errors import ConfigError, CorpusError, DenoiserError
from denoiser.spectral import Spectral

RATE = 16_000
PLAIN = {"babble": 0, "generated": 0, "filtered": 0, "narrow": 0, "speechless": 0, "noiseless": 0, "noises": 1}
Draws = list[dict[str, torch.Tensor]]


def steady(seconds: float, rate: int, seed: int) -> torch.Tensor:
    """``[1, N]``: a harmonic tone without a pause: as loud in any crop as in the whole."""
    time = torch.arange(round(seconds * rate)) / rate
    return sum(torch.sin(2 * torch.pi * k * (100 + 7 * seed) * time) for k in range(1, 9))[None] / 40


def write_corpus(root: Path, voice=make_voice, seconds: float = 2.5) -> tuple[Path, Path]:
    """24 files of 12 speakers, and noises of 8 recordings, two cuts of each, one short; at three rates, nested."""
    rates = (16_000, 48_000, 22_050)
    for i in range(24):
        name = f"speech/some/{i % 3}/p{i // 2:03d}_{i:03d}.wav"
        audio.write(root / name, voice(seconds, rates[i % 3], i), rates[i % 3])
    for i in range(16):
        length = 0.4 if i % 2 else 3.0
        path = root / f"noise/kind{i % 3}/1-{10_000 + i // 2}-{'AB'[i % 2]}.wav"
        audio.write(path, make_noise(length, rates[i % 3], 100 + i), rates[i % 3])
    return root / "speech", root / "noise"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(corpus, cache, monkeypatch):
    monkeypatch.setattr(mixture, "ROOMS", {"train": 8, "val": 3, "test": 3})  # enough, and at once

    def build(speech=corpus[0], noise=corpus[1], **options) -> MixtureData:
        options = {"batch_size": 5, "frames": 64, "cache": str(cache), **options}
        data = MixtureData(Spectral(), str(speech), None if noise is None else str(noise), **options)
        data.prepare_data()
        data.setup()
        return data

    return build


def mixed(data: MixtureData, epoch: int = 0) -> Draws:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [data.waveforms(batch) for batch in loader]


def joined(batches: Draws) -> dict[str, torch.Tensor]:
    return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}


def same(a: Draws, b: Draws) -> bool:
    return len(a) == len(b) and all(torch.equal(x[k], y[k]) for x, y in zip(a, b, strict=True) for k in x)


def loud(x: torch.Tensor) -> float:
    """Mean power of the 20 ms frames within 40 dB of the loudest, in dB."""
    frames = x.double().split(320)
    loudest = max(frame.square().mean() for frame in frames)
    active = torch.cat([frame for frame in frames if frame.square().mean() > 1e-4 * loudest])
    return float(10 * active.square().mean().log10())


# What is drawn, and that it is always the same


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_mixtures_from_any_number_of_workers(make, workers):
    alone, helped = (make(rooms="simulated", workers=count) for count in (0, workers))
    assert same(mixed(alone, workers), mixed(helped, workers))


def test_the_same_mixtures_where_the_corpus_lives_on_the_device(make):
    mapped, resident = make(rooms="simulated"), make(rooms="simulated")
    resident.resident = Resident(resident.sources, torch.device("cpu"))
    assert "crops" not in next(iter(resident.train_dataloader()))
    assert same(mixed(mapped), mixed(resident))


def test_epochs_and_seeds_differ_and_repeat_whatever_is_random_elsewhere(make):
    data = make()
    torch.manual_seed(1)
    np.random.seed(1)
    first = mixed(data, 0)
    torch.manual_seed(2)
    assert same(first, mixed(data, 0))
    one, other = data.training_set(read=True), make(seed=1).training_set(read=True)
    ratios = {dataset.draw(epoch, 3).snr for dataset in (one, other) for epoch in (0, 1, 2)}
    assert len(ratios) == 6  # not only the order
    assert one.draw(2, 3).snr == one.draw(2, 3).snr
    fixed = make(shuffle=False)
    assert same(mixed(fixed, 0), mixed(fixed, 7))


def test_a_mixture_does_not_depend_on_its_batch(make):
    data = make(rooms="simulated")
    dataset = data.training_set(read=True)
    size = data.spectral.samples(data.frames)
    together = dataset.__getitems__([(3, i) for i in range(6)])
    for i in range(6):
        alone = data.waveforms(dataset.__getitems__([(3, i)]))["noisy"]
        assert alone.shape == (1, size)
        assert torch.allclose(alone[0], data.waveforms(together)["noisy"][i], atol=1e-6)


def test_an_epoch_is_the_speech_once(tmp_path, make):
    for i in range(4):
        audio.write(tmp_path / f"speech/s{i}_1.wav", make_voice(1.0, RATE, i), RATE)
    ramp = torch.linspace(0.1, 0.9, 40 * RATE)[None] * torch.tensor([1.0, -1.0]).repeat(20 * RATE)
    audio.write(tmp_path / "speech/s9_1.wav", ramp, RATE)
    data = make(tmp_path / "speech", mix={**PLAIN, "snr": [90, 90]}, frames=250)
    dataset, length = data.training_set(read=True), data.spectral.samples(250)
    draws = [dataset.draw(0, i) for i in range(len(dataset))]
    starts = [draw.start for draw in draws if dataset.speech.lengths[draw.segment] > 2 * RATE]
    assert len(starts) == 20  # 40 s in crops of 2
    covered = np.zeros(40 * RATE)
    for start in starts:
        covered[start : start + length] = 1
    assert covered.mean() > 0.6  # each at random within its own twentieth


# How loud


def test_noisy_is_exactly_clean_plus_noise_within_full_scale(make):
    batch = joined(mixed(make(rooms="simulated", mix={"level": [-10, 0], "speechless": 0.2})))
    assert torch.equal(batch["noisy"], batch["clean"] + batch["noise"])
    assert float(torch.stack([batch["noisy"], batch["clean"]]).abs().max()) <= 1
    assert torch.isfinite(batch["noisy"]).all()
    assert batch["noise"].abs().amax(1).min() > 0


@pytest.mark.parametrize(
    ("options", "mix"),
    [
        ({}, {}),
        ({}, {"filtered": 1, "narrow": 1, "noises": 3}),
        ({"rooms": "simulated"}, {"reverberant": 1, "target": "all"}),
    ],
)
def test_the_ratio_asked_for_is_the_ratio_that_comes(tmp_path, make, options, mix):
    write_corpus(tmp_path, voice=steady)
    for path in (tmp_path / "noise").rglob("*-A.wav"):  # half of the noises are mostly silence
        sound, rate = audio.read(path)
        sound[:, : sound.shape[1] // 2] = 0
        audio.write(path, sound, rate)
    for snr in (-5.0, 12.5):
        data = make(tmp_path / "speech", tmp_path / "noise", mix={**PLAIN, "snr": [snr, snr], **mix}, **options)
        batch = joined(mixed(data))
        for clean, noise in zip(batch["clean"], batch["noise"], strict=True):
            assert loud(clean) - loud(noise) == pytest.approx(snr, abs=0.1)


def test_a_crop_of_little_speech_is_as_noisy_as_its_utterance(tmp_path, make):
    for i in range(8):  # 0.5 s of speech in 4 s
        voice = torch.nn.functional.pad(steady(0.5, RATE, i), (0, 56_000))
        audio.write(tmp_path / f"speech/p{i:03d}_1.wav", voice, RATE)
    for i in range(4):
        audio.write(tmp_path / f"noise/{10_000 + i}.wav", make_noise(5.0, RATE, i), RATE)
    recipe = {**PLAIN, "snr": [10, 10], "level": [-20, -20]}
    batch = joined(mixed(make(tmp_path / "speech", tmp_path / "noise", mix=recipe, frames=8)))  # 88 ms
    assert all(loud(noise) == pytest.approx(-30, abs=0.1) for noise in batch["noise"])
    level = 20 * batch["level"][:, 0].log10()  # of the whole: 1/8 of it speech at -20 dB, all of it noise at -30
    assert torch.allclose(level, torch.tensor(10 * np.log10(0.01 / 8 + 0.001)).float(), atol=0.1)


def test_loudness_is_drawn_and_a_mixture_is_scaled_as_one(make):
    quiet, high = (joined(mixed(make(mix={**PLAIN, "level": [dB, dB]}))) for dB in (-30, -20))
    gain = high["level"] / quiet["level"]
    assert torch.allclose(gain, torch.tensor(10**0.5), rtol=1e-4)
    assert torch.allclose(high["noisy"], gain * quiet["noisy"], atol=1e-5)


# What is drawn from


def test_a_silent_stretch_is_never_all_of_a_crop(tmp_path, make):
    burst = torch.zeros(1, 6 * RATE)
    burst[:, 4 * RATE : 4 * RATE + 1_600] = make_noise(0.1, RATE)
    for i in range(8):
        audio.write(tmp_path / f"noise/{10_000 + i}.wav", burst.roll(1_000 * i, 1), RATE)
        audio.write(tmp_path / f"speech/p{i:03d}_1.wav", burst.roll(3_000 * i, 1), RATE)
    audio.write(tmp_path / "noise/99999.wav", torch.zeros(1, RATE), RATE)  # never drawn
    data = make(tmp_path / "speech", tmp_path / "noise", mix={**PLAIN, "snr": [0, 0]})
    for epoch in range(8):
        batch = joined(mixed(data, epoch))
        assert float(batch["clean"].abs().amax(1).min()) > 1e-3
        assert float(batch["noise"].abs().amax(1).min()) > 1e-3


def test_short_noises_begin_again_without_a_seam():
    noise = make_noise(0.3, RATE)
    crops = torch.nn.functional.pad(noise, (0, 3 * RATE)).repeat(2, 1)
    long = mixing.repeat(crops, torch.tensor([4_800, 4_800]), torch.tensor([0, 1_000]), 160)
    assert long.shape == crops.shape
    assert torch.equal(long[1, :-1_000], long[0, 1_000:])
    turn = 4_800 - 160
    assert torch.allclose(long[0, turn : 2 * turn], long[0, :turn], atol=1e-6)
    assert torch.allclose(long[0, 200:turn], noise[0, 200:turn], atol=1e-6)
    power = long[0, : len(long[0]) // 320 * 320].reshape(-1, 320).square().mean(1)
    assert float(power.min() / power.median()) > 0.5  # no gap
    hum = torch.sin(2 * torch.pi * 113.3 * torch.arange(4_800) / RATE)  # its end and beginning do not meet
    hums = mixing.repeat(
        torch.nn.functional.pad(hum, (0, 3 * RATE))[None], torch.tensor([4_800]), torch.tensor([0]), 160
    )
    assert float(hums.diff().abs().max()) < 2 * float(hum.diff().abs().max())  # no click


def test_babble_is_of_other_speakers(make):
    data = make(mix={**PLAIN, "babble": 1}, noise=None)
    dataset = data.training_set(read=True)
    row_of = {int(row): int(group) for row, group in zip(dataset.speech.rows, dataset.speech.groups, strict=True)}
    met = set()
    for index in range(len(dataset)):
        for epoch in range(5):
            draw = dataset.draw(epoch, index)
            voices = {row_of[row] for row, *_ in draw.noises}
            assert int(dataset.speech.groups[draw.segment]) not in voices
            assert 3 <= len(draw.noises) <= 8
            met |= voices
    assert met == set(dataset.speech.groups.tolist())
    assert data.waveforms(dataset.__getitems__([(0, 0)]))["noise"].any()


def test_all_kinds_of_noise_come_and_nobody_speaks_now_and_then(make):
    data = make(mix={"babble": 0.3, "generated": 0.3, "speechless": 0.3})
    dataset = data.training_set(read=True)
    draws = [dataset.draw(epoch, i) for epoch in range(6) for i in range(len(dataset))]
    kinds = [kind for draw in draws for kind in draw.kinds]
    assert {kind.split("/")[0] for kind in kinds} >= {"babble", "generated", "kind0"}
    assert all(kind.split("/")[1] == "train" for kind in kinds if kind.startswith("generated"))
    silent = [i for i in range(len(dataset)) if dataset.draw(0, i).speechless]
    assert 0 < len(silent) < len(dataset)
    batch = data.waveforms(dataset.__getitems__([(0, i) for i in silent]))
    assert not batch["clean"].any()
    assert torch.equal(batch["noisy"], batch["noise"])


def test_some_of_trainings_mixtures_are_clean_already_and_none_of_those_that_score(make):
    data = make(mix={"noiseless": 0.3, "speechless": 0})
    dataset = data.training_set(read=True)
    clean = [i for i in range(len(dataset)) if dataset.draw(0, i).snr == 80]
    assert 0 < len(clean) < len(dataset)
    batch = data.waveforms(dataset.__getitems__([(0, i) for i in clean]))
    assert float((batch["noise"].square().mean(1) / batch["clean"].square().mean(1)).max()) < 1e-5
    assert max(data.mixtures("val").draw(0, i).snr for i in range(len(data.mixtures("val")))) <= 20


def test_a_narrow_channel_is_one_for_speech_and_noise():
    f = torch.fft.rfftfreq(1_024, 1 / RATE)
    passed = mixing.channel(torch.tensor([[300.0, 3_400.0], OPEN]), RATE).abs()
    assert torch.allclose(passed[0, (f > 800) & (f < 2_500)], torch.tensor(1.0), atol=0.02)
    assert float(passed[0, f > 5_100].max()) < 0.05
    assert float(passed[0, f < 70].max()) < 0.06
    assert torch.allclose(passed[1, 1:], torch.tensor(1.0))


def test_filters_are_the_ones_they_are_said_to_be():
    coefficients = torch.tensor([[0.3, -0.2, -0.1, 0.35]])
    impulse = torch.fft.irfft(mixing.colour(coefficients, RATE))[0]
    b, a = (1, 0.3, -0.2), (-0.1, 0.35)
    expected = []
    for n in range(64):
        past = sum(a[k] * expected[n - 1 - k] for k in range(2) if n > k)
        expected.append((b[n] if n < 3 else 0) - past)
    assert torch.allclose(impulse[:64], torch.tensor(expected), atol=1e-5)


# Rooms


def in_room(target: str, at: int, room: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A click at sample ``at`` of a mixture of 4000 samples, in a simulated room, with no noise; and the response."""
    bank = rooms.simulated(2, RATE, [1])
    responses = torch.stack([bank, rooms.kept(bank, target, RATE)], 1)
    crops = torch.zeros(2, 12_000)
    crops[0, 8_000 + at] = 0.1
    zero = torch.zeros(1)
    batch = {
        "crops": crops, "first": torch.tensor([0]), "last": torch.tensor([12_000]), "power": zero + 0.01,
        "active": zero + 0.01, "owner": torch.tensor([0]), "gain": zero, "short": torch.tensor([], dtype=torch.long),
        "period": torch.tensor([]), "shift": torch.tensor([]), "snr": zero, "loudness": zero - 20, "speechless": zero,
        "speech_filter": torch.zeros(1, 4), "noise_filter": torch.zeros(1, 4), "band": torch.tensor([list(OPEN)]),
        "room": torch.tensor([room]),
    }  # fmt: skip
    return {key: value[0] for key, value in mixing.mix(batch, 4_000, RATE, responses).items()}, bank[room]


@pytest.mark.parametrize("target", ["direct", "early", "all"])
def test_target_and_reverberant_speech_are_in_step(target):
    heard, response = in_room(target, 1_000)
    gain = float(heard["noisy"][1_000] / response[0])
    assert int(heard["clean"].abs().argmax()) == int(heard["noisy"].abs().argmax()) == 1_000
    assert torch.allclose(heard["noisy"][1_000:], gain * response[:3_000], atol=1e-4 * abs(gain))
    assert heard["noisy"][:1_000].abs().max() < 1e-5 * abs(gain)  # nothing before it is said
    kept = rooms.kept(response[None], target, RATE)[0]
    assert torch.allclose(heard["clean"][1_000:], gain * kept[:3_000], atol=1e-4 * abs(gain))
    assert (heard["noise"].abs().max() < 1e-6) == (target == "all")


def test_a_room_still_sounds_of_what_was_said_before_the_crop():
    heard, response = in_room("early", -2_000)
    tail = response[2_000:6_000]
    cosine = torch.nn.functional.cosine_similarity(heard["noisy"], tail, dim=0)
    assert float(cosine) > 0.999
    assert heard["clean"].abs().max() < 1e-5 * heard["noisy"].abs().max()  # the target keeps 50 ms of it


def test_measured_rooms_from_a_folder(tmp_path, make):
    for i in range(12):
        response = rooms.simulated(1, RATE, [i])[0]
        audio.write(tmp_path / f"rooms/r{i}.wav", response[None], RATE, subtype="FLOAT")
    data = make(rooms=str(tmp_path / "rooms"), mix={"reverberant": 1})
    assert [len(data.responses[part]) for part in ("train", "val", "test")] == [10, 1, 1]
    assert not torch.equal(data.responses["val"], data.responses["test"])
    assert "rooms: 1 of 12 files for each" in data.describe()
    assert torch.isfinite(joined(mixed(data))["noisy"]).all()


# Who may hear what


def test_validation_and_test_have_speakers_and_noises_of_their_own(make, tmp_path):
    data = make()
    data.write_split(tmp_path / "split.json")
    split = json.loads((tmp_path / "split.json").read_text())
    for what, group in (("", division.speaker), (" noise", division.recording)):
        parts = [{group(name) for name in split[part + what]} for part in ("train", "val", "test")]
        assert all(parts)
        assert sum(map(len, parts)) == len(set.union(*parts)) == (8 if what else 12)
    assert "1 of 12 speakers each for val and test" in split["rule"]
    assert "1 of 8 recordings" in data.describe()
    assert data.same_split(tmp_path / "split.json")
    assert not make(speaker=r"some/(\d)").same_split(tmp_path / "split.json")
    for part in ("train", "val", "test"):  # and what is drawn is of the part
        mixtures = data.mixtures(part)
        rows = {data.material[part]["speech"].collection.names[row] for row in mixtures.speech.rows}
        assert rows == set(split[part])


def test_validation_is_fixed_whatever_the_training_seed(make):
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


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("61/70968/61-70968-0000.flac", "61"), ("61_70968_000007_000000.wav", "61"), ("LS61-70968-0000.flac", "LS61"),
        ("p225/p225_001_mic1.flac", "p225"), ("wav48/p225_001.wav", "p225"), ("LJ001-0001.wav", "."),
        ("cmu_us_bdl_arctic/wav/arctic_a0001.wav", "cmu_us_bdl_arctic/wav"), ("ann/take one.wav", "ann"),
    ],
)  # fmt: skip
def test_speakers_are_found_in_names(name, who):
    assert division.speaker(name) == who


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("1-100032-A-0.wav", "100032"), ("rain/esc10_1-17367-B.ogg", "17367"), ("DKITCHEN/ch01.wav", "DKITCHEN"),
        ("us8k_119067-0-3.ogg", "119067"), ("street/rec_2.wav", "street/rec_2.wav"), ("a/noise1.wav", "a/noise1.wav"),
    ],
)  # fmt: skip
def test_recordings_are_found_in_names(name, what):
    assert division.recording(name) == what


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
        clean = mixing.mix({**batch, "crops": to_float(batch["crops"])}, 2 * RATE, RATE)["clean"]
        assert int((clean.abs() > 1e-4).sum()) == heard


def test_the_test_may_be_of_true_pairs_whose_speakers_do_not_train(corpus, tmp_path, make):
    pairs = write_vctk(tmp_path / "pairs", train=2)
    for name in ("p232_001", "p257_001"):
        audio.write(corpus[0] / f"{name}.wav", make_voice(1.0, RATE), RATE)
    try:
        data = make(test_root=str(pairs))
    finally:
        for name in ("p232_001", "p257_001"):
            (corpus[0] / f"{name}.wav").unlink()
    names = {part: {division.speaker(name) for name in data.names[part]} for part in ("train", "val")}
    assert len(names["train"]) == 11
    assert not (names["train"] | names["val"]) & {"p232", "p257"}
    assert [batch["name"][0] for batch in data.test_dataloader()] == ["p232_000", "p257_001"]
    assert "its 2 speakers known by name not in training" in data.describe()


# As a person uses it


def test_it_trains_from_the_command_to_a_tested_checkpoint(corpus, cache, tmp_path):
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
        ([], "data.speech missing; give it as data.speech=FOLDER"),
        (["data.speech=nowhere"], "data.speech: nowhere: no such file or folder"),
        (["data.speech=empty"], "data.speech: empty: no sound files in this folder"),
        (["data.speech=all"], "1 problem in the corpus, mend or remove these files: all/bad.wav: not readable"),
        (["data.speech=all", "data.noise=all/noise"], "data.noise=all/noise: lies in data.speech=all"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, options, said):
    (tmp_path / "empty").mkdir()
    audio.write(tmp_path / "all/noise/a.wav", make_noise(0.5, RATE), RATE)
    (tmp_path / "all/bad.wav").write_text("not sound")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DenoiserError) as caught:
        train_here(tmp_path / "run", "data=mixture", *options, *TINY)
    assert str(caught.value).startswith(said)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_settings_without_a_meaning_are_refused(make, corpus):
    for mix, said in (
        ({"snr": [5, 0]}, "snr"), ({"snr": 5}, "snr"), ({"babble": 2}, "share"), ({"noises": 0}, "noises"),
        ({"babble": 0.6, "generated": 0.6}, "together"), ({"target": "dry"}, "direct, early, all"),
        ({"level": ["a", "b"]}, "level"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            Recipe(**mix)
    with pytest.raises(CorpusError, match="nothing to mix speech with"):
        make(noise=None, mix={"generated": 0, "babble": 0}).train_dataloader()
    with pytest.raises(ConfigError, match=r"data\.speaker=.*not found in"):
        make(speaker="talker(.)")
    with pytest.raises(ConfigError, match="not a regular expression"):
        make(recording="(")
    with pytest.raises(CorpusError, match=r"data\.test_root"):
        make(test_root=str(corpus[0]))
    with pytest.raises(ConfigError, match="twice"):
        MixtureData(Spectral(), [str(corpus[0])] * 2)


@needs_recordings
def test_real_recordings_mix(tmp_path, make):
    for kind, pattern in (("speech", "librispeech/*"), ("noise", "rain/*")):
        for path in sorted((SHARED / kind).glob(pattern))[:8]:
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / kind)
    data = make(tmp_path / "speech", tmp_path / "noise", rooms="simulated", frames=256)
    batch = joined(mixed(data))
    assert len(batch["noisy"]) > 20
    assert torch.equal(batch["noisy"], batch["clean"] + batch["noise"])
    assert torch.isfinite(batch["noisy"]).all()
    ratio = 20 * (Spectral.level(batch["noisy"]) / batch["level"]).log10()
    assert float(ratio.abs().median()) < 2  # dB: a crop is about as loud as its utterance
