"""Waveform ↔ scaled magnitude and phase. The only file that knows n_fft."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.audio.reader import MAX_RATE, MIN_RATE
from denoiser.errors import ConfigError

MAX_OVERLAP = 64  # windows over a sample; 4 are usual, and each more is as much work again


class Spectral(nn.Module):
    """The spectral representation a network works in, with its inverse beside it.

    A waveform is divided by its level (RMS of the noisy utterance, so that loudness does not matter),
    transformed (Hann window), compressed (``magnitude ** power``) and scaled by one global constant,
    ``peak``, to [-1, 1]: ``scaled = 2 * compressed / peak - 1``. The noise between two scaled
    magnitudes is half their difference, so that it fills [-1, 1] too, whichever the louder.

    ``peak`` is the compressed magnitude that 999 in 1000 of the training set stay below (see :meth:`fit`);
    the few above are clamped for the network alone. Scaled to the very largest, the upper third of the
    range stays almost empty and unet10 learns more slowly. 0 means not fitted yet. It is a buffer and so travels in
    every checkpoint.

    Args:
        sample_rate: Hz.
        n_fft: window and transform length in samples. 510 at 16 kHz is 32 ms, the window with the
            highest ceiling for magnitudes under the noisy phase, and gives 256 bins: four poolings
            need no padding.
        hop: samples between frames.
        power: exponent of the magnitude compression, in (0, 1].
        peak: the scale, where it is already known.
    """

    peak: Tensor
    window: Tensor

    def __init__(
        self, sample_rate: int = 16_000, n_fft: int = 510, hop: int = 128, power: float = 0.3, peak: float = 0.0
    ) -> None:
        super().__init__()
        given = f"spectral: sample_rate={sample_rate}, n_fft={n_fft}, hop={hop}, power={power}, peak={peak}"
        if not all(isinstance(value, int | float) for value in (sample_rate, n_fft, hop, power, peak)):
            raise ConfigError(f"{given}; not numbers")
        if not MIN_RATE <= sample_rate <= MAX_RATE or not 2 <= n_fft <= sample_rate or int(n_fft) != n_fft:
            raise ConfigError(
                f"{given}; expected {MIN_RATE} to {MAX_RATE} Hz, and a window of 2 samples to a second of them"
            )
        if not 0 < power <= 1 or not n_fft / MAX_OVERLAP <= hop <= n_fft // 2 or int(hop) != hop or not peak >= 0:
            raise ConfigError(
                f"{given}; expected 0 < hop <= n_fft / 2 (else samples are lost between windows) and at most "
                f"{MAX_OVERLAP} windows over a sample, 0 < power <= 1, peak >= 0"
            )
        self.sample_rate, self.n_fft, self.hop, self.power = sample_rate, n_fft, hop, power
        self.register_buffer("peak", torch.tensor(float(peak)))
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop

    def samples(self, frames: int) -> int:
        """How many samples hold exactly ``frames`` whole windows (``center=False``)."""
        return (frames - 1) * self.hop + self.n_fft

    @staticmethod
    def level(noisy: Tensor) -> Tensor:
        """Return the RMS about the mean over time: ``[..., N]`` → ``[..., 1]``; 0 for digital silence."""
        return noisy.double().std(-1, correction=0, keepdim=True).float()

    def stft(self, waveform: Tensor, center: bool = True) -> Tensor:
        """``[..., N]`` → complex ``[..., F, T]``; centred, T = 1 + ceil(N / hop) with zeros beyond the ends.

        So the last sample lies between the middles of two windows: at the foot of one alone, where a hop is half a
        window, the inverse would divide by 1e-9.
        """
        flat = waveform.reshape(-1, waveform.shape[-1]).float()
        if center:
            flat = F.pad(flat, (0, -flat.shape[-1] % self.hop))
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                flat, self.n_fft, self.hop, window=self.window, center=center,
                pad_mode="constant", return_complex=True,
            )  # fmt: skip
        return spectrum.reshape(*waveform.shape[:-1], *spectrum.shape[-2:])

    def scale(self, magnitude: Tensor) -> Tensor:
        """Linear magnitude, level divided out, ≥ 0 → scaled magnitude in [-1, 1] (louder than ``peak``: above 1)."""
        return magnitude.pow(self.power) * (2 / self.peak) - 1

    def unscale(self, scaled: Tensor) -> Tensor:
        """The inverse of :meth:`scale`; what lies below -1 is silence."""
        return ((scaled + 1).clamp(min=0) * (self.peak / 2)).pow(1 / self.power)

    def forward(self, waveform: Tensor, level: Tensor, center: bool = True) -> Spectrum:
        """``[..., N]``, ``[..., 1]`` → its spectrum, ``[..., F, T]``; centred or not as in :meth:`stft`."""
        return Spectrum(self, self.stft(_normalise(waveform, level), center))

    def inverse(self, magnitude: Tensor, phase: Tensor, level: Tensor, length: int, phase_iters: int = 0) -> Tensor:
        """Scaled magnitude and phase (of modulus 1) ``[..., F, T]``, level ``[..., 1]`` → waveform ``[..., length]``.

        With ``phase_iters``, that many times the phase is replaced by that of the sound it makes under this magnitude
        (Griffin & Lim, "Signal estimation from modified short-time Fourier transform", 1984).
        """
        with torch.autocast(magnitude.device.type, enabled=False):
            linear = self.unscale(magnitude.float()).reshape(-1, *magnitude.shape[-2:])
            phase = phase.reshape(linear.shape)
            waveform = self._istft(linear * phase, length)
            for _ in range(phase_iters):
                waveform = self._istft(linear * torch.sgn(self.stft(waveform)), length)
        return waveform.reshape(*magnitude.shape[:-2], length) * level

    def _istft(self, spectrum: Tensor, length: int) -> Tensor:
        """``[B, F, T]`` → ``[B, length]``, at most ``(T - 1) * hop``; as torch's, in 2/3 of the time on a CPU."""
        windows = torch.fft.irfft(spectrum.mT, self.n_fft) * self.window
        weight = (self.window**2).expand(1, spectrum.shape[-1], -1)
        kept = slice(self.n_fft // 2, self.n_fft // 2 + length)
        return overlap_added(windows, self.hop)[:, kept] / overlap_added(weight, self.hop)[:, kept]

    def waveform(self, spectrum: Tensor) -> Tensor:
        """Linear complex ``[B, F, T]`` → ``[B, (T - 1) * hop]``, as training compares it: from the middle of the first
        window to that of the last, so that the frames may have been cut with ``center=False``."""
        return self._istft(spectrum, (spectrum.shape[-1] - 1) * self.hop)

    @staticmethod
    def difference(noisy: Tensor, clean: Tensor) -> Tensor:
        """Scaled magnitudes → scaled noise in [-1, 1], negative where the noise cancelled speech."""
        return ((noisy - clean) / 2).clamp(-1, 1)

    @staticmethod
    def subtract(noisy: Tensor, noise: Tensor) -> Tensor:
        """Scaled magnitude and scaled noise → the clean estimate, not yet clamped (that is :meth:`unscale`'s)."""
        return noisy - 2 * noise

    @torch.no_grad()
    def fit(self, noisy: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set ``peak`` from the ``(waveform, level)`` pairs given; ConfigError where all are silent."""
        # Every 17th value is enough for a quantile, and a prime stride visits all bins.
        samples = [self.stft(_normalise(w, level)).abs().flatten()[::17].cpu().numpy() for w, level in noisy]
        peak = float(np.quantile(np.concatenate(samples), 0.999)) if samples else 0.0
        if peak == 0:
            raise ConfigError("the training set is silent: every noisy file it was to be scaled by holds only zeros")
        self.peak.fill_(peak**self.power)


def overlap_added(windows: Tensor, hop: int) -> Tensor:
    """Windows ``[B, T, n]``, each begun ``hop`` samples after the one before, summed: ``[B, (T - 1) * hop + n]``."""
    rows, count, size = windows.shape
    over = -(-size // hop)  # windows that lie over a sample
    parts = F.pad(windows, (0, over * hop - size)).unflatten(-1, (over, hop))
    sums = windows.new_zeros(rows, count + over - 1, hop)
    for part in range(over):
        sums[:, part : part + count] += parts[:, :, part]
    return sums.flatten(1)[:, : (count - 1) * hop + size]


class Spectrum:
    """Complex spectra ``[..., F, T]``, level divided out; each of its parts is worked out when it is first asked for.

    Args:
        spectral: the representation that its scale is of.
        linear: the complex values themselves; or else
        magnitude: scaled, and
        phase: complex of modulus 1, or 0 where there is no sound; or the spectrum whose phase it has.
    """

    def __init__(
        self,
        spectral: Spectral,
        linear: Tensor | None = None,
        magnitude: Tensor | None = None,
        phase: Tensor | Spectrum | None = None,
    ) -> None:
        self.spectral = spectral
        self._under: Spectrum | None = None
        if isinstance(phase, Spectrum):
            self._under, phase = phase, None
        # What was given stands in the place of the properties that would work it out.
        given = {"linear": linear, "magnitude": magnitude, "phase": phase}
        self.__dict__.update({name: value for name, value in given.items() if value is not None})

    @cached_property
    def linear(self) -> Tensor:
        return self.spectral.unscale(self.magnitude) * self.phase

    @cached_property
    def magnitude(self) -> Tensor:
        # torch's STFT has the bins of a frame side by side; a loss between two orders is 5 % of unet10's step.
        return self.spectral.scale(self.linear.abs().contiguous())

    @cached_property
    def phase(self) -> Tensor:
        return torch.sgn(self.linear) if self._under is None else self._under.phase

    @cached_property
    def compressed(self) -> Tensor:
        """The complex values under the compressed magnitude, on a scale of 0 to 2: that of ``magnitude + 1``."""
        return (self.magnitude + 1) * self.phase

    @cached_property
    def waveform(self) -> Tensor:
        """``[B, (T - 1) * hop]``, see :meth:`Spectral.waveform`."""
        return self.spectral.waveform(self.linear)

    def frames(self, wanted: slice) -> Spectrum:
        """These frames alone, with what of them has been worked out already."""
        known = {n: self.__dict__[n][..., wanted] for n in ("linear", "magnitude", "phase") if n in self.__dict__}
        if self._under is not None:
            known["phase"] = self._under.frames(wanted)
        return Spectrum(self.spectral, **known)

    def to(self, device: torch.device | str) -> Spectrum:
        return Spectrum(self.spectral, linear=self.linear.to(device))

    @property
    def shape(self) -> torch.Size:
        return self.linear.shape if "linear" in self.__dict__ else self.magnitude.shape


def _normalise(waveform: Tensor, level: Tensor) -> Tensor:
    return waveform / torch.where(level > 0, level, 1.0)
