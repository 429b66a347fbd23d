"""The embedded corpus: synthetic speech in synthetic noise, written in the layout of VCTK-DEMAND."""

from __future__ import annotations

import _ctypes
import collections
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from denoiser import audio
from denoiser.data import sentences
from denoiser.errors import ConfigError, CorpusError, DenoiserError

if sys.platform == "win32":
    unload = _ctypes.FreeLibrary
else:
    unload = _ctypes.dlclose

Array = NDArray[Any]
Response = Callable[[Array], Array]  # of frequencies in Hz
Noise = Callable[[Generator, int, int], Array]  # (rng, samples, rate) at any level

CORPUS, MARKER = "denoiser synthetic", "synthetic.json"  # the settings of a corpus, the last file written
FORMAT = 1  # to be raised when the same settings would give other samples
SECONDS = 3.3  # of a mean utterance
LEVEL = (-30.0, -22.0)  # dBFS of active speech
FLOOR = -75.0  # dBFS of the room: no recording has the digital silence of espeak
PEAK = 0.99
ESPEAK_RATE = 22_050  # Hz


class Voice(NamedTuple):
    """espeak-ng's ``language+variant``, pitch and its spread (0 to 99), words a minute."""

    espeak: str
    gender: str
    pitch: int
    spread: int
    rate: int


SETS = {"train": "trainset_28spk", "test": "testset"}
SENTENCES = {"train": sentences.TRAIN, "test": sentences.TEST}
SNRS = {"train": (0.0, 5.0, 10.0, 15.0), "test": (2.5, 7.5, 12.5, 17.5)}  # dB, as in VCTK-DEMAND
SPEAKERS = {
    "train": {  # first the two held out for validation, which then even the smallest corpus has
        "p226": Voice("en-gb-x-rp+m1", "m", 52, 55, 156),
        "p287": Voice("en-us+f1", "f", 48, 55, 162),
        "p227": Voice("en-us+m2", "m", 44, 60, 166),
        "p228": Voice("en-gb-scotland+f2", "f", 46, 50, 158),
        "p243": Voice("en-gb-x-gbclan+m4", "m", 58, 50, 152),
        "p230": Voice("en-us-nyc+f4", "f", 55, 45, 168),
        "p254": Voice("en-029+m6", "m", 50, 65, 160),
        "p231": Voice("en-gb-x-rp+linda", "f", 38, 55, 154),
        "p256": Voice("en-us+m7", "m", 62, 45, 172),
        "p233": Voice("en-gb-x-gbclan+Annie", "f", 44, 35, 164),
        "p258": Voice("en-gb-scotland+max", "m", 40, 55, 150),
        "p236": Voice("en-029+aunty", "f", 56, 60, 170),
    },
    "test": {
        "p232": Voice("en+m3", "m", 48, 55, 158),
        "p257": Voice("en-gb-x-gbcwmd+f3", "f", 47, 50, 164),
    },
}
CROWDS = {  # who babbles in the background: no one's target, and others in training than in the test
    "train": ["en-us+john", "en-029+grandma", "en-gb-x-rp+paul", "de+Gene", "fr+m5", "es+shelby", "nl+Andrea", "pl+f5"],
    "test": ["en+victor", "en+belinda", "sv+Mike", "it+robert", "pt+Nguyen", "fi+steph", "ro+anika", "cy+Alicia"],
}


# Speech


@contextmanager
def _espeak() -> Iterator[tuple[ctypes.CDLL, list[bytes]]]:
    """espeak-ng and the list its samples come in; loaded here and unloaded again, about 1 ms.

    Its state (phase of the pitch flutter, count of cycles) outlives ``espeak_Terminate``: kept loaded, an
    utterance would depend on what this process spoke before.
    """
    try:
        import espeakng_loader

        library, data = ctypes.CDLL(espeakng_loader.get_library_path()), espeakng_loader.get_data_path()
    except ImportError as error:
        raise DenoiserError('espeak-ng, which speaks this corpus, is missing: pip install "denoiser[demo]"') from error
    except (OSError, RuntimeError) as error:
        raise DenoiserError(f"espeak-ng cannot be loaded: {error}") from error
    samples: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def collect(block: int | None, count: int, _: int | None) -> int:
        if block:
            samples.append(ctypes.string_at(block, 2 * count))
        return 0

    try:
        synchronous, do_not_exit = 2, 0x8000
        if library.espeak_Initialize(synchronous, 0, os.fsencode(data), do_not_exit) != ESPEAK_RATE:
            raise DenoiserError(f"espeak-ng cannot read {data} (it takes paths of up to 160 characters)")
        library.espeak_SetSynthCallback(collect)
        yield library, samples
    finally:
        library.espeak_Terminate()  # ends its thread, which must not outlive its code
        unload(library._handle)


