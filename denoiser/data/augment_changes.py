"""What a training batch may go through: random changes of noise and clean speech, whose sum is the noisy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from denoiser import audio
from denoiser.data.filters import filtered, lowpass

Pair = tuple[Tensor, Tensor]  # noise and clean, [B, N]


class Change(nn.Module, ABC):
    """A random change of noise and clean speech, by :meth:`change`; the noisy is their sum, before and after.

    Args:
        sample_rate: Hz.
        probability: of each row to be changed; the others stay as they are, to the bit.
    """

    keeps_level = False  # true where the level of the whole utterance stays what it was

    def __init__(self, sample_rate: int, probability: float = 1.0) -> None:
        super().__init__()
        _check("probability", probability, least=0, most=1)
        self.sample_rate, self.probability = sample_rate, probability

    @torch.no_grad()
    def forward(
        self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noise and clean ``[B, N]``, level ``[B, 1]`` of the whole noisy utterance → the same, some rows changed."""
        chosen = np.flatnonzero(rng.random(len(noise)) < self.probability)
        if not len(chosen):
            return noise, clean, level
        rows = _on(noise.device, chosen)
        old_noise, old_clean, old_level = noise[rows], clean[rows], level[rows]
        new_noise, new_clean = self.change(old_noise, old_clean, old_level, rng)
        new_level = old_level if self.keeps_level else relevel(old_level, old_clean + old_noise, new_clean + new_noise)
        return (
            noise.index_copy(0, rows, new_noise),
            clean.index_copy(0, rows, new_clean),
            level.index_copy(0, rows, new_level),
        )

    @abstractmethod
    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        """The rows that were chosen, changed; never in place."""


class Speed(Change):
    """Faster or slower, as a tape is: tempo, pitch and formants by one factor, the same for speech and noise.

    Other talkers, in effect (Ko et al. 2015, Audio augmentation for speech recognition). The factor is drawn in steps
    of 1/100 between ``low`` and ``high``, so that the resampler (:func:`denoiser.audio.resample`) is a short filter,
    true to -40 dB up to 85 % of the band, 3 dB down at 97 %. The crop keeps its length: a faster one ends in silence,
    up to 9 % at 1.1; a slower one has nothing in the top of the band, above ``factor`` times it.
    """

    keeps_level = True  # what enters or leaves the crop says nothing of the utterance

    def __init__(self, sample_rate: int, low: float = 0.9, high: float = 1.1, probability: float = 1.0) -> None:
        super().__init__(sample_rate, probability)
        _check("low, high", low, high, least=0.5, most=2)
        self.low, self.high = low, high

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        percent = rng.integers(round(100 * self.low), round(100 * self.high), size=len(noise), endpoint=True)
        both = torch.stack([noise, clean])
        changed = torch.empty_like(both)
        for value in np.unique(percent):
            rows = _on(noise.device, np.flatnonzero(percent == value))
            resampled = audio.resample(both[:, rows], int(value), 100)
            changed.index_copy_(1, rows, audio.match_length(resampled, noise.shape[-1]))
        return changed[0], changed[1]


class Remix(Change):
    """Noises change places within the batch: every utterance meets many noises (Défossez et al. 2020, Real time
    speech enhancement in the waveform domain).

    A noise is carried over as it was relative to its own recording: multiplied by the ratio of the two levels. With
    the noise of a recording of 5 dB SNR, an utterance of 5 dB stays at 5 dB however loud either was recorded, and the
    spread of SNRs stays that of the corpus.
    """

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        other = _on(noise.device, rng.permutation(len(noise)))
        return noise[other] * (level / _nonzero(level[other])), clean


