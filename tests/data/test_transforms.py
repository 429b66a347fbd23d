"""Transforms of a batch: each changes what it names and leaves noisy as clean plus noise."""

import numpy as np
import pytest
import torch

from batches import KEY, RATE, TRANSFORMS, N, build, make_batch, power, transform
from conftest import make_noise, make_voice
from denoiser.data.augment import STREAM, changed_level
from denoiser.spectral import Spectral


def split(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return noise, clean and level."""
    return batch["noisy"] - batch["clean"], batch["clean"], batch["level"]


def changed(name: str, noise: torch.Tensor, clean: torch.Tensor, level: torch.Tensor, **arguments):
    return transform(name, **arguments)(noise, clean, level, np.random.default_rng([0, 1]))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_noisy_is_clean_plus_noise(name):
    batch = make_batch()
    given = {key: value.clone() for key, value in batch.items()}
    out = build({name: {}})({**batch, "name": ["a"]}, KEY)
    one = transform(name)
    noise, clean, level = one(*split(batch), np.random.default_rng([*KEY, one.place, STREAM]))
    assert torch.equal(out["noisy"], clean + noise)
    assert torch.equal(out["clean"], clean)
    assert torch.equal(out["level"], level)
    assert out["name"] == ["a"]
    assert not torch.allclose(out["noisy"], batch["noisy"])
    for key, value in given.items():
        assert (out[key].shape, out[key].dtype, out[key].requires_grad) == (value.shape, torch.float32, False)
        assert torch.equal(batch[key], value)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rows_that_are_not_chosen_stay_as_they_are(name):
    batch = make_batch(32)
    never = build({name: {"probability": 0}})(batch, KEY)
    assert all(torch.equal(never[key], batch[key]) for key in batch)
    some = build({name: {"probability": 0.5}})(batch, KEY)
    same = torch.stack([(some[key] == batch[key]).all(1) for key in batch]).all(0)
    assert 4 < same.sum() < 28


@pytest.mark.parametrize("name", TRANSFORMS)
def test_silence_stays_silence(name):
    batch = make_batch()
    for key in batch:
        batch[key][1] = 0
    batch["clean"][2] = 0  # noise alone
    batch["noisy"][3] = batch["clean"][3]  # speech alone
    for rows in (batch, {key: torch.zeros_like(value) for key, value in batch.items()}):
        out = build({name: {}})(rows, KEY)
        assert all(value.isfinite().all() for value in out.values())
        assert not any(value[1].any() for value in out.values())


def test_remix_keeps_a_noise_relative_to_the_level_of_its_recording():
    noise, speech, level = split(make_batch())
    new, clean, _ = changed("remix", noise, speech, level)
    relative, before = new / level, noise / level
    order = torch.cdist(relative, before).argmin(1)
    assert sorted(order.tolist()) == list(range(6)) != order.tolist()
    assert torch.allclose(relative, before[order], rtol=1e-4, atol=1e-6)
    assert torch.equal(clean, speech)
    louder = torch.tensor([1.0, 1, 10, 1, 0.1, 1])[:, None]  # how loud each was recorded does not matter
    again, _, _ = changed("remix", noise * louder, speech * louder, level * louder)
    assert torch.allclose(again / louder, new, rtol=1e-4, atol=1e-6)


def test_small_batches_are_remixed_and_spliced_as_often_as_asked():
    own, level = torch.arange(1.0, 5.0)[:, None].expand(4, 1_600), torch.ones(4, 1)
    remix, splice = transform("remix", probability=0.5), transform("splice", probability=0.2, decibels=0)
    remixed = spliced = 0.0
    for batch in range(500):
        noise, *_ = remix(own, 0 * own, level, np.random.default_rng([batch, 1]))
        remixed += float((noise != own).any(1).float().mean()) / 500
        _, clean, _ = splice(0 * own, own, level, np.random.default_rng([batch, 1]))
        spliced += float(((clean - own).abs() > 1e-3).any(1).float().mean()) / 500
    assert remixed == pytest.approx(0.5, abs=0.05)
    assert spliced == pytest.approx(0.2, abs=0.04)


def test_the_level_after_remix_is_that_of_the_whole_utterance():
    utterances = [(make_voice(8, RATE, i) * (0.2 + 0.1 * i), make_noise(8, RATE, i) * 0.4 * i) for i in range(6)]
    clean, noise = (torch.cat(side) for side in zip(*utterances, strict=True))
    level = Spectral.level(clean + noise)
    clean[:, :N] = 0  # the crop is of a pause: its own power says nothing of the speech
    for piece in (slice(0, N), slice(5 * N, 6 * N)):
        whole, whole_clean, _ = changed("remix", noise, clean, level)
        _, _, guess = changed("remix", noise[:, piece], clean[:, piece], level)
        error = 20 * torch.log10(guess / Spectral.level(whole + whole_clean))
        assert error.abs().max() < 1.0


def test_a_crop_never_comes_to_stand_further_above_its_level():
    rng = np.random.default_rng(0)
    scales = 10 ** rng.uniform(-3, 3, (3, 500, 1))
    before, after = (torch.from_numpy(rng.standard_normal((500, 50)) * scale) for scale in scales[:2])
    level = torch.from_numpy(scales[2])
    new = changed_level(level, before, after)
    stood, stands = Spectral.level(before) / level, Spectral.level(after) / new
    assert (stands <= stood.clamp(min=1) * (1 + 1e-5)).all()
    assert torch.allclose(changed_level(level, before, before), level)


@pytest.mark.parametrize(("factor", "length"), [(0.9, N), (1.1, round(N / 1.1))])
def test_speed_scales_frequency_and_keeps_the_crop(factor, length):
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(N) / RATE)[None]
    noise, clean, level = changed("speed", 0.5 * tone, tone, torch.ones(1, 1), low=factor, high=factor)
    assert torch.equal(level, torch.ones(1, 1))
    expected = torch.sin(2 * torch.pi * 1000 * factor * torch.arange(N) / RATE)
    inner = slice(100, length - 100)
    assert (clean[0, inner] - expected[inner]).abs().max() < 5e-3
    assert not clean[0, length + 1 :].any()
    assert torch.allclose(noise, 0.5 * clean, atol=1e-6)


def test_noise_speed_changes_the_noise_alone_repeats_a_fast_one_and_turns_half_of_them_backwards():
    rise = torch.linspace(0.1, 1, N)
    tone = (rise * torch.sin(2 * torch.pi * 1000 * torch.arange(N) / RATE)).expand(16, N)
    clean = torch.randn(16, N)
    for factor, turns in ((0.8, 1), (2.0, 2)):
        noise, same, _ = changed("noisespeed", tone, clean, torch.ones(16, 1), low=factor, high=factor)
        assert torch.equal(same, clean)
        loudest = torch.fft.rfft(noise).abs().argmax(1) * RATE / N
        assert (loudest - 1000 * factor).abs().max() < 10
        # The tone grows louder: a part that grows softer runs backwards.
        turn = noise[:, : N // turns]
        first, second = (power(half) for half in turn.tensor_split(2, dim=1))
        assert 2 < (first > second).sum() < 14
        assert (power(noise) > 0.5 * power(tone)).all()


def test_speed_draws_a_factor_a_row():
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, N))).float().expand(8, N)
    out, clean, _ = changed("speed", noise, noise, torch.ones(8, 1))
    assert len({tuple(row[:50].tolist()) for row in out}) > 4
    assert torch.equal(out, clean)
    same, _, _ = changed("speed", noise, noise, torch.ones(8, 1), low=1, high=1)
    assert torch.equal(same, noise)


def test_shift_moves_and_turns_noise_alone():
    noise, speech, before = split(make_batch())
    new, clean, level = changed("shift", noise, speech, before)
    assert torch.equal(clean, speech)
    assert torch.equal(level, before)
    assert torch.equal(new.abs().sort(1).values, noise.abs().sort(1).values)
    spectra = torch.fft.rfft(torch.stack([new, noise])).abs()
    assert torch.allclose(spectra[0], spectra[1], atol=2e-3)  # a circular shift
    means = (new.sum(1) / noise.sum(1)).round(decimals=2)
    assert set(means.tolist()) == {1.0, -1.0}


@pytest.mark.parametrize(
    ("name", "arguments", "lowest", "highest"),
    [("snr", {"low": -3, "high": 9}, -9, 3), ("gain", {"decibels": 15}, -15, 15)],
)
def test_snr_and_gain_move_by_what_was_asked(name, arguments, lowest, highest):
    noise, speech, before = split(make_batch(32))
    new, clean, level = changed(name, noise, speech, before, **arguments)
    moved = 10 * torch.log10(power(new) / power(noise))
    assert lowest <= moved.min() < lowest + 5 < highest - 5 < moved.max() <= highest
    gain = 10 ** (moved.float()[:, None] / 20)
    assert torch.allclose(new, gain * noise, atol=1e-5)
    assert torch.allclose(clean, speech if name == "snr" else gain * speech, atol=1e-5)
    assert torch.equal(level, before) == (name == "gain")


def responses(name: str, rows: int = 16, **arguments) -> torch.Tensor:
    """Return impulse responses ``[B, N]`` of a filter, the same for noise and clean, centred."""
    impulse = torch.zeros(rows, N)
    impulse[:, N // 2] = 1
    noise, clean, _ = changed(name, impulse, impulse, torch.ones(rows, 1), **arguments)
    assert torch.equal(noise, clean)
    assert torch.allclose(noise[:, 1:], noise[:, 1:].flip(1), atol=1e-6)  # linear phase, no delay
    assert not (noise[:, : N // 2 - 260].abs() > 1e-6).any()  # 32 ms
    return torch.fft.rfft(noise).abs()


def test_bandstop_removes_one_band():
    gains = responses("bandstop", width=0.2)
    mel = torch.log10(1 + torch.linspace(0, RATE / 2, gains.shape[1]) / 700)
    deep = 0
    for gain in gains:
        stop = torch.nonzero(gain < 0.5)[:, 0]
        if len(stop):  # a band narrower than the filter's slopes is only a dip
            assert len(stop) == stop[-1] - stop[0] + 1
            assert (mel[stop[-1]] - mel[stop[0]]) / mel[-1] < 0.21
            margin = 60  # bins of 2 Hz: the slopes
            outside = torch.cat([gain[: max(0, stop[0] - margin)], gain[stop[-1] + margin :]])
            assert ((outside - 1).abs() < 0.01).all()
            deep += bool(gain.min() < 0.01)
    assert deep > 4


def test_bandlimit_passes_the_band_of_a_telephone():
    gains = responses("bandlimit", rows=1, low=[300, 300], high=[3400, 3400])[0]
    frequency = torch.linspace(0, RATE / 2, len(gains))
    assert ((gains[(frequency > 400) & (frequency < 3300)] - 1).abs() < 0.01).all()
    assert (gains[(frequency < 200) | (frequency > 3500)] < 0.01).all()
    wide = responses("bandlimit", rows=1, low=[50, 50], high=[9000, 9000])[0]
    assert ((wide[frequency > 200] - 1).abs() < 0.01).all()


def test_clip_limits_the_noisy_and_leaves_the_clean():
    batch = make_batch()
    noise, clean, _ = changed("clip", *split(batch), low=6, high=6)
    limit = batch["level"] * 10 ** (6 / 20)
    assert torch.equal(clean, batch["clean"])
    assert torch.allclose(clean + noise, batch["noisy"].clamp(-limit, limit), atol=1e-6)
    assert ((clean + noise).abs().amax(1) - limit[:, 0]).abs().max() < 1e-6


def test_a_level_that_changes_is_another_talker_a_bang_or_silence_before():
    ones, level = torch.ones(300, N), torch.full((300, 1), 0.01)
    noise, clean, _ = changed("levelchange", ones, ones, level)
    first, last = clean[:, 0], clean[:, -1]
    steps, bangs = (first == 1) & (last != 1), (clean == 1).all(1)
    starts = ~steps & ~bangs
    assert all(70 < kind.sum() < 130 for kind in (steps, bangs, starts))

    gain = 20 * torch.log10(clean[steps])
    assert gain.abs().max() <= 25.001
    assert gain[:, -1].min() < -15 < 15 < gain[:, -1].max()
    # Over 20 ms or more: no sample changes by more than 25 dB / 320.
    assert gain.diff(dim=1).abs().max() < 0.1
    ramps = (gain.diff(dim=1).abs() > 1e-4).sum(1) / RATE
    assert ramps.min() < 0.05 < 0.2 < ramps.max() < 0.301
    follows = torch.isclose(noise[steps], clean[steps]).all(1)
    assert 0.3 < follows.float().mean() < 0.7
    assert torch.equal(noise[steps][~follows], ones[steps][~follows])

    burst = (noise - 1)[bangs] / 0.01
    peaks = 20 * torch.log10(burst.abs().amax(1))
    assert 0 < peaks.min() < 20 < 35 < peaks.max() < 55
    before = burst[:, 0] == 0
    assert before.float().mean() > 0.9

    began = (clean[starts] > 0).int()
    assert (began.diff(dim=1) >= 0).all()
    assert 0.3 < began.float().mean() < 0.7
    assert torch.equal(noise[starts], began.float())
    assert torch.equal(clean[starts], began.float())


def test_a_splice_is_another_recording_from_a_moment_on_with_noise_on_either_side_or_both():
    rows = torch.arange(300)[:, None]
    clean, noise = (1 + rows % 2).expand(-1, N).float(), 0.1 * torch.ones(300, N)
    noise, clean, _ = changed("splice", noise, clean, torch.ones(300, 1))
    first, last = clean[:, 0], clean[:, -1]
    assert torch.equal(first, 1 + rows[:, 0] % 2)
    decibels = 20 * torch.log10(last / (3 - first))
    assert -25.01 < decibels.min() < -20
    assert 20 < decibels.max() < 25.01
    changing = (clean.diff(dim=1).abs() > 1e-4).sum(1)
    assert 150 < changing.float().median() < 170  # a fade of 10 ms
    quiet = [(noise[:, index] == 0).float().mean() for index in (0, -1)]
    assert all(0.25 < share < 0.42 for share in quiet)


def pitched(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tones in place of the sounds, another in each row, and as bandwidths ``[B, 2]`` their frequencies."""
    rows = torch.arange(len(batch["clean"]))[:, None]
    bandwidth = torch.cat([1_000 + 50 * rows, 4_000 + 50 * rows], dim=1).float()
    time = torch.arange(N) / RATE
    clean, noise = (0.1 * torch.sin(2 * torch.pi * hertz[:, None] * time) for hertz in bandwidth.T)
    return {"noisy": clean + noise, "clean": clean, "level": Spectral.level(clean + noise), "bandwidth": bandwidth}


@pytest.mark.parametrize("name", ["speed", "noisespeed", "remix", "snr"])
def test_the_bandwidths_of_speech_and_noise_follow_what_a_transform_makes_of_them(name):
    batch = pitched(make_batch(40))
    out = build({name: {"probability": 0.5}})(batch, KEY)
    for part, waveform in enumerate((out["clean"], out["noisy"] - out["clean"])):
        # The beginning, which a faster crop leaves and no other row covers.
        hertz = torch.fft.rfft(waveform[:, : N // 2] * torch.hann_window(N // 2)).abs().argmax(1) * (2 * RATE / N)
        assert torch.allclose(hertz, out["bandwidth"][:, part], atol=5)
    changed_rows = (out["bandwidth"] != batch["bandwidth"]).any(1).sum()
    assert changed_rows == 0 if name == "snr" else 10 < changed_rows < 30


def test_a_spliced_crop_counts_no_band_that_either_of_its_recordings_lacks():
    batch = pitched(make_batch(40))
    out = build({"splice": {"probability": 0.5}})(batch, KEY)
    is_joined = (out["clean"] != batch["clean"]).any(1)
    assert 10 < is_joined.sum() < 30
    assert torch.equal(out["bandwidth"][~is_joined], batch["bandwidth"][~is_joined])
    joined = torch.minimum(batch["bandwidth"], batch["bandwidth"].roll(1, 0))
    assert torch.equal(out["bandwidth"][is_joined], joined[is_joined])


def test_a_rumble_lies_below_its_cut_off_at_a_loudness_of_its_own_in_each_row():
    noise, clean, level = torch.zeros(40, RATE), torch.zeros(40, RATE), torch.full((40, 1), 0.1)
    noise, same, louder = changed("rumble", noise, clean, level, hertz=[20, 40], decibels=[-30, 0])
    decibels = 20 * torch.log10(Spectral.level(noise) / 0.1)
    assert -30.1 < decibels.min() < -20
    assert -10 < decibels.max() < 0.1
    energies = torch.fft.rfft(noise).abs().square()  # 1 Hz apart
    assert (energies[:, :60].sum(1) > 0.98 * energies.sum(1)).all()
    assert not same.any()
    assert (louder >= level).all()
