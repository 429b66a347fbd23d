"""Generators of noise, one for each kind, of any length at any rate. Training and test have none in common."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from denoiser.data.synthesis.voices import CROWDS, ESPEAK_RATE, SENTENCES, Array, Voice, resample, speak

Response = Callable[[Array], Array]  # of frequencies in Hz
Noise = Callable[[Generator, int, int], Array]  # (rng, samples, rate) at any level


def _fft_size(n: int) -> int:
    return -(-n // 4096) * 4096  # a length with a large prime factor takes five times as long


def shape(x: Array, rate: int, response: Response) -> Array:
    """Filter a sound by a gain over frequency."""
    size = _fft_size(len(x) + rate // 10)  # 100 ms for the response to end in, instead of wrapping around
    gain = response(np.fft.rfftfreq(size, 1 / rate))
    return np.fft.irfft(np.fft.rfft(x, size) * gain, size)[: len(x)]


def _convolve(x: Array, kernel: Array) -> Array:
    size = _fft_size(len(x) + len(kernel))
    return np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(kernel, size), size)[: len(x)]


def unit(x: Array) -> Array:
    """Scale to a mean power of 1."""
    return x / np.sqrt(np.mean(x**2) + 1e-20)


def _coloured(rng: Generator, n: int, rate: int, gain: Response) -> Array:
    """Return Gaussian noise of unit power with that gain, above 20 Hz."""
    size = _fft_size(n)
    f = np.fft.rfftfreq(size, 1 / rate)
    spectrum = np.fft.rfft(rng.standard_normal(size)) * gain(np.maximum(f, 20)) * (f >= 20)
    return unit(np.fft.irfft(spectrum, size)[:n])


_white: Noise = partial(_coloured, gain=np.ones_like)
pink: Noise = partial(_coloured, gain=lambda f: f**-0.5)


def _band(f: Array, low: float | Array, high: float | Array) -> Array:
    return ((1 + (low / f) ** 8) * (1 + (f / high) ** 8)) ** -0.5  # 24 dB an octave


def wander(rng: Generator, n: int, rate: int, hz: float) -> Array:
    """Return a smooth random curve, about normal, that turns some ``hz`` times a second."""
    knots = rng.standard_normal(int(2 * hz * n / rate) + 2)
    place, x = np.divmod(np.arange(n) * (2 * hz / rate), 1)
    x = x * x * (3 - 2 * x)
    return knots[place.astype(int)] * (1 - x) + knots[place.astype(int) + 1] * x


def _tone(rng: Generator, cycles: Array, harmonics: Array) -> Array:
    """Return a tone of unit power whose phase is ``cycles``, with harmonics of these amplitudes."""
    spectrum = np.zeros(2049, complex)
    spectrum[1 : len(harmonics) + 1] = harmonics * np.exp(2j * np.pi * rng.random(len(harmonics)))
    table = np.fft.irfft(spectrum)
    return unit(np.interp(cycles % 1, np.linspace(0, 1, 4097), np.append(table, table[0])))


def _impulses(rng: Generator, n: int, count: float) -> Array:
    """Return ``n`` samples with about ``count`` impulses of either sign, at least one."""
    count = int(count) + 1
    train = np.zeros(n)
    np.add.at(train, rng.integers(n, size=count), rng.lognormal(0, 0.5, count) * rng.choice([-1, 1], count))
    return train


def _ring(x: Array, rate: int, pitches: ArrayLike, decays: ArrayLike) -> Array:
    """Filter ``x`` by resonances at ``pitches`` (Hz) that fall by e in ``decays`` (s), to unit power."""
    pitch = np.minimum(pitches, 0.45 * rate)[:, None]
    decay = np.asarray(decays)[:, None]
    t = np.arange(int(6 * decay.max() * rate)) / rate
    kernel = (np.sin(2 * np.pi * pitch * t) * np.exp(-t / decay)).sum(0)
    return unit(_convolve(x, kernel))


def _talk(rng: Generator, n: int, rate: int, split: str) -> Array:
    """Return 4 to 8 voices of the split's crowd that talk at once, within 3 dB of each other."""
    length = n * ESPEAK_RATE // rate + 2
    crowd = np.zeros(length)
    for name in rng.choice(CROWDS[split], rng.integers(4, 9), replace=False):
        voice = Voice(name, *(int(v) for v in rng.integers([40, 40, 145], [60, 60, 180])))
        speech: Array = np.zeros(0)
        while len(speech) < length + ESPEAK_RATE:  # a second more, to begin anywhere in it
            speech = np.append(speech, speak(rng, rng.choice(SENTENCES[split]), voice))
        start = rng.integers(len(speech) - length)
        crowd += rng.uniform(0.7, 1.4) * unit(speech[start : start + length])
    return resample(crowd, rate)[:n]


def _bandlimited(rng: Generator, n: int, rate: int) -> Array:
    centre, half = 250 * 2 ** rng.uniform(0, 4.5), 2 ** rng.uniform(0.25, 1)
    return _coloured(rng, n, rate, lambda f: _band(f, centre / half, centre * half))


def _hum(rng: Generator, n: int, rate: int) -> Array:
    mains = rng.choice([50, 60]) + 0.1 * wander(rng, n, rate, 0.2)
    harmonics = np.arange(1, 41) ** -rng.uniform(0.6, 1.4) * rng.lognormal(0, 0.7, 40)
    return _tone(rng, np.cumsum(mains) / rate, harmonics) + 0.05 * pink(rng, n, rate)


