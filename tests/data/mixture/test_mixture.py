"""Mixtures: their speech, noises, levels and rooms."""

import numpy as np
import pytest
import torch
from mixtures import PLAIN, RATE, joined, mixed, opened, same, steady, write_corpus

from conftest import active_decibels, make_noise, make_voice
from denoiser import audio
from denoiser.data.mixture import mix, responses, rooms
from denoiser.data.mixture.draw import OPEN, Recipe
from denoiser.data.store import FULL_SCALE, Resident
from denoiser.errors import ConfigError

pytest_plugins = ["mixture_fixtures"]


# Repeatability


def test_the_same_mixtures_from_any_number_of_workers_and_from_the_memory_of_the_device(make):
    alone, helped, resident = (make(rooms="simulated", workers=count) for count in (0, 2, 0))
    resident.resident = Resident(resident.sources, torch.device("cpu"))
    assert "crops" not in next(iter(resident.train_dataloader()))
    assert same(mixed(alone, 1), mixed(helped, 1))
    assert same(mixed(alone, 1), mixed(resident, 1))


def test_epochs_and_seeds_differ_and_repeat_with_any_global_random_state(make):
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


# Levels


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
            assert active_decibels(clean) - active_decibels(noise) == pytest.approx(snr, abs=0.1)


def test_a_crop_of_little_speech_is_as_noisy_as_its_utterance(tmp_path, make):
    for i in range(8):  # 0.5 s of speech in 4 s
        voice = torch.nn.functional.pad(steady(0.5, RATE, i), (0, 56_000))
        audio.write(tmp_path / f"speech/p{i:03d}_1.wav", voice, RATE)
    for i in range(4):
        audio.write(tmp_path / f"noise/{10_000 + i}.wav", make_noise(5.0, RATE, i), RATE)
    recipe = {**PLAIN, "snr": [10, 10], "level": [-20, -20]}
    batch = joined(mixed(make(tmp_path / "speech", tmp_path / "noise", mix=recipe, frames=8)))  # 88 ms
    assert all(active_decibels(noise) == pytest.approx(-30, abs=0.1) for noise in batch["noise"])
    level = 20 * batch["level"][:, 0].log10()  # of the whole: 1/8 of it speech at -20 dB, all of it noise at -30
    assert torch.allclose(level, torch.tensor(10 * np.log10(0.01 / 8 + 0.001)).float(), atol=0.1)


def test_loudness_is_drawn_and_a_mixture_is_scaled_as_one(make):
    quiet, high = (joined(mixed(make(mix={**PLAIN, "level": [dB, dB]}))) for dB in (-30, -20))
    gain = high["level"] / quiet["level"]
    assert torch.allclose(gain, torch.tensor(10**0.5), rtol=1e-4)
    assert torch.allclose(high["noisy"], gain * quiet["noisy"], atol=1e-5)