class Shift(Change):
    """The noise begins elsewhere, its end going on with its beginning, and in half of the rows upside down.

    Neither what speech and noise do at one time nor their relative phase then repeats. The joint can click, as steps
    in a noise do, and a noise shorter than the crop leaves a gap.
    """

    keeps_level = True

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        length = noise.shape[-1]
        start = _on(noise.device, rng.integers(length, size=(len(noise), 1)))
        sign = _column(noise, rng.choice([-1.0, 1.0], size=len(noise)))
        place = (torch.arange(length, device=noise.device) + start) % length
        return noise.gather(1, place) * sign, clean


class SNR(Change):
    """The noise louder or softer: the recorded SNR, whatever it was, plus a uniform ``low`` to ``high`` dB.

    SNR is ``10 log10`` of the powers of clean and noise over one stretch of time, any: both change alike everywhere.
    A corpus has few SNRs (VCTK-DEMAND 0, 5, 10, 15 dB); a wider, continuous range generalises better (Braun and
    Tashev 2020, Data augmentation and loss normalization for deep noise suppression).
    """

    def __init__(self, sample_rate: int, low: float = -5.0, high: float = 5.0, probability: float = 1.0) -> None:
        super().__init__(sample_rate, probability)
        _check("low, high", low, high, least=-60, most=60)
        self.low, self.high = low, high

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        decibels = _column(noise, rng.uniform(self.low, self.high, len(noise)))
        return noise * 10 ** (-decibels / 20), clean