def _engine(rng: Generator, n: int, rate: int) -> Array:
    turns = np.cumsum(rng.uniform(20, 45) * np.exp(0.12 * wander(rng, n, rate, 0.5))) / rate
    order = np.arange(1, 61)
    harmonics = rng.lognormal(0, 0.5, 60) * order**-0.8 * np.where(order % 2, 0.3, 1)
    combustion = _coloured(rng, n, rate, lambda f: _band(f, 150, 4000) * f**-0.3)
    return _tone(rng, turns, harmonics) + 0.7 * combustion * (1 + np.cos(4 * np.pi * turns)) ** 2


def _rain(rng: Generator, n: int, rate: int) -> Array:
    rain = _coloured(rng, n, rate, lambda f: _band(f, 700, 14_000) * f**-0.2)
    for pitch in rng.uniform(1500, 10_000, 10):
        drops = _impulses(rng, n, n / rate * rng.uniform(100, 500))
        rain += 0.5 * _ring(drops, rate, [pitch], [rng.uniform(0.0002, 0.0008)])
    return rain


def _clicks(rng: Generator, n: int, rate: int) -> Array:
    """Return keys and switches: 4 to 8 bursts a second of a few knocks, through 6 resonances."""
    knocks = np.zeros(n)
    longest = rate // 20
    for start in rng.integers(n - longest, size=int(n / rate * rng.uniform(4, 8)) + 1):
        length = int(rng.uniform(0.2, 1) * longest)
        knocks[start : start + length] += rng.lognormal() * _impulses(rng, length, 3)
    modes = _ring(knocks, rate, rng.uniform(400, 6000, 6), rng.uniform(0.004, 0.03, 6))
    return modes + 0.15 * pink(rng, n, rate)


def _gusts(rng: Generator, n: int, rate: int) -> Array:
    gust = np.exp(0.9 * wander(rng, n, rate, 0.8))
    pitch = rng.uniform(500, 1500)
    rumble = _coloured(rng, n, rate, lambda f: _band(f, 40, 800) * f**-0.6)
    whistle = _coloured(rng, n, rate, lambda f: _band(f, pitch, 1.3 * pitch))
    return gust * rumble + 0.2 * gust**1.5 * whistle


def _traffic(rng: Generator, n: int, rate: int) -> Array:
    road = 0.5 * _coloured(rng, n, rate, lambda f: 1 / f)
    t = np.arange(n) / rate
    for _ in range(1 + int(n / rate / 2)):
        near = 1 / (1 + ((t - rng.uniform(0, n / rate)) / rng.uniform(0.3, 0.9)) ** 2)
        motor = _coloured(rng, n, rate, lambda f: _band(f, 60, 500) * f**-0.5)
        tyres = _coloured(rng, n, rate, lambda f: _band(f, 500, 3000) * f**-0.5)
        road += rng.uniform(0.5, 1) * (near * motor + near**2 * tyres)
    return road


def _fan(rng: Generator, n: int, rate: int) -> Array:
    blades = rng.integers(3, 8)
    turns = np.arange(n) * (rng.uniform(70, 180) / blades / rate)
    tone = _tone(rng, turns * blades, np.exp(-0.5 * np.arange(8))) * (1 + 0.25 * np.sin(2 * np.pi * turns))
    ducts = rng.uniform(200, 2500, (3, 1))
    air = _coloured(rng, n, rate, lambda f: (1 + _band(f, ducts, 1.2 * ducts).sum(0)) / (1 + f / 400))
    return rng.uniform(0.4, 1) * tone + air


def _cafe(rng: Generator, n: int, rate: int) -> Array:
    """Return the murmur of people across a hard room (0.55 s to -60 dB), and crockery that rings."""
    t = np.arange(rate // 2) / rate
    hall = rng.standard_normal(len(t)) * np.exp(-t / 0.08)
    murmur = _convolve(_talk(rng, n + len(t), rate, "test"), hall)[len(t) :]
    murmur = unit(shape(murmur, rate, lambda f: 1 / (1 + f / 1500)))
    cups = _impulses(rng, n, 3 * n / rate)
    return murmur + 0.4 * _ring(cups, rate, rng.uniform(2000, 9000, 8), rng.uniform(0.01, 0.08, 8))


def _surf(rng: Generator, n: int, rate: int) -> Array:
    x = (np.arange(n) / rate / rng.uniform(3, 5) + rng.random()) % 1
    swell = np.where(x < 0.3, np.sin(np.pi * x / 0.6) ** 2, np.exp(4 * (0.3 - x)) * (1 - x) / 0.7)
    roar = _coloured(rng, n, rate, lambda f: _band(f, 40, 400) * f**-0.5)
    foam = _coloured(rng, n, rate, lambda f: _band(f, 600, 9000) * f**-0.25)
    return (0.3 + swell) * roar + (0.1 + swell**2) * foam


def _birds(rng: Generator, n: int, rate: int) -> Array:
    leaves = _coloured(rng, n, rate, lambda f: _band(f, 1000, 10_000) * f**-0.5)
    park = 0.6 * leaves * np.exp(0.5 * wander(rng, n, rate, 5))
    for _ in range(1 + int(n / rate * rng.uniform(3, 7))):
        length = int(rng.uniform(0.05, 0.2) * rate)
        start = rng.integers(n - length)
        t = np.linspace(0, 1, length)
        warble = 300 * np.sin(2 * np.pi * rng.integers(1, 6) * t)
        pitch = np.minimum(rng.uniform(2000, 6000) + rng.uniform(-1500, 1500) * t + warble, 0.45 * rate)
        chirp = np.sin(2 * np.pi * np.cumsum(pitch) / rate) * np.sin(np.pi * t) ** 2
        park[start : start + length] += rng.uniform(0.5, 2) * chirp
    return park


NOISES: dict[str, dict[str, Noise]] = {
    "train": {
        "white": _white,
        "pink": pink,
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
