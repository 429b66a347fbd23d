"""Transforms of an augmentation: of speed, noises, filters and levels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from denoiser.audio.resampling import match_length, resample
from denoiser.data.activity import amplitude
from denoiser.data.augment import Pair, Range, Transform, check_bounds, column, log_uniform, nonzero, to_device, uniform
from denoiser.spectral import Spectral

FADE_SECONDS = 0.01  # of a splice


@dataclass(kw_only=True)
class NoiseSpeed(Transform):
    """Noise alone faster or slower, as of a tape, and in half of the rows backwards.

    The factor is drawn in steps of 1/100 between ``low`` and ``high``, small ones as often as large ones. A faster
    noise is repeated to the length of the crop; the joint can click. The late part of a room counts as noise, too.
    """

    place = 0
    limits: ClassVar = {"low, high": (0.5, 2)}

    low: float = 0.7
    high: float = 1.4

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        rows, length = noise.shape
        percent = self._percent(rng, rows)
        changed = torch.empty_like(noise)
        for chosen, resampled in at_speeds(noise, percent):
            copies = -(-length // resampled.shape[-1])
            changed.index_copy_(0, chosen, resampled.repeat(1, copies)[:, :length])
        backwards = column(rng.integers(2, size=rows), noise) > 0
        return torch.where(backwards, changed.flip(-1), changed), clean

    def change_bandwidth(self, bandwidth: Tensor, rng: np.random.Generator) -> Tensor:
        factor = column(self._percent(rng, len(bandwidth)) / 100, bandwidth)
        return torch.cat([bandwidth[:, :1], factor * bandwidth[:, 1:]], dim=1)

    def _percent(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        low, high = np.log((self.low, self.high))
        return np.rint(100 * np.exp(rng.uniform(low, high, rows))).astype(int)


@dataclass(kw_only=True)
class Speed(Transform):
    """Speech and noise faster or slower by one factor, as of a tape (Ko et al. 2015, Audio augmentation).

    The factor is drawn in steps of 1/100 between ``low`` and ``high``, so that the resampler's filter is short. The
    crop keeps its length: a faster one ends in silence; a slower one has nothing above ``factor`` times the band.
    """

    place = 1
    keeps_level = True  # what enters or leaves the crop says nothing about the utterance
    limits: ClassVar = {"low, high": (0.5, 2)}

    low: float = 0.9
    high: float = 1.1

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        percent = self._percent(rng, len(noise))
        both = torch.stack([noise, clean])
        changed = torch.empty_like(both)
        for rows, resampled in at_speeds(both, percent):
            changed.index_copy_(1, rows, match_length(resampled, noise.shape[-1]))
        return changed[0], changed[1]

    def change_bandwidth(self, bandwidth: Tensor, rng: np.random.Generator) -> Tensor:
        return bandwidth * column(self._percent(rng, len(bandwidth)) / 100, bandwidth)

    def _percent(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        return rng.integers(round(100 * self.low), round(100 * self.high), size=rows, endpoint=True)


@dataclass(kw_only=True)
class Remix(Transform):
    """Noises exchanged within the batch (Défossez et al. 2020, Real time speech enhancement in the waveform domain).

    A noise is multiplied by the ratio of the two levels, so the distribution of SNRs stays that of the corpus.
    """

    place = 2
    takes_others = True

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        other = other_rows(rng, noise)
        return noise[other] * (level / nonzero(level[other])), clean

    def change_bandwidth(self, bandwidth: Tensor, rng: np.random.Generator) -> Tensor:
        other = other_rows(rng, bandwidth)
        return torch.stack([bandwidth[:, 0], bandwidth[other, 1]], dim=1)


@dataclass(kw_only=True)
class Shift(Transform):
    """Circular shift of the noise, with its sign inverted in half of the rows; the joint can click."""

    place = 3
    keeps_level = True

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        length = noise.shape[-1]
        start = to_device(rng.integers(length, size=(len(noise), 1)), noise.device)
        sign = column(rng.choice([-1.0, 1.0], size=len(noise)), noise)
        index = (torch.arange(length, device=noise.device) + start) % length
        return noise.gather(1, index) * sign, clean


@dataclass(kw_only=True)
class SNR(Transform):
    """Noise louder or softer: the SNR of the recording plus ``low`` to ``high`` dB (Braun and Tashev 2020)."""

    place = 4
    limits: ClassVar = {"low, high": (-60, 60)}

    low: float = -5.0
    high: float = 5.0

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        return noise * amplitude(-uniform(rng, (self.low, self.high), noise)), clean


@dataclass(kw_only=True)
class BandStop(Transform):
    """One band removed from speech and noise: up to the share ``width`` of the mel scale (Défossez et al. 2020)."""

    place = 5
    limits: ClassVar = {"width": (0, 1)}

    sample_rate: int
    width: float = 0.2

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        width = rng.uniform(0, self.width, len(noise))
        first = rng.random(len(noise)) * (1 - width)
        top = np.log10(1 + self.sample_rate / 2 / 700)
        edges = (700 * (10 ** (share * top) - 1) for share in (first, first + width))
        low, high = (lowpass(column(edge, noise), self.sample_rate) for edge in edges)
        kernel = low - high
        kernel[:, kernel.shape[1] // 2] += 1
        return convolve(noise, clean, kernel)


@dataclass(kw_only=True)
class BandLimit(Transform):
    """Speech and noise through a narrow channel, with a lower and an upper cut-off, each drawn log-uniformly.

    ``low`` and ``high`` are their ranges in Hz. A telephone passes 300 to 3400 Hz (ITU-T G.712), a headset 50 to 7000.
    """

    place = 6

    sample_rate: int
    low: Range = (50.0, 400.0)
    high: Range = (3000.0, 7500.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("low", self.low, (1, self.sample_rate / 2))
        check_bounds("high", self.high, (self.low[1], 1e6))

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        low, high = (lowpass(log_uniform(rng, limits, noise), self.sample_rate) for limits in (self.low, self.high))
        return convolve(noise, clean, high - low)


@dataclass(kw_only=True)
class Clip(Transform):
    """Noisy clipped as by a converter, ``low`` to ``high`` dB above the level of the utterance.

    Peaks of the noisy lie 13 to 22 dB above it (VCTK-DEMAND). The distortion belongs to the noise.
    """

    place = 7
    limits: ClassVar = {"low, high": (0, 60)}

    low: float = 9.0
    high: float = 15.0

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        limit = level * amplitude(uniform(rng, (self.low, self.high), noise))
        return (clean + noise).clamp(-limit, limit) - clean, clean


@dataclass(kw_only=True)
class Gain(Transform):
    """Speech and noise louder or softer by up to ``decibels``, drawn uniformly, while the level stays.

    So the network learns speech at other levels than the file's, which is divided out (Braun and Tashev 2020).
    """

    place = 8
    keeps_level = True
    limits: ClassVar = {"decibels": (0, 60)}

    decibels: float = 15.0

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        gain = amplitude(uniform(rng, (-self.decibels, self.decibels), noise))
        return noise * gain, clean * gain


@dataclass(kw_only=True)
class Splice(Transform):
    """Another recording of the batch from a random moment on, as in an interview: another voice, noise and level.

    It is up to ``decibels`` louder or softer. A third of these crops have noise before, after, or in both parts.
    """

    place = 9
    takes_others = True
    limits: ClassVar = {"decibels": (0, 60)}

    sample_rate: int
    decibels: float = 25.0

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        after = (since_moment(rng, noise, self.sample_rate) / FADE_SECONDS).clamp(0, 1)
        gain = amplitude(uniform(rng, (-self.decibels, self.decibels), noise))
        after_gain = after * gain * level / nonzero(level.roll(1, 0))
        before_gain = 1 - after
        silent = rng.integers(3, size=len(noise))
        noise_before, noise_after = (column(silent != part, noise) for part in (0, 1))
        spliced = clean * before_gain + clean.roll(1, 0) * after_gain
        return noise * before_gain * noise_before + noise.roll(1, 0) * after_gain * noise_after, spliced

    def change_bandwidth(self, bandwidth: Tensor, rng: np.random.Generator) -> Tensor:
        return torch.minimum(bandwidth, bandwidth.roll(1, 0))


@dataclass(kw_only=True)
class LevelChange(Transform):
    """Level that changes at a random moment of the crop, in one of three ways, each as often.

    From then on the speech is louder or softer by up to ``decibels``, as of another talker or, where the ``ramp`` is
    long, of one who walks away; half of the noises follow it. Or a bang falls into the noise, ``bang`` dB above the
    level, which fades by 60 dB in ``decay``. Or speech and noise begin there, after digital silence. Seconds and
    decibels are drawn from their ranges uniformly, short seconds as often as long ones.
    """

    place = 10
    limits: ClassVar = {"decibels": (0, 60), "ramp": (0.001, 10), "bang": (0, 60), "decay": (0.001, 10)}

    sample_rate: int
    decibels: float = 25.0
    ramp: Range = (0.02, 0.3)
    bang: Range = (10.0, 40.0)
    decay: Range = (0.05, 1.0)

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        rows, length = noise.shape
        is_step, is_bang, is_start = (np.arange(3)[:, None] == rng.integers(3, size=rows)).astype(float)
        since = since_moment(rng, noise, self.sample_rate)
        begun = (since >= 0).to(noise.dtype)

        decibels = column(is_step, noise) * uniform(rng, (-self.decibels, self.decibels), noise)
        ramp = log_uniform(rng, self.ramp, noise)
        gain = torch.exp((since / ramp).clamp(0, 1) * (decibels * np.log(10) / 20))
        follows = column(rng.integers(2, size=rows), noise)

        loudness = level * column(is_bang * 10 ** (rng.uniform(*self.bang, rows) / 20), noise)
        decay = log_uniform(rng, self.decay, noise)
        fading = begun * torch.exp(since.clamp(min=0) * (-3 * np.log(10) / decay))
        # One noise for the bangs of all rows: drawing it takes longer than everything else.
        bang = column(rng.standard_normal(length, np.float32), noise).T * fading * loudness

        present = torch.maximum(begun, 1 - column(is_start, noise))
        return (noise * torch.where(follows > 0, gain, 1.0) + bang) * present, clean * gain * present


@dataclass(kw_only=True)
class Rumble(Transform):
    """Rumble added to the noise, as of wind, handling or a road, at ``decibels`` of the utterance's level.

    It is random noise below a cut-off that is drawn from ``hertz``; low cut-offs are as frequent as high ones.
    """

    place = 11
    limits: ClassVar = {"hertz": (1, 200), "decibels": (-80, 20)}

    sample_rate: int
    hertz: Range = (8.0, 80.0)
    decibels: Range = (-35.0, 0.0)

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        rows, length = noise.shape
        spectrum = noise.new_zeros(rows, length // 2 + 1, dtype=torch.cfloat)
        count = min(spectrum.shape[1], round(2 * self.hertz[1] * length / self.sample_rate))
        values = to_device(rng.standard_normal((rows, count, 2), np.float32), noise.device)
        place = torch.arange(count, device=noise.device) * (self.sample_rate / length)
        cutoff = log_uniform(rng, self.hertz, noise)
        gain = 1 / (1 + (place / cutoff) ** 4)
        spectrum[:, :count] = torch.view_as_complex(values) * gain
        rumble = torch.fft.irfft(spectrum, length)
        loudness = level * amplitude(uniform(rng, self.decibels, noise))
        return noise + rumble * (loudness / nonzero(Spectral.level(rumble))), clean


def at_speeds(sounds: Tensor, percent: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each factor in ``percent [B]``, its rows of ``[..., B, N]`` and their sound so much faster."""
    for value in np.unique(percent):
        rows = to_device(np.flatnonzero(percent == value), sounds.device)
        yield rows, resample(sounds[..., rows, :], int(value), 100)