class BandStop(Change):
    """One band taken out of speech and noise: what is heard there is to be told from the rest (Défossez et al. 2020).

    The band is up to ``width`` of the mel scale (``2595 log10(1 + f / 700)``, about how finely the ear resolves) wide,
    anywhere on it. The filter (:mod:`denoiser.data.filters`) delays nothing.
    """

    def __init__(self, sample_rate: int, width: float = 0.2, probability: float = 1.0) -> None:
        super().__init__(sample_rate, probability)
        _check("width", width, least=0, most=1)
        self.width = width

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        width = rng.uniform(0, self.width, len(noise))
        first = rng.random(len(noise)) * (1 - width)
        top = np.log10(1 + self.sample_rate / 2 / 700)
        edges = (700 * (10 ** (part * top) - 1) for part in (first, first + width))
        low, high = (lowpass(_column(noise, edge), self.sample_rate) for edge in edges)
        kernel = low - high
        kernel[:, kernel.shape[1] // 2] += 1
        noise, clean = filtered(torch.stack([noise, clean]), kernel)
        return noise, clean


class BandLimit(Change):
    """Speech and noise through a narrow channel: nothing below and above two cut-offs, each drawn log-uniformly.

    A telephone passes 300 to 3400 Hz (ITU-T G.712), a headset or a wide-band call 50 to 7000 Hz (G.722), and either
    may stand in a file of any rate. A cut-off beyond half the sample rate cuts nothing.

    Args:
        sample_rate: Hz.
        low: range of the lower cut-off, Hz.
        high: range of the upper one, Hz.
        probability: of each row.
    """

    def __init__(
        self,
        sample_rate: int,
        low: Sequence[float] = (50.0, 400.0),
        high: Sequence[float] = (3000.0, 7500.0),
        probability: float = 1.0,
    ) -> None:
        super().__init__(sample_rate, probability)
        if not all(isinstance(edge, Sequence) and len(edge) == 2 for edge in (low, high)):
            raise ValueError("low, high: expected two frequencies each")
        _check("low", *low, least=1, most=sample_rate / 2)
        _check("high", *high, least=max(low), most=1e6)
        self.low, self.high = low, high

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        ranges = np.log([self.low, self.high])
        edges = np.exp(rng.uniform(ranges[:, :1], ranges[:, 1:], (2, len(noise))))
        low, high = (lowpass(_column(noise, edge), self.sample_rate) for edge in edges)
        noise, clean = filtered(torch.stack([noise, clean]), high - low)
        return noise, clean


class Clip(Change):
    """The noisy cut off where a converter overflows, ``low`` to ``high`` dB above the level (RMS) of the utterance.

    Peaks of the noisy lie 13 to 22 dB above it (VCTK-DEMAND): at 9 dB one sample in 50 is clipped and the distortion
    15 dB below the signal, at 15 dB 40 dB below (medians). What clipping did belongs to the noise, so that the clean
    stays the target: ``noise = clipped - clean``.
    """

    def __init__(self, sample_rate: int, low: float = 9.0, high: float = 15.0, probability: float = 1.0) -> None:
        super().__init__(sample_rate, probability)
        _check("low, high", low, high, least=0, most=60)
        self.low, self.high = low, high

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        limit = level * 10 ** (_column(noise, rng.uniform(self.low, self.high, len(noise))) / 20)
        return (clean + noise).clamp(-limit, limit) - clean, clean


class Gain(Change):
    """Everything louder or softer by up to ``decibels``, uniformly, under a level that stays.

    A mere gain would do nothing: the level is divided out. But a file's level is not that of its speech: pauses make
    speech stand above it, a slammed door far below, and in a stream it is only guessed. So the network gets
    used to speech that is not where the level says (dynamic level diversity: Braun and Tashev 2020).
    """

    keeps_level = True

    def __init__(self, sample_rate: int, decibels: float = 15.0, probability: float = 1.0) -> None:
        super().__init__(sample_rate, probability)
        _check("decibels", decibels, least=0, most=60)
        self.decibels = decibels

    def change(self, noise: Tensor, clean: Tensor, level: Tensor, rng: np.random.Generator) -> Pair:
        gain = 10 ** (_column(noise, rng.uniform(-self.decibels, self.decibels, len(noise))) / 20)
        return noise * gain, clean * gain


# In the order in which they are made, that of the world: sources, their mixture, the channel, the converter, the level.
CHANGES: dict[str, type[Change]] = {
    "speed": Speed,
    "remix": Remix,
    "shift": Shift,
    "snr": SNR,
    "bandstop": BandStop,
    "bandlimit": BandLimit,
    "clip": Clip,
    "gain": Gain,
}


def relevel(level: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The level ``[B, 1]`` of an utterance of which a piece ``before`` became ``after``, ``[B, N]``: a guess.

    What the utterance's power has beyond the piece's stays as it was. So a change in a quiet piece is one of a
    stationary noise, added to speech that is elsewhere; where the piece is the louder, the utterance changes in its
    ratio, and the piece never comes to stand further above its level than it did. Of 8 s with another's noise, a piece
    of 2 s tells the level to 0.6 dB (LibriSpeech, standard deviation; the ratio alone to 2.9 dB, the old level to
    0.9 dB). Where nothing changed it is the very same.
    """
    norms = (torch.linalg.vector_norm(piece, dim=-1, keepdim=True) for piece in (before, after))
    power, changed = (norm.square() / before.shape[-1] for norm in norms)
    rest = torch.maximum(level.square() - power, torch.zeros_like(level))
    return level * ((rest + changed) / _nonzero(rest + power)).sqrt()


def _on(device: torch.device, values: np.ndarray) -> Tensor:
    """Numbers drawn on the CPU; pinned for a GPU, or the copy would wait until it is idle."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _column(like: Tensor, values: np.ndarray) -> Tensor:
    """``[B]`` numbers → ``[B, 1]`` of the kind and on the device of ``like``."""
    return _on(like.device, values.astype(np.float32)[:, None]).to(like.dtype)


def _nonzero(value: Tensor) -> Tensor:
    """A divisor: 1 where it would be 0."""
    return torch.where(value > 0, value, 1.0)


def _check(name: str, *values: float, least: float, most: float) -> None:
    """Raise ValueError unless these are numbers from ``least`` to ``most``, ascending."""
    if not all(isinstance(value, int | float) for value in values) or [*values] != sorted(values):
        raise ValueError(f"{name}: expected {'a number' if len(values) == 1 else 'two numbers, the lower first'}")
    if not all(least <= value <= most for value in values):
        raise ValueError(f"{name}: expected {least:g} to {most:g}")