def _speak(rng: Generator, text: str, voice: Voice) -> Array:
    """``text`` at 22.05 kHz, a little off the voice's pitch and rate, without the silence around it."""
    parameters = {  # by their numbers in espeak_PARAMETER
        1: voice.rate + int(rng.integers(-8, 9)),
        2: 50,  # volume: at its default of 100 the louder variants clip
        3: voice.pitch + int(rng.integers(-4, 5)),
        4: voice.spread + int(rng.integers(-5, 6)),
    }
    with _espeak() as (library, blocks):
        if library.espeak_SetVoiceByName(voice.espeak.encode()) != 0:
            raise DenoiserError(f"this espeak-ng has no voice {voice.espeak}")
        for parameter, value in parameters.items():
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(int(rng.integers(1 << 31))))
        utf8 = text.encode() + b"\0"
        library.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, 0, 0, 1, None, None)
    speech = np.frombuffer(b"".join(blocks), np.int16) / 32768
    loud = np.flatnonzero(np.abs(speech) > 0.003 * np.abs(speech).max())  # -50 dB
    speech = speech[max(loud[0] - 200, 0) : loud[-1] + 200]
    fade = np.sin(np.linspace(0, np.pi / 2, 100)) ** 2  # 5 ms
    speech[:100] *= fade
    speech[-100:] *= fade[::-1]
    return speech


def _resample(speech: Array, rate: int) -> Array:
    return audio.resample(torch.from_numpy(speech), ESPEAK_RATE, rate).numpy()


def _timbre(speaker: str) -> Response:
    """A gain that is the speaker's own: a tilt within ±1.5 dB an octave, two bumps within ±4 dB."""
    rng = np.random.default_rng(int(speaker[1:]))
    tilt, heights = rng.uniform(-1.5, 1.5), rng.uniform(-4, 4, 2)
    centres = np.log2(rng.uniform([300, 2000], [1500, 6000]))

    def gain(f: Array) -> Array:
        octave = np.log2(np.clip(f, 100, 10_000))
        bumps = heights @ np.exp(-0.5 * ((octave - centres[:, None]) / 0.5) ** 2)
        return 10 ** ((tilt * (octave - np.log2(1000)) + bumps) / 20)

    return gain


def _in_room(rng: Generator, speech: Array, rate: int) -> Array:
    """With the first reflections of a small room: 6 within 28 ms that fall from -11 to -24 dB."""
    heard = speech.copy()
    for delay in rng.uniform(0.0015, 0.028, 6):
        shift = int(delay * rate)
        heard[shift:] += rng.choice([-1, 1]) * 10 ** (-(10 + 500 * delay) / 20) * speech[:-shift]
    return heard


def _clean(rng: Generator, text: str, speaker: str, voice: Voice, rate: int) -> Array:
    """An utterance as if recorded, between 0.1 to 0.4 s of the room's own noise."""
    silence = (rng.uniform(0.1, 0.4, 2) * rate).astype(int)
    speech = np.pad(_resample(_speak(rng, text, voice), rate), silence)
    timbre = _timbre(speaker)
    speech = _in_room(rng, _filter(speech, rate, lambda f: timbre(f) * f**4 / (f**4 + 40**4)), rate)
    speech *= 10 ** (rng.uniform(*LEVEL) / 20) / np.sqrt(active_power(speech, rate))
    return speech + 10 ** (FLOOR / 20) * _pink(rng, len(speech), rate)