# Speech and noises


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
    long = mix.repeat(crops, torch.tensor([4_800, 4_800]), torch.tensor([0, 1_000]), 160)
    assert long.shape == crops.shape
    assert torch.equal(long[1, :-1_000], long[0, 1_000:])
    turn = 4_800 - 160
    assert torch.allclose(long[0, turn : 2 * turn], long[0, :turn], atol=1e-6)
    assert torch.allclose(long[0, 200:turn], noise[0, 200:turn], atol=1e-6)
    power = long[0, : len(long[0]) // 320 * 320].reshape(-1, 320).square().mean(1)
    assert float(power.min() / power.median()) > 0.5  # no gap
    hum = torch.sin(2 * torch.pi * 113.3 * torch.arange(4_800) / RATE)  # its end and beginning do not meet
    hums = mix.repeat(torch.nn.functional.pad(hum, (0, 3 * RATE))[None], torch.tensor([4_800]), torch.tensor([0]), 160)
    assert float(hums.diff().abs().max()) < 2 * float(hum.diff().abs().max())  # no click


def test_babble_is_of_other_speakers(make):
    data = make(mix={**PLAIN, "babble": 1 - 1e-9})  # validation has one speaker, and takes noise
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


def test_every_kind_of_noise_and_some_mixtures_without_speech_are_drawn(make):
    data = make(mix={"babble": 0.3, "generated": 0.3, "speechless": 0.3})
    dataset = data.training_set(read=True)
    draws = [dataset.draw(epoch, i) for epoch in range(6) for i in range(len(dataset))]
    kinds = [kind for draw in draws for kind in draw.kinds]
    assert {kind.split("/")[0] for kind in kinds} >= {"babble", "generated", "kind0"}
    assert all(kind.split("/")[1] == "train" for kind in kinds if kind.startswith("generated"))
    silent = [(0, i) for i in range(len(dataset)) if dataset.draw(0, i).speechless]
    assert 0 < len(silent) < len(dataset)
    batch = data.waveforms(dataset.__getitems__(silent))
    assert not batch["clean"].any()
    assert torch.equal(batch["noisy"], batch["noise"])


def test_some_training_mixtures_are_clean_and_no_scored_mixture_is(make):
    data = make(mix={"noiseless": 0.3, "speechless": 0})
    dataset = data.training_set(read=True)
    clean = [i for i in range(len(dataset)) if dataset.draw(0, i).snr == 80]
    assert 0 < len(clean) < len(dataset)
    batch = data.waveforms(dataset.__getitems__([(0, i) for i in clean]))
    assert float((batch["noise"].square().mean(1) / batch["clean"].square().mean(1)).max()) < 1e-5
    assert max(data.mixtures("val").draw(0, i).snr for i in range(len(data.mixtures("val")))) <= 20


def test_a_narrow_channel_is_one_for_speech_and_noise():
    f = torch.fft.rfftfreq(1_024, 1 / RATE)
    passed = responses.channel(torch.tensor([[300.0, 3_400.0], OPEN]), RATE).abs()
    assert torch.allclose(passed[0, (f > 800) & (f < 2_500)], torch.tensor(1.0), atol=0.02)
    assert float(passed[0, f > 5_100].max()) < 0.05
    assert float(passed[0, f < 70].max()) < 0.06
    assert torch.allclose(passed[1, 1:], torch.tensor(1.0))


def test_the_highpass_is_for_the_speech(tmp_path):
    def tones(seconds: float, rate: int, seed: int) -> torch.Tensor:
        time = torch.arange(round(seconds * rate)) / rate
        return sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (30, 1_000))[None] / 10

    def levels(highpass: float) -> tuple[float, float]:
        data = opened(write_corpus(tmp_path, tones), tmp_path / "cache", mix={**PLAIN, "highpass": highpass})
        clean = joined(mixed(data))["clean"]
        power = torch.fft.rfft(clean * torch.hann_window(clean.shape[1])).abs().square().sum(0)
        hertz = torch.fft.rfftfreq(2 * len(power) - 2, 1 / RATE)
        return tuple(float(10 * power[abs(hertz - at) < 5].sum().log10()) for at in (30, 1_000))

    before, after = levels(0), levels(60)
    assert after[0] - after[1] == pytest.approx(before[0] - before[1] - 24.1, abs=1)  # an octave below
    with pytest.raises(ConfigError, match=r"highpass=-1"):
        Recipe(highpass=-1)


# Rooms


def in_room(target: str, at: int, room: int = 0) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Mix a click at sample ``at`` of 4000 in a simulated room without noise; returns mixture and room response."""
    bank = rooms.simulated(2, RATE, [1])
    both = torch.stack([bank, rooms.target_part(bank, target, RATE)], 1)
    crops = torch.zeros(2, 12_000)
    crops[0, 8_000 + at] = 0.1 * FULL_SCALE
    zero = torch.zeros(1)
    batch = {
        "crops": crops, "first": torch.tensor([0]), "last": torch.tensor([12_000]), "power": zero + 0.01,
        "active": zero + 0.01, "owner": torch.tensor([0]), "gain": zero, "short": torch.tensor([], dtype=torch.long),
        "period": torch.tensor([]), "shift": torch.tensor([]), "snr": zero, "loudness": zero - 20, "speechless": zero,
        "highpass": zero, "filters": torch.zeros(1, 2, 4), "band": torch.tensor([list(OPEN)]),
        "room": torch.tensor([room]), "bandwidth": zero,
    }  # fmt: skip
    return {key: value[0] for key, value in mix.mix(batch, 4_000, RATE, both).items()}, bank[room]


@pytest.mark.parametrize("target", ["direct", "early", "all"])
def test_target_and_reverberant_speech_are_in_step(target):
    heard, response = in_room(target, 1_000)
    gain = float(heard["noisy"][1_000] / response[0])
    assert int(heard["clean"].abs().argmax()) == int(heard["noisy"].abs().argmax()) == 1_000
    assert torch.allclose(heard["noisy"][1_000:], gain * response[:3_000], atol=1e-4 * abs(gain))
    assert heard["noisy"][:1_000].abs().max() < 1e-5 * abs(gain)  # nothing before it is said
    kept = rooms.target_part(response[None], target, RATE)[0]
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
    assert [len(data.room_responses[part]) for part in ("train", "val", "test")] == [10, 1, 1]
    assert not torch.equal(data.room_responses["val"], data.room_responses["test"])
    assert "rooms: 1 of 12 files for each" in data.describe()
    assert torch.isfinite(joined(mixed(data))["noisy"]).all()


def test_speech_in_a_room_of_a_lower_rate_is_known_up_to_that_rate_alone(tmp_path, make):
    audio.write(tmp_path / "rooms/low.wav", rooms.simulated(1, 8_000, [1]), 8_000, subtype="FLOAT")
    for share, expected in ((0, 8_000), (1, 4_000)):
        data = make(rooms=str(tmp_path / "rooms"), mix={**PLAIN, "reverberant": share})
        speech, noise = joined(mixed(data))["bandwidth"].unbind(1)
        assert (speech == expected).all()
        assert (noise == 8_000).all()
        assert float(data.utterances["val"][0]["bandwidth"]) == expected
