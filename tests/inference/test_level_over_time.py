"""A level that follows the recording: no sound is taken for noise because another one, before or after, is louder."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import SHARED, active_decibels, recording
from denoiser import Denoiser, audio
from denoiser.checkpoint import SHIPPED
from denoiser.data.synthesis.voices import ESPEAK_RATE, SENTENCES, SPEAKERS, speak
from denoiser.errors import ConfigError
from denoiser.evaluation import metrics
from denoiser.spectral import Spectral
from untrained import streamed

RATE = 16_000
HOST_DBFS = -20.0
SOFTER = np.linspace(5, 25, 12).tolist()  # dB of a guest below the host
SNR = 8.0
NOTHING = torch.zeros(0)


@pytest.fixture(scope="module", params=["best", "small"])
def shipped(request) -> Denoiser:
    return Denoiser.from_checkpoint(request.param, "cpu")


@pytest.fixture(scope="module", params=["synthetic", "recorded"])
def voices(request) -> list[Tensor]:
    """Return a host and twelve guests, ``[N]`` each, who talk for 4 seconds after a rest of 0.1 s."""
    if request.param == "synthetic":
        pytest.importorskip("espeakng_loader")
        sounds = [spoken(name) for name in list(SPEAKERS["train"]) + list(SPEAKERS["test"])]
    else:
        files = sorted((SHARED / "speech/librispeech").glob("*.flac"))[::15]
        if not files:
            pytest.skip(f"no real recordings at {SHARED}")
        sounds = [audio.read(file)[0][0] for file in files]
    return [turn(sound[: 4 * RATE]) for sound in sounds if len(sound) >= 4 * RATE][:13]


def spoken(speaker: str) -> Tensor:
    """Return two sentences by a voice of the embedded corpus, over the hiss of a quiet room."""
    voice = {**SPEAKERS["train"], **SPEAKERS["test"]}[speaker]
    rng = np.random.default_rng(0)
    texts = rng.choice(SENTENCES["train"], 2, replace=False)
    speech = torch.from_numpy(np.concatenate([speak(rng, text, voice) for text in texts])).float()
    speech = audio.resample(speech[None], ESPEAK_RATE, RATE)[0]
    return speech + 1e-4 * noise_like(speech)


def turn(speech: Tensor) -> Tensor:
    """Return speech that fades in and out, between rests of 0.1 s: nobody begins while another one speaks."""
    ramp = (torch.arange(len(speech)) / (0.05 * RATE)).clamp(max=1)
    return torch.nn.functional.pad(speech * ramp * ramp.flip(0), (RATE // 10, RATE // 10))


def noise_like(sound: Tensor) -> Tensor:
    return torch.randn(sound.shape, generator=torch.Generator().manual_seed(0))


def at(decibels: float, sound: Tensor) -> Tensor:
    """Return a sound with its active parts at so many dBFS."""
    return sound * 10 ** ((decibels - active_decibels(sound)) / 20)


def in_noise(speech: Tensor) -> Tensor:
    """Return speech on a boat."""
    noise = recording("noise_boat")[0][: len(speech)]
    return speech + at(active_decibels(speech) - SNR, noise)


def burst(seconds: int, gain: float) -> Tensor:
    """Return noise ``[N]`` within full scale."""
    return (gain * noise_like(torch.zeros(seconds * RATE))).clamp(-1, 1)


def enhanced(denoiser: Denoiser, *sounds: Tensor) -> list[Tensor]:
    """Enhance sounds that follow one another in one recording; returns each of them."""
    whole = denoiser.enhance(torch.cat(sounds)[None], RATE)[0]
    return list(whole.split([len(sound) for sound in sounds]))


def decibels(sound: Tensor) -> float:
    return float(10 * sound.double().square().mean().log10())


def changes(denoiser: Denoiser, voices: list[Tensor], before: Tensor, after: Tensor, since: int = 0) -> list[float]:
    """Return how much sounds before and after them change the SI-SDR, dB, of voices in noise, from a sample on."""
    found = []
    for clean in voices:
        noisy = in_noise(clean)
        result, alone = enhanced(denoiser, before, noisy, after)[1], enhanced(denoiser, noisy)[0]
        beside, own = (metrics.si_sdr(clean[since:], sound[since:], RATE) for sound in (result, alone))
        found.append(beside - own)
    return found


def test_a_soft_clean_guest_of_a_loud_host_keeps_level_and_words(shipped, voices):
    host, found = at(HOST_DBFS, voices[0]), []
    for guest, less in zip(voices[1:], SOFTER, strict=True):
        clean = at(HOST_DBFS - less, guest)
        _, result, _ = enhanced(shipped, host, clean, host)
        found.append((decibels(result) - decibels(clean), metrics.stoi(clean, result, RATE)))
    assert sum(abs(level) <= 1 and stoi >= 0.97 for level, stoi in found) >= 11, found


@pytest.mark.parametrize(("softer", "allowed", "at_least"), [(13, 1, 5), (20, 2, 6)])
def test_soft_noisy_guests_come_out_as_from_files_of_their_own(shipped, voices, softer, allowed, at_least):
    host = at(HOST_DBFS, voices[0])
    found = changes(shipped, [at(HOST_DBFS - softer, guest) for guest in voices[1:7]], host, host)
    assert sum(change > -allowed for change in found) >= at_least, found


def applause(seconds: int) -> Tensor:
    """Return hundreds of claps a second."""
    rng = np.random.default_rng(0)
    claps = rng.random(seconds * RATE) < 300 / RATE
    envelope = np.convolve(claps, np.exp(-np.arange(800) / 100), mode="full")[: seconds * RATE]
    return torch.from_numpy(envelope * rng.standard_normal(seconds * RATE)).float()


def test_a_soft_talk_after_long_applause_keeps_its_level(shipped, voices):
    for voice in voices[1:3]:
        clean = at(-39, voice)
        _, result = enhanced(shipped, at(-13, applause(20)), clean)
        assert abs(decibels(result) - decibels(clean)) < 1.5


@pytest.mark.parametrize(
    ("seconds", "gain", "dbfs", "count", "allowed"),
    [(1, 1, -40, 3, 1.5), (10, 0, -30, 2, 0.5), (10, 10 ** (-75 / 20), -30, 2, 0.5)],
    ids=["a bang at full scale", "silence", "a rest with hiss"],
)
def test_soft_noisy_speech_is_denoised_as_ever_after(shipped, voices, seconds, gain, dbfs, count, allowed):
    found = changes(shipped, [at(dbfs, voice) for voice in voices[1 : 1 + count]], burst(seconds, gain), NOTHING)
    assert min(found) > -allowed, found


def changing(seconds: int) -> Tensor:
    """Return ``[1, N]``: a voice on a boat, by turns loud and soft, with 3 s of digital silence from 10 s on."""
    voice = recording("voice_kathleen")[0]
    noisy = in_noise(voice).repeat(1 + seconds * RATE // len(voice))[: seconds * RATE]
    second = torch.arange(len(noisy)) / RATE
    return (noisy * torch.where(second % 7 < 3.5, 1.0, 0.03) * ((second < 10) | (second > 13)))[None]


def test_digital_silence_stays_digital_silence(shipped):
    result = shipped.enhance(changing(20), RATE)[0]
    assert not result[int(10.1 * RATE) : int(12.9 * RATE)].any()
    assert decibels(result) > -40


@pytest.mark.parametrize("rate", [RATE, 44_100, 48_000])
def test_a_step_of_the_offset_is_heard_where_it_is_and_nowhere_else(shipped, rate):
    noisy = torch.zeros(1, 3 * rate)
    noisy[:, 2 * rate :] = 0.3
    result = shipped.enhance(noisy, rate)[0]
    beside = torch.cat([result[: int(1.9 * rate)], result[int(2.1 * rate) :]])
    assert float(beside.abs().max()) < 1e-4


def exact(name: str) -> Denoiser:
    """Return shipped weights in float32, where nothing but what is asked can make a difference."""
    return Denoiser.from_checkpoint(name, "cpu", precision="32")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recording_40_db_softer_gives_the_same_result_40_db_softer(name):
    denoiser, noisy = exact(name), changing(20)
    expected = denoiser.enhance(noisy, RATE)
    result = 100 * denoiser.enhance(0.01 * noisy, RATE)
    assert float((result - expected).abs().max()) < 1e-3


@pytest.mark.parametrize("name", SHIPPED)
def test_blocks_and_streams_equal_the_whole_where_the_level_changes(name):
    denoiser, noisy = exact(name), changing(20)
    denoiser.block_seconds = 1e9
    whole = denoiser.enhance(noisy, RATE)
    assert float(whole.abs().max()) > 0.1
    stream = denoiser.stream(RATE, denoiser.level(noisy, RATE), block_seconds=2)
    assert torch.allclose(streamed(stream, noisy, 3_777), whole, rtol=0, atol=1e-4)
    denoiser.block_seconds = 3
    assert torch.allclose(denoiser.enhance(noisy, RATE), whole, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def live() -> Denoiser:
    return Denoiser.from_checkpoint("live", "cpu")


@pytest.fixture(scope="module")
def causal() -> Denoiser:
    torch.manual_seed(0)
    model = {"name": "crn", "stem": 2, "widths": [4, 8, 8], "hidden": 16, "head": {"name": "complex"}}
    denoiser = Denoiser.build(model, {"peak": 3.0, "level_seconds": 2.0}).eval()
    for parameter in denoiser.net.parameters():
        parameter.data.mul_(1.3)  # far from an output of zero
    return denoiser


def loud_or_soft(loud_first: bool) -> Tensor:
    """Return ``[1, N]``: a voice on a boat, 40 dB softer or louder after 10 s."""
    noisy = in_noise(recording("voice_kathleen")[0]).repeat(9)[: 14 * RATE]
    is_first = torch.arange(len(noisy)) < 10 * RATE
    return (noisy * torch.where(is_first == loud_first, 1.0, 0.01))[None]


@pytest.mark.parametrize("loud_first", [True, False])
@pytest.mark.parametrize("seconds", [0.2, 1e9])
def test_a_causal_network_gives_the_same_in_blocks_of_any_size_when_the_level_changes(causal, seconds, loud_first):
    noisy = loud_or_soft(loud_first)
    causal.block_seconds = 2.0
    whole = causal.enhance(noisy, RATE)
    stream = causal.stream(RATE, causal.level(noisy, RATE), block_seconds=seconds)
    difference = (streamed(stream, noisy, 1_777) - whole).abs()
    for half in (slice(0, 10 * RATE), slice(10 * RATE, None)):
        assert float(difference[:, half].max()) < 1e-3 * float(whole[:, half].abs().max())


@pytest.mark.parametrize("loud_first", [True, False])
def test_live_denoises_speech_half_a_second_after_a_step_of_40_db_as_ever(live, loud_first):
    voice = at(-20, recording("voice_kathleen")[0])
    clean, noisy = (sound.repeat(9)[: 14 * RATE] for sound in (voice, in_noise(voice)))
    noisy = noisy * torch.where((torch.arange(len(clean)) < 10 * RATE) == loud_first, 1.0, 0.01)
    (whole,), (alone,) = enhanced(live, noisy), enhanced(live, noisy[10 * RATE :])
    later = 10 * RATE + RATE // 2
    own = metrics.si_sdr(clean[later:], alone[RATE // 2 :], RATE)
    assert metrics.si_sdr(clean[later:], whole[later:], RATE) - own > -1


def test_live_is_not_deafened_by_a_bang(live):
    clean = at(-40, recording("voice_kathleen")[0])
    (change,) = changes(live, [clean], burst(1, 1), NOTHING, since=RATE // 2)
    assert change > -1.5


def test_a_causal_level_recovers_from_a_bang_in_a_third_of_a_second_and_follows_louder_sound_at_once():
    spectral = Spectral(level_seconds=2.0)
    spectral.causal = True
    seconds = {"soft": 4.0, "bang": 0.5, "soft again": 2.0, "loud": 2.0}
    gains = {"soft": 0.01, "bang": 1.0, "soft again": 0.01, "loud": 0.3}
    torch.manual_seed(0)
    sound = torch.cat([gains[name] * torch.randn(1, round(seconds[name] * RATE)) for name in seconds], dim=-1)
    levels = spectral.levels(spectral.stft(sound), torch.ones(1, 1))[0]

    def decibels(since: float) -> float:
        return 20 * math.log10(float(levels[round(since * spectral.frame_rate)]))

    assert decibels(3.9) == pytest.approx(-40, abs=1)
    assert decibels(4.4) == pytest.approx(0, abs=1)
    for late in (4.5 + 0.36, 4.5 + 1.9):
        assert decibels(late) == pytest.approx(-40, abs=1)
    assert decibels(6.5 + 0.1) == pytest.approx(20 * math.log10(0.3), abs=1)


def test_a_causal_network_has_one_level():
    with pytest.raises(ConfigError, match="two_levels=true: only for networks that look ahead"):
        Denoiser.build({"name": "crn"}, {"level_seconds": 2.0, "two_levels": True})


def test_soft_sound_of_a_causal_network_is_as_ever_once_loud_sound_is_2_seconds_past(causal):
    noisy = loud_or_soft(loud_first=True)
    expected = streamed(causal.stream(RATE, causal.level(noisy, RATE)), noisy[:, 10 * RATE :], 4 * RATE)
    after = causal.enhance(noisy, RATE)[:, 10 * RATE :]
    late = slice(3 * RATE, None)
    assert float((after - expected)[:, late].norm() / expected[:, late].norm()) < 0.3
