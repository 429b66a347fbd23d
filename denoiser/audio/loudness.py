"""Integrated loudness of sound that arrives in blocks, in LUFS."""

import math
from numbers import Real

import numpy as np
from torch import Tensor

from denoiser.audio.formats import MASKS
from denoiser.errors import ConfigError, DenoiserError

# LUFS. Gating blocks below it do not count, and a recording below it has no loudness.
SILENT = -70.0
_OFFSET = -0.691  # dB, of BS.1770: a sine of 997 Hz at full scale in one channel is -3.01 LUFS
_LOW, _BACK, _SIDE = 0x8, 0x30, 0x600  # bits in a mask of speakers: of low-frequency effects, and of two pairs


class Meter:
    """Integrated loudness (ITU-R BS.1770-4) by pyloudnorm's filters, in memory that hardly grows.

    A ``mask`` names the speakers; five channels or more have the usual ones without it. Surrounds count 1.5 dB more,
    and the channel of low-frequency effects does not count. If the speakers are unknown, all channels count alike.
    """

    def __init__(self, sample_rate: int, channels: int, mask: int | None = None) -> None:
        try:
            from pyloudnorm import IIRfilter
            from scipy.signal import sosfilt
        except ImportError:
            raise DenoiserError('loudness= needs pyloudnorm: pip install "denoiser[loudness]"') from None
        self._sosfilt = sosfilt
        # K-weighting: the head as a shelf of 4 dB from 1.5 kHz on, and a high pass at 38 Hz.
        shelf = IIRfilter(4.0, 1 / math.sqrt(2), 1500.0, sample_rate, "high_shelf")
        high_pass = IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass")
        self._sections = np.array([[*stage.b, *stage.a] for stage in (shelf, high_pass)])
        self._state = np.zeros((len(self._sections), channels, 2))
        self._weights = _weights(channels, mask)
        # Gating blocks of 400 ms begin every 100 ms.
        self._step = sample_rate // 10
        self._held = np.zeros((channels, 0))
        self._energies: list[float] = []  # of each 100 ms: mean square, summed over channels

    def add(self, block: Tensor) -> None:
        """Take the next ``[C, N]``."""
        samples, self._state = self._sosfilt(self._sections, block.double().numpy(), zi=self._state)
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
        energies = energies[energies > 10 ** ((SILENT - _OFFSET) / 10)]
        if len(energies):
            energies = energies[energies > energies.mean() / 10]
        return float(10 * np.log10(energies.mean()) + _OFFSET) if len(energies) else -math.inf

    def gain(self, target: float) -> float:
        """Return the linear gain to ``target`` LUFS; 1 for a recording without loudness."""
        if not isinstance(target, Real) or not SILENT <= target <= -5:
            raise ConfigError(f"loudness={target}: expected LUFS from -70 to -5; -16 and -23 are common")
        loudness = self.loudness
        return 10 ** ((target - loudness) / 20) if math.isfinite(loudness) else 1.0


def _weights(channels: int, mask: int | None) -> np.ndarray:
    """Return the factor of the power of each channel, ``[C]``."""
    if mask is None:
        mask = MASKS.get(channels, 0) if channels > 4 else 0
    speakers = [1 << place for place in range(mask.bit_length()) if mask >> place & 1]
    if len(speakers) != channels:
        return np.ones(channels)
    # Where there are speakers at the sides, those behind are no surrounds of BS.1770.
    surrounds = _SIDE if mask & _SIDE else _BACK
    weights = [1.41 if speaker & surrounds else 1.0 for speaker in speakers]
    return np.array(weights) * [speaker != _LOW for speaker in speakers]
