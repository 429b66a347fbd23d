"""Bandwidth of a recording: the frequency above which it holds nothing, as it was sampled or coded."""

import torch
from torch import Tensor
from torch.nn import functional as F

FRAME_SECONDS = 0.02
BAND = 250.0  # Hz, over which powers are averaged
LOWEST = 7_000.0  # Hz; below this, silence is how the recording sounds
BELOW = 4  # bands under an edge that stand high above all beyond it
DROP = 25.0  # dB


class Bandwidth:
    """Meter of the bandwidth of simultaneous tracks, which arrive in blocks ``[tracks, N]`` at ``sample_rate`` Hz."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self.size = round(FRAME_SECONDS * sample_rate)
        self.window = torch.hann_window(self.size)
        self.powers = torch.zeros(1, dtype=torch.float64)

    def add(self, block: Tensor) -> None:
        frames = F.pad(block, (0, -block.shape[-1] % self.size)).unflatten(-1, (-1, self.size))
        spectrum = torch.fft.rfft(frames * self.window)
        power = (spectrum.real.square() + spectrum.imag.square()).sum(1, dtype=torch.float64)
        self.powers = self.powers + power

    def measure(self, source_rate: int) -> float:
        """Return the lowest bandwidth of the tracks, Hz: at most that of their files, of ``source_rate`` Hz.

        An edge below that is where all further powers lie 25 dB below those under it: of a codec, or of a file that
        was brought to a higher rate before.
        """
        highest = min(source_rate, self.sample_rate) / 2
        bins = round(BAND * FRAME_SECONDS)
        usable = int(highest * FRAME_SECONDS) // bins
        bands = F.avg_pool1d(self.powers[:, : usable * bins][None], bins)[0]
        first = int(LOWEST / BAND)
        for edge in range(first, usable - 1):
            below, beyond = bands[:, edge - BELOW : edge].mean(1), bands[:, edge + 1 :].amax(1)
            if bool(((below > 0) & (beyond < below * 10 ** (-DROP / 10))).any()):
                return edge * BAND
        return highest