def active_power(speech: Array, rate: int) -> float:
    """Mean power of the 20 ms frames within 40 dB of the loudest: of speech, not of its pauses."""
    size = rate // 50
    power = (speech[: len(speech) // size * size].reshape(-1, size) ** 2).mean(1)
    return float(power[power >= 1e-4 * power.max()].mean())


# Noise


def _fft_size(n: int) -> int:
    return -(-n // 4096) * 4096  # a length with a large prime factor takes five times as long


def _filter(x: Array, rate: int, response: Response) -> Array:
    size = _fft_size(len(x) + rate // 10)  # 100 ms for the response to end in, instead of wrapping around
    return np.fft.irfft(np.fft.rfft(x, size) * response(np.fft.rfftfreq(size, 1 / rate)), size)[: len(x)]


def _convolve(x: Array, kernel: Array) -> Array:
    size = _fft_size(len(x) + len(kernel))
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(kernel, size), size)[: len(x)]


def _unit(x: Array) -> Array:
    return x / np.sqrt(np.mean(x**2) + 1e-20)


def _coloured(rng: Generator, n: int, rate: int, gain: Response) -> Array:
    """Gaussian noise of unit power with that gain, above 20 Hz."""
    size = _fft_size(n)
    f = np.fft.rfftfreq(size, 1 / rate)
    spectrum = np.fft.rfft(rng.standard_normal(size)) * gain(np.maximum(f, 20)) * (f >= 20)
    return _unit(np.fft.irfft(spectrum, size)[:n])


def _band(f: Array, low: float | Array, high: float | Array) -> Array:
    return ((1 + (low / f) ** 8) * (1 + (f / high) ** 8)) ** -0.5  # 24 dB an octave


def _wander(rng: Generator, n: int, rate: int, hz: float) -> Array:
    """A smooth random curve, about normal, that turns some ``hz`` times a second."""
    knots = rng.standard_normal(int(2 * hz * n / rate) + 2)
    place, x = np.divmod(np.arange(n) * (2 * hz / rate), 1)
    x = x * x * (3 - 2 * x)
    return knots[place.astype(int)] * (1 - x) + knots[place.astype(int) + 1] * x


def _tone(rng: Generator, cycles: Array, harmonics: Array) -> Array:
    """A tone of unit power whose phase is ``cycles``, with harmonics of these amplitudes."""
    spectrum = np.zeros(2049, complex)
    spectrum[1 : len(harmonics) + 1] = harmonics * np.exp(2j * np.pi * rng.random(len(harmonics)))
    table = np.fft.irfft(spectrum)
    return _unit(np.interp(cycles % 1, np.linspace(0, 1, 4097), np.append(table, table[0])))


def _impulses(rng: Generator, n: int, count: float) -> Array:
    """``count`` impulses, or one, of either sign anywhere in ``n`` samples."""
    count, train = int(count) + 1, np.zeros(n)
    np.add.at(train, rng.integers(n, size=count), rng.lognormal(0, 0.5, count) * rng.choice([-1, 1], count))
    return train


def _ring(x: Array, rate: int, pitches: ArrayLike, decays: ArrayLike) -> Array:
    """``x`` through modes at ``pitches`` (Hz) that fall by e in ``decays`` (s), at unit power."""
    pitch, decay = np.minimum(pitches, 0.45 * rate)[:, None], np.asarray(decays)[:, None]
    t = np.arange(int(6 * decay.max() * rate)) / rate
    return _unit(_convolve(x, (np.sin(2 * np.pi * pitch * t) * np.exp(-t / decay)).sum(0)))


def _talk(rng: Generator, n: int, rate: int, split: str) -> Array:
    """4 to 8 of the split's crowd who talk at once throughout, within 3 dB of each other."""
    length = n * ESPEAK_RATE // rate + 2
    crowd = np.zeros(length)
    for name in rng.choice(CROWDS[split], rng.integers(4, 9), replace=False):
        voice = Voice(name, "", *(int(v) for v in rng.integers([40, 40, 145], [60, 60, 180])))
        speech: Array = np.zeros(0)
        while len(speech) < length + ESPEAK_RATE:  # a second more, to begin anywhere in it
            speech = np.append(speech, _speak(rng, rng.choice(SENTENCES[split]), voice))
        start = rng.integers(len(speech) - length)
        crowd += rng.uniform(0.7, 1.4) * _unit(speech[start : start + length])
    return _resample(crowd, rate)[:n]


def _white(rng: Generator, n: int, rate: int) -> Array:
    return _coloured(rng, n, rate, np.ones_like)


def _pink(rng: Generator, n: int, rate: int) -> Array:
    return _coloured(rng, n, rate, lambda f: f**-0.5)


def _bandlimited(rng: Generator, n: int, rate: int) -> Array:
    """Half an octave to two around 250 Hz to 5.6 kHz."""
    centre, half = 250 * 2 ** rng.uniform(0, 4.5), 2 ** rng.uniform(0.25, 1)
    return _coloured(rng, n, rate, lambda f: _band(f, centre / half, centre * half))


def _hum(rng: Generator, n: int, rate: int) -> Array:
    """Mains at 50 or 60 Hz within about 0.1 Hz, 40 harmonics, over a little hiss."""
    mains = rng.choice([50, 60]) + 0.1 * _wander(rng, n, rate, 0.2)
    harmonics = np.arange(1, 41) ** -rng.uniform(0.6, 1.4) * rng.lognormal(0, 0.7, 40)
    return _tone(rng, np.cumsum(mains) / rate, harmonics) + 0.05 * _pink(rng, n, rate)


def _engine(rng: Generator, n: int, rate: int) -> Array:
    """Harmonics of a wandering 20 to 45 Hz, and combustion noise twice a turn."""
    turns = np.cumsum(rng.uniform(20, 45) * np.exp(0.12 * _wander(rng, n, rate, 0.5))) / rate
    order = np.arange(1, 61)
    harmonics = rng.lognormal(0, 0.5, 60) * order**-0.8 * np.where(order % 2, 0.3, 1)
    combustion = _coloured(rng, n, rate, lambda f: _band(f, 150, 4000) * f**-0.3)
    return _tone(rng, turns, harmonics) + 0.7 * combustion * (1 + np.cos(4 * np.pi * turns)) ** 2


def _rain(rng: Generator, n: int, rate: int) -> Array:
    """Some 3000 droplets a second that ring at 1.5 to 10 kHz for a millisecond, over a hiss."""
    rain = _coloured(rng, n, rate, lambda f: _band(f, 700, 14_000) * f**-0.2)
    for pitch in rng.uniform(1500, 10_000, 10):
        drops = _impulses(rng, n, n / rate * rng.uniform(100, 500))
        rain += 0.5 * _ring(drops, rate, [pitch], [rng.uniform(0.0002, 0.0008)])
    return rain


def _clicks(rng: Generator, n: int, rate: int) -> Array:
    """Keys and switches: 4 to 8 bursts a second of a few knocks, through 6 modes."""
    knocks, longest = np.zeros(n), rate // 20
    for start in rng.integers(n - longest, size=int(n / rate * rng.uniform(4, 8)) + 1):
        length = int(rng.uniform(0.2, 1) * longest)
        knocks[start : start + length] += rng.lognormal() * _impulses(rng, length, 3)
    modes = _ring(knocks, rate, rng.uniform(400, 6000, 6), rng.uniform(0.004, 0.03, 6))
    return modes + 0.15 * _pink(rng, n, rate)


def _gusts(rng: Generator, n: int, rate: int) -> Array:
    """Wind whose level wanders over some 20 dB, with a whistle in the strong gusts."""
    gust, whistle = np.exp(0.9 * _wander(rng, n, rate, 0.8)), rng.uniform(500, 1500)
    rumble = _coloured(rng, n, rate, lambda f: _band(f, 40, 800) * f**-0.6)
    return gust * rumble + 0.2 * gust**1.5 * _coloured(rng, n, rate, lambda f: _band(f, whistle, 1.3 * whistle))


def _traffic(rng: Generator, n: int, rate: int) -> Array:
    """The brown rumble of a road, and vehicles that pass in about a second, brightest when nearest."""
    road, t = 0.5 * _coloured(rng, n, rate, lambda f: 1 / f), np.arange(n) / rate
    for _ in range(1 + int(n / rate / 2)):
        near = 1 / (1 + ((t - rng.uniform(0, n / rate)) / rng.uniform(0.3, 0.9)) ** 2)
        motor = _coloured(rng, n, rate, lambda f: _band(f, 60, 500) * f**-0.5)
        tyres = _coloured(rng, n, rate, lambda f: _band(f, 500, 3000) * f**-0.5)
        road += rng.uniform(0.5, 1) * (near * motor + near**2 * tyres)
    return road


def _fan(rng: Generator, n: int, rate: int) -> Array:
    """Blades that pass at a constant 70 to 180 Hz, not quite alike, in a stream of air."""
    blades = rng.integers(3, 8)
    turns = np.arange(n) * (rng.uniform(70, 180) / blades / rate)
    tone = _tone(rng, turns * blades, np.exp(-0.5 * np.arange(8))) * (1 + 0.25 * np.sin(2 * np.pi * turns))
    ducts = rng.uniform(200, 2500, (3, 1))
    air = _coloured(rng, n, rate, lambda f: (1 + _band(f, ducts, 1.2 * ducts).sum(0)) / (1 + f / 400))
    return rng.uniform(0.4, 1) * tone + air


def _cafe(rng: Generator, n: int, rate: int) -> Array:
    """The murmur of people across a hard room (0.55 s to -60 dB), and crockery that rings."""
    t = np.arange(rate // 2) / rate
    hall = rng.standard_normal(len(t)) * np.exp(-t / 0.08)
    murmur = _convolve(_talk(rng, n + len(t), rate, "test"), hall)[len(t) :]
    murmur = _unit(_filter(murmur, rate, lambda f: 1 / (1 + f / 1500)))
    cups = _impulses(rng, n, 3 * n / rate)
    return murmur + 0.4 * _ring(cups, rate, rng.uniform(2000, 9000, 8), rng.uniform(0.01, 0.08, 8))


def _surf(rng: Generator, n: int, rate: int) -> Array:
    """Waves every 3 to 5 s: a roar that swells, breaks into bright foam and washes out."""
    x = (np.arange(n) / rate / rng.uniform(3, 5) + rng.random()) % 1
    swell = np.where(x < 0.3, np.sin(np.pi * x / 0.6) ** 2, np.exp(4 * (0.3 - x)) * (1 - x) / 0.7)
    roar = _coloured(rng, n, rate, lambda f: _band(f, 40, 400) * f**-0.5)
    foam = _coloured(rng, n, rate, lambda f: _band(f, 600, 9000) * f**-0.25)
    return (0.3 + swell) * roar + (0.1 + swell**2) * foam


def _birds(rng: Generator, n: int, rate: int) -> Array:
    """3 to 7 chirps a second that sweep between 0.5 and 8 kHz, over leaves in the wind."""
    leaves = _coloured(rng, n, rate, lambda f: _band(f, 1000, 10_000) * f**-0.5)
    park = 0.6 * leaves * np.exp(0.5 * _wander(rng, n, rate, 5))
    for _ in range(1 + int(n / rate * rng.uniform(3, 7))):
        length = int(rng.uniform(0.05, 0.2) * rate)
        start, t = rng.integers(n - length), np.linspace(0, 1, length)
        warble = 300 * np.sin(2 * np.pi * rng.integers(1, 6) * t)
        pitch = np.minimum(rng.uniform(2000, 6000) + rng.uniform(-1500, 1500) * t + warble, 0.45 * rate)
        chirp = np.sin(2 * np.pi * np.cumsum(pitch) / rate) * np.sin(np.pi * t) ** 2
        park[start : start + length] += rng.uniform(0.5, 2) * chirp
    return park


NOISES: dict[str, dict[str, Noise]] = {
    "train": {
        "white": _white,
        "pink": _pink,
        "bandlimited": _bandlimited,
        "hum": _hum,
        "engine": _engine,
        "rain": _rain,
        "clicks": _clicks,
        "gusts": _gusts,
        "babble": partial(_talk, split="train"),
    },
    "test": {"traffic": _traffic, "fan": _fan, "cafe": _cafe, "surf": _surf, "birds": _birds},
}


# Corpus


@dataclass(frozen=True)
class Utterance:
    """What is written as ``name``, and the seed of all that is random in it."""

    name: str
    split: str
    text: str
    noise: str
    snr: float
    seed: tuple[int, ...]

    def write(self, root: Path, rate: int) -> None:
        """Write clean and noisy = clean + noise, both lowered by one factor where they would pass 0.99."""
        rng, speaker = np.random.default_rng(self.seed), self.name.split("_")[0]
        clean = _clean(rng, self.text, speaker, SPEAKERS[self.split][speaker], rate)
        noise = _unit(NOISES[self.split][self.noise](rng, len(clean), rate))
        noisy = clean + noise * np.sqrt(active_power(clean, rate) / 10 ** (self.snr / 10))
        both = np.stack([clean, noisy])
        both *= min(1, PEAK / np.abs(both).max())
        for side, samples in zip(("clean", "noisy"), torch.from_numpy(both).float(), strict=True):
            path = root / f"{side}_{SETS[self.split]}_wav" / f"{self.name}.wav"
            audio.write(path, samples[None], rate, subtype="PCM_16")


def _plan(split: str, minutes: float, seed: int) -> list[Utterance]:
    """Speakers take turns; a round has each noise once, its SNRs spread; four rounds have every pair."""
    stream = list(SETS).index(split)
    rng = np.random.default_rng([seed, stream])
    snrs, texts = SNRS[split], SENTENCES[split]
    noises, speakers = list(NOISES[split]), list(SPEAKERS[split])
    order, offsets = rng.permutation(len(noises)), rng.permutation(len(noises))
    reading = [rng.permutation(len(texts)) for _ in speakers]
    plan = []
    for i in range(max(round(60 * minutes / SECONDS), 4)):  # 4: the two held out, two to train on
        turn, who = divmod(i, len(speakers))
        round_, place = divmod(i, len(noises))
        if place == 0:
            order = rng.permutation(len(noises))
        noise = order[place]
        snr = snrs[(offsets[noise] + round_) % len(snrs)]
        name, text = f"{speakers[who]}_{turn + 1:03d}", texts[reading[who][turn % len(texts)]]
        # A seed does not end in 0: [a, b] and [a, b, 0] are one stream.
        plan.append(Utterance(name, split, text, noises[noise], snr, (seed, stream, i + 1)))
    return plan


def _enter_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


def _write_all(plan: list[Utterance], root: Path, rate: int, workers: int) -> None:
    write = partial(Utterance.write, root=root, rate=rate)
    progress = partial(tqdm, total=len(plan), desc="synthetic corpus", unit="utterance", disable=None)
    if workers > 1:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _enter_worker)
        try:
            collections.deque(progress(pool.map(write, plan, chunksize=2)), maxlen=0)
        finally:
            pool.shutdown(cancel_futures=True)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker, since a sum's last bit may follow the number of threads
    try:
        collections.deque(progress(map(write, plan)), maxlen=0)
    finally:
        torch.set_num_threads(threads)


def _settings_in(root: Path) -> dict[str, Any] | None:
    """The settings of the corpus in ``root``; None where there is nothing."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        found = json.loads((root / MARKER).read_text())
        if found["corpus"] == CORPUS:
            return dict(found)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise CorpusError(f"{root}: exists and is not a synthetic corpus ({MARKER} missing or not ours); choose another")


def write_corpus(
    root: Path,
    *,
    minutes: float = 10.0,
    test_minutes: float = 1.0,
    seed: int = 0,
    sample_rate: int = 48_000,
    workers: int | None = None,
) -> None:
    """Write the corpus of these settings to ``root``, or return at once where it is.

    A corpus of other settings is replaced. ``root`` becomes the whole corpus or stays as it was. The same
    settings give the same bits, whatever ``workers`` is.

    Args:
        root: the folder; absent, empty, or a corpus that this function wrote.
        minutes: of training audio, about; 4 utterances at least.
        test_minutes: of test audio, about; 4 utterances at least.
        seed: 0 or more.
        sample_rate: of the files, 8000 to 192000 Hz. Speech ends at 11 kHz.
        workers: processes; 1 works in this one. Default: one a processor, 8 at most.

    Raises:
        ConfigError: a setting is out of range.
        CorpusError: ``root`` holds anything else, which stays, or cannot be written.
        DenoiserError: espeak-ng is missing or does not work.
    """
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    for name, value, low, high in (
        ("minutes", minutes, 0, 6000),
        ("test_minutes", test_minutes, 0, 6000),
        ("seed", seed, 0, 2**63),
        ("sample_rate", sample_rate, 8000, 192_000),
        ("workers", workers, 1, 61),  # 61: Windows' limit
    ):
        if not low <= value <= high:
            raise ConfigError(f"{name}={value}, expected {low} to {high}")
    settings = {"corpus": CORPUS, "format": FORMAT, "seed": seed, "sample_rate": sample_rate}
    settings |= {"minutes": minutes, "test_minutes": test_minutes}
    root = Path(root).resolve()
    if _settings_in(root) == settings:
        return
    with _espeak():
        pass  # or say that it is missing before processes are started
    plans = {"train": _plan("train", minutes, seed), "test": _plan("test", test_minutes, seed)}
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as folder:
            new, old = Path(folder, "new"), Path(folder, "old")
            _write_all([*plans["train"], *plans["test"]], new, sample_rate, workers)
            for split, plan in plans.items():
                log = "".join(sorted(f"{u.name} {u.noise} {u.snr:g}\n" for u in plan))
                (new / f"log_{SETS[split]}.txt").write_text(log)
            (new / MARKER).write_text(json.dumps(settings, indent=1) + "\n")
            if _settings_in(root) == settings:
                return  # another process was faster
            if root.exists():
                root.rename(old)
            new.rename(root)
    except OSError as error:
        raise CorpusError(f"{root}: cannot be written ({error})") from error
