"""Loudness in LUFS of sound that arrives in blocks."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from denoiser.errors import ConfigError, DenoiserError

SILENT = -70.0  # LUFS; below that, a gating block does not count, and a recording has no loudness


class Meter:
    """Integrated loudness (ITU-R BS.1770-4), with pyloudnorm's K-weighting, in memory that hardly grows.

    Args:
        sample_rate: Hz.
        channels: of five, the last two are surrounds and count 1.5 dB more; otherwise all are alike.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        try:
            from pyloudnorm import Meter as Weighting
            from scipy.signal import lfilter
        except ImportError:
            raise DenoiserError('loudness= needs pyloudnorm: pip install "denoiser[loudness]"') from None
        self._lfilter = lfilter
        self._filters = [(f.b * f.passband_gain, f.a) for f in Weighting(sample_rate)._filters.values()]
        self._states = [np.zeros((channels, max(len(b), len(a)) - 1)) for b, a in self._filters]
        self._weights = np.array([1.41 if channels == 5 and c >= 3 else 1.0 for c in range(channels)])
        self._step = sample_rate // 10  # gating blocks of 400 ms begin every 100 ms
        self._held = np.zeros((channels, 0))
        self._energies: list[float] = []  # of each 100 ms, mean square summed over channels

    def add(self, block: Tensor) -> None:
        """Take the next ``[C, N]``."""
        samples = block.double().numpy()
        for index, (b, a) in enumerate(self._filters):
            samples, self._states[index] = self._lfilter(b, a, samples, zi=self._states[index])
        held = np.concatenate([self._held, samples], axis=1)
        whole = held.shape[1] // self._step
        steps = held[:, : whole * self._step].reshape(len(held), whole, self._step)
        self._energies += (np.square(steps).mean(2) * self._weights[:, None]).sum(0).tolist()
        self._held = held[:, whole * self._step :]

    @property
    def loudness(self) -> float:
        """LUFS; minus infinity for silence and for less than 400 ms."""
        if len(self._energies) < 4:
            return -math.inf
        energies = np.convolve(self._energies, np.ones(4) / 4, mode="valid")
        for offset in (SILENT, None):
            gate = 10 ** ((SILENT + 0.691) / 10) if offset is not None else energies.mean() / 10
            energies = energies[energies > gate]
            if not len(energies):
                return -math.inf
        return float(10 * np.log10(energies.mean()) - 0.691)

    def gain(self, target: float) -> float:
        """The linear gain to ``target`` LUFS; 1 where there is no loudness to change."""
        if not -70 <= target <= -5:
            raise ConfigError(f"loudness={target}: expected LUFS from -70 to -5; -16 and -23 are common")
        loudness = self.loudness
        return 10 ** ((target - loudness) / 20) if math.isfinite(loudness) else 1.0