def other_rows(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Draw the number of another row for each row of ``like``, each number once; of a single row its own."""
    order = rng.permutation(len(like))
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    return to_device(other, like.device)


def since_moment(rng: np.random.Generator, like: Tensor, sample_rate: int) -> Tensor:
    """Draw a moment for each row of ``like [B, N]``; returns the seconds since then at each sample, ``[B, N]``."""
    moment = uniform(rng, (0, like.shape[-1] / sample_rate), like)
    return torch.arange(like.shape[-1], device=like.device) / sample_rate - moment


def lowpass(cutoff: Tensor, sample_rate: int) -> Tensor:
    """Return low-pass kernels ``[B, K]`` for cut-offs ``[B, 1]`` in Hz: a sinc under a Hamming window of 32 ms, K odd.

    A cut-off beyond half the sample rate gives an impulse.
    """
    half = round(0.016 * sample_rate)
    time = torch.arange(-half, half + 1, device=cutoff.device, dtype=cutoff.dtype)
    window = 0.54 + 0.46 * torch.cos(torch.pi * time / half)
    band = (2 * cutoff / sample_rate).clamp(max=1)
    return band * torch.sinc(band * time) * window


def convolve(noise: Tensor, clean: Tensor, kernel: Tensor) -> Pair:
    """Filter ``[B, N]`` by centred kernels ``[B, K]``, one per row: no delay, zeros beyond the ends."""
    length, taps = noise.shape[-1], kernel.shape[-1]
    # A multiple of 1024 has small factors; other sizes take up to three times as long.
    size = -(-(length + taps - 1) // 1024) * 1024
    spectra = torch.fft.rfft(torch.stack([noise, clean]), size) * torch.fft.rfft(kernel, size)
    noise, clean = torch.fft.irfft(spectra, size)[..., taps // 2 : taps // 2 + length]
    return noise, clean
