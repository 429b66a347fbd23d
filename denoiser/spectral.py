"""Short-time spectra: waveform ↔ scaled magnitude and phase. The only module that knows the window and the hop."""

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.audio.reader import MAX_RATE, MIN_RATE
from denoiser.bands import Bands
from denoiser.errors import ConfigError
from denoiser.level import HERE_PARTS, NEAR_PAST_SECONDS, NEAR_SECONDS, level_over_time, plain_level

MAX_OVERLAP = 64  # windows over one sample; 4 are usual
MAX_LEVEL_SECONDS = 10
MAX_SHIFTS = 16
OFFSET_BINS = 2  # lowest bins, in which a constant offset lies
LEAST_SHARE = 1e-10  # of a frame's energy beyond its offset; what is below is rounding


class Spectral(nn.Module):
    """Spectral representation that a network works in, and its inverse.

    A waveform is transformed with a Hann window, and each frame divided by the level of the noisy recording, so that
    loudness does not matter: the RMS of ``level_seconds`` on either side (:mod:`denoiser.level`), or of the whole
    recording if these are 0. Magnitudes are compressed, ``compressed = magnitude ** power``, and scaled by one
    constant to [-1, 1]: ``scaled = 2 * compressed / peak - 1``.

    ``peak`` is the 99.9th percentile of the compressed magnitudes of the training set (:meth:`fit`), part of every
    checkpoint; 0 if not fitted yet. Louder values exceed 1 and are clamped only in the network's input. Scaling by the
    maximum would leave the upper third of the range almost empty and slow unet10's training.

    ``n_fft`` is the length of window and transform and ``hop`` the step between frames, in samples. 510 at 16 kHz are
    32 ms, which gave clean magnitudes with noisy phase the highest PESQ; four poolings of the 256 bins need no padding.

    With ``bands``, the bins above ``bands_from`` Hz are joined to so many :class:`Bands`, each the RMS of its bins. A
    network gives one gain for each, which is interpolated over the bins.

    ``conf/spectral/16k.yaml`` explains ``two_levels``, in which a steady noise is as loud in a pause as below speech,
    and ``shifts``: errors of results with other frames differ, and so partly cancel, in validation too.
    """

    peak: Tensor
    window: Tensor
    causal = False  # set for a causal network: the level over time is that of the past alone

    def __init__(
        self,
        sample_rate: int = 16_000,
        n_fft: int = 510,
        hop: int = 128,
        power: float = 0.3,
        peak: float = 0.0,
        level_seconds: float = 0.0,
        bands: int = 0,
        bands_from: int = 8_000,
        two_levels: bool = False,
        shifts: int = 1,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {"sample_rate": sample_rate, "n_fft": n_fft, "hop": hop, "power": power}
        self.settings |= {"peak": peak, "level_seconds": level_seconds, "bands": bands, "bands_from": bands_from}
        self.settings |= {"two_levels": two_levels, "shifts": shifts}
        expected = ""
        are_whole = all(isinstance(value, int) for value in (sample_rate, n_fft, hop, bands, bands_from))
        if not are_whole or not all(isinstance(value, int | float) for value in (power, peak, level_seconds)):
            expected = "numbers, whole ones for sample_rate, n_fft, hop, bands and bands_from"
        elif not MIN_RATE <= sample_rate <= MAX_RATE:
            expected = f"a sample rate of {MIN_RATE} to {MAX_RATE} Hz"
        elif not 2 <= n_fft <= sample_rate or n_fft % 2:
            expected = "a window (n_fft) of an even number of samples, at least 2 and at most a second"
        elif not n_fft / MAX_OVERLAP <= hop <= n_fft // 2:
            expected = f"a hop of 1/{MAX_OVERLAP} to 1/2 of a window; a longer hop loses samples"
        elif not 0 < power <= 1 or not peak >= 0:
            expected = "0 < power <= 1 and peak >= 0"
        elif not 0 <= level_seconds <= MAX_LEVEL_SECONDS:
            expected = f"level_seconds of 0 (the whole recording) to {MAX_LEVEL_SECONDS}"
        elif not isinstance(two_levels, bool) or (two_levels and not level_seconds):
            expected = "two_levels true or false, and true only with level_seconds above 0"
        elif type(shifts) is not int or not 1 <= shifts <= MAX_SHIFTS:
            expected = f"a whole number of shifts, 1 to {MAX_SHIFTS}"
        elif not 0 <= bands <= n_fft // 4:
            expected = f"0 to {n_fft // 4} bands"
        elif bands and (
            bands_from < 1_000 or any(n % sample_rate for n in (2 * bands_from * n_fft, 2 * bands_from * hop))
        ):
            expected = "bands_from at a bin: window and hop of whole samples at twice as many Hz"
        if expected:
            raise ConfigError(f"spectral: {self.settings}; expected {expected}")
        self.sample_rate, self.n_fft, self.hop, self.power = sample_rate, n_fft, hop, power
        self.level_seconds, self.two_levels, self.shifts = level_seconds, two_levels, shifts
        self.level_frames = math.ceil(level_seconds * sample_rate / hop)
        # Padding beyond the ends. With zeros, a level over time would make a click of a recording's offset.
        self.edge = "replicate" if self.level_frames else "constant"
        self.frame_rate = sample_rate / hop  # frames per second
        self.register_buffer("peak", torch.tensor(float(peak)))
        self.register_buffer("window", torch.hann_window(n_fft, dtype=torch.float32), persistent=False)
        self.bands = Bands(bands, bands_from, sample_rate, n_fft) if bands else None
        self._narrow: list[Spectral] = []
        # Hz that a recording needs to have all single bins.
        self.narrow_rate = 2 * bands_from if bands else sample_rate
        self.single = min(n_fft, self.narrow_rate * n_fft // sample_rate) // 2 + 1
        self.bins = self.single + bands  # F, the number of frequencies: of single bins, then of bands

    def narrow(self) -> "Spectral":
        """Return the representation of the same bins and frames at ``narrow_rate``, where all bands are silent."""
        if self.narrow_rate >= self.sample_rate:
            return self
        step = self.sample_rate // self.narrow_rate
        # It is kept, since each loss of a step asks for it, and in a list, as it is no part of the weights.
        if not self._narrow or self._narrow[0].window.device != self.window.device:
            rate_and_sizes = {"sample_rate": self.narrow_rate, "n_fft": self.n_fft // step, "hop": self.hop // step}
            # Tensors that are made in inference mode could not be trained through later.
            with torch.inference_mode(False), torch.device(self.window.device):
                self._narrow = [Spectral(**{**self.settings, **rate_and_sizes})]
        lower = self._narrow[0]
        # A window with fewer samples has the smaller sum.
        lower.peak = self.peak * step**-self.power
        lower.causal = self.causal
        return lower

    @property
    def level_context(self) -> int:
        """Frames on either side, or of the past of a causal network, that the level of a frame depends on."""
        if not self.level_frames:
            return 0
        near = self._near_frames
        return self.level_frames + near + (0 if self.causal else near // HERE_PARTS)

    @property
    def _near_frames(self) -> int:
        return round((NEAR_PAST_SECONDS if self.causal else NEAR_SECONDS) * self.frame_rate)

    def beginnings(self, shifts: int) -> list[int]:
        """Return, for each shift, the number of samples by which its frames begin later, from 0 on."""
        return [part * self.hop // shifts for part in range(shifts)]

    def samples(self, frames: int) -> int:
        """Return the number of samples that ``frames`` windows span with ``center=False``."""
        return (frames - 1) * self.hop + self.n_fft

    @staticmethod
    def level(noisy: Tensor) -> Tensor:
        """Return the RMS about the mean over time: ``[..., N]`` → ``[..., 1]``; 0 for digital silence."""
        return noisy.double().std(-1, correction=0, keepdim=True).float()

    def forward(self, waveform: Tensor, level: Tensor, center: bool = True) -> "Spectrum":
        """Return the spectrum ``[..., F, T]`` of ``[..., N]``; see :meth:`stft`.

        ``level`` is ``[..., 1]``, of the whole noisy recording, or ``[..., T]``, of its frames.
        """
        return self.normalise(self.stft(waveform, center), level)

    def normalise(self, spectrum: Tensor, level: Tensor, plain: Tensor | None = None) -> "Spectrum":
        """Return complex values, of all bins, divided by the level ``[..., 1]`` or ``[..., T]``; 0 where it is 0.

        ``plain`` is the level of :meth:`plain_levels`, for the network alone.
        """
        factor = torch.where(level > 0, 1 / level, 0.0).unsqueeze(-2)
        relative = None if plain is None else torch.where(plain > 0, level / plain, 0.0).unsqueeze(-2)
        if not self.bands:
            return Spectrum(self, spectrum * factor, relative_level=relative)
        single, upper = spectrum[..., : self.single, :], spectrum[..., self.single :, :]
        linear = torch.cat([single, self.bands.join(upper).to(single.dtype)], dim=-2) * factor
        return Spectrum(self, linear, upper=upper, relative_level=relative)

    def all_bins(self, magnitude: Tensor, phase: Tensor, level: Tensor, noisy: "Spectrum | None" = None) -> Tensor:
        """Return complex values of all bins at ``level``, of scaled magnitude and phase ``[..., F, T]``.

        Where there are bands, the bins above ``bands_from`` are those of ``noisy`` with the gain of their bands, at
        most 1.
        """
        single = self.unscale(magnitude[..., : self.single, :]) * phase[..., : self.single, :] * level.unsqueeze(-2)
        if not self.bands:
            return single
        assert noisy is not None
        assert noisy.upper is not None
        return torch.cat([single, self.upper_gains(magnitude, noisy) * noisy.upper], dim=-2)

    def upper_gains(self, magnitude: Tensor, noisy: "Spectrum") -> Tensor:
        """Return the gains, at most 1, of the bins above ``bands_from`` that bring ``noisy`` to a scaled magnitude."""
        assert self.bands is not None
        before, after = (self.unscale(each[..., self.single :, :]) for each in (noisy.magnitude, magnitude))
        return self.bands.spread((after / before.clamp(min=1e-20)).clamp(max=1))

    def levels(self, noisy: Tensor, whole: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Return the level ``[..., T]`` over time of complex values of all bins; or ``whole``, that of all.

        ``earlier`` are :meth:`powers` of the frames before, for a causal level.
        """
        if not self.level_frames:
            return whole
        powers = self.powers(noisy)
        before = 0
        if earlier is not None:
            before = earlier.shape[-1]
            powers = torch.cat([earlier, powers], dim=-1)
        return level_over_time(powers, self.level_frames, self._near_frames, self.causal, before)

    def plain_levels(self, noisy: Tensor) -> Tensor | None:
        """Return the RMS ``[..., T]`` around each frame, whatever is louder than it; None without ``two_levels``."""
        return plain_level(self.powers(noisy), self.level_frames) if self.two_levels else None

    def powers(self, noisy: Tensor) -> Tensor:
        """Return the mean squares ``[..., T]`` of complex values about their offset; 0 for a constant frame."""
        energies = noisy.abs().square()
        offset, sound = energies[..., :OFFSET_BINS, :], energies[..., OFFSET_BINS:, :]
        sound = sound.sum(-2)
        sound = torch.where(sound > LEAST_SHARE * offset.sum(-2), sound, 0.0)
        return sound * (2 / (self.n_fft * self.window.square().sum()))

    def spectra(self, noisy: Tensor, clean: Tensor, level: Tensor, center: bool = True) -> dict[str, "Spectrum"]:
        """Return the spectra of ``noisy`` and ``clean`` ``[..., N]``, both divided by the level of the noisy one."""
        stft = self.stft(noisy, center)
        level = self.levels(stft, level)
        return {"noisy": self.normalise(stft, level, self.plain_levels(stft)), "clean": self(clean, level, center)}

    def inverse(
        self,
        magnitude: Tensor,
        phase: Tensor,
        level: Tensor,
        length: int,
        phase_iters: int = 0,
        noisy: "Spectrum | None" = None,
    ) -> Tensor:
        """Return the waveform ``[..., length]`` of scaled magnitude and phase ``[..., F, T]``; see :meth:`all_bins`.

        ``level`` is ``[..., 1]`` or ``[..., T]``.

        The phase is replaced ``phase_iters`` times by that of the resulting sound, which fits the magnitude better
        (Griffin & Lim, "Signal estimation from modified short-time Fourier transform", 1984).
        """
        with torch.autocast(magnitude.device.type, enabled=False):
            spectrum = self.all_bins(magnitude.float(), phase, level, noisy)
            spectrum = spectrum.reshape(-1, *spectrum.shape[-2:])
            waveform = self._istft(spectrum, length)
            for _ in range(phase_iters):
                waveform = self._istft(spectrum.abs() * torch.sgn(self.stft(waveform)), length)
        return waveform.reshape(*magnitude.shape[:-2], length)

    def waveform(self, spectrum: Tensor) -> Tensor:
        """Return the waveform ``[B, (T - 1) * hop]`` of linear complex values ``[B, F, T]``, for losses.

        It reaches from the middle of the first window to the middle of the last one.
        """
        return self._istft(spectrum, (spectrum.shape[-1] - 1) * self.hop)

    def scale(self, magnitude: Tensor) -> Tensor:
        """Return the scaled magnitude, -1 for silence and above 1 beyond ``peak``, of a linear one at level 1."""
        return magnitude.pow(self.power) * (2 / self.peak) - 1

    def unscale(self, scaled: Tensor) -> Tensor:
        """Return the linear magnitude of a scaled one; values below -1 are silence."""
        return ((scaled + 1).clamp(min=0) * (self.peak / 2)).pow(1 / self.power)

    @torch.no_grad()
    def fit(self, noisy: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Set ``peak`` from pairs of waveform and level; ConfigError if all of them are silent."""
        # Every 17th value is enough for a quantile.
        samples = []
        for waveform, whole in noisy:
            stft = self.stft(waveform)
            spectrum = self.normalise(stft, self.levels(stft, whole))
            samples.append(spectrum.linear.abs().flatten()[::17].cpu().numpy())
        peak = float(np.quantile(np.concatenate(samples), 0.999)) if samples else 0.0
        if peak == 0:
            raise ConfigError("the training set is silent: every noisy file it was to be scaled by holds only zeros")
        self.peak.fill_(peak**self.power)

    def stft(self, waveform: Tensor, center: bool = True) -> Tensor:
        """Return the complex spectrum ``[..., F, T]`` of ``[..., N]``.

        With ``center``, the first window is centred on the first sample, and ``T = 1 + ceil(N / hop)``. Beyond the
        ends lie zeros, or for a level over time the :attr:`edge` samples. Without, only whole windows are taken; of a
        waveform shorter than a window, one that ends in zeros.
        """
        flat = waveform.reshape(-1, waveform.shape[-1]).float()
        if center:
            # Two windows must cover the last sample: with a hop of half a window, the end of one alone would make the
            # inverse divide by 1e-9.
            flat = F.pad(flat, (0, -flat.shape[-1] % self.hop), self.edge)
        elif flat.shape[-1] < self.n_fft:
            flat = F.pad(flat, (0, self.n_fft - flat.shape[-1]))
        with torch.autocast(waveform.device.type, enabled=False):
            n_fft, hop, window = self.n_fft, self.hop, self.window
            spectrum = torch.stft(flat, n_fft, hop, n_fft, window, center, self.edge, return_complex=True)
        return spectrum.reshape(*waveform.shape[:-1], *spectrum.shape[-2:])

    def _istft(self, spectrum: Tensor, length: int) -> Tensor:
        """Return the result of torch.istft, ``[B, F, T]`` → ``[B, length]``, in 2/3 of its time on a CPU."""
        windows = torch.fft.irfft(spectrum.mT, self.n_fft) * self.window
        weight = (self.window**2).expand(1, spectrum.shape[-1], -1)
        kept = slice(self.n_fft // 2, self.n_fft // 2 + length)
        return overlap_added(windows, self.hop)[:, kept] / overlap_added(weight, self.hop)[:, kept]


class Spectrum:
    """Complex spectra ``[..., F, T]`` at level 1, as linear values or as scaled magnitude and phase.

    Given as ``linear`` complex values, or as scaled ``magnitude`` and ``phase``. ``phase`` is complex, of modulus 1 (0
    in silence), or another Spectrum to take it from. Any other form is computed when it is first asked for. Bands have
    the phase 1, and ``upper`` are the bins that they were joined from: complex, at the level of the recording.
    ``relative_level`` ``[..., 1, T]`` is the level as a part of the plain one. ``own_bands`` ``[B, bands, 1]`` is 0 for
    the bands that :meth:`up_to` took from another spectrum, else 1; None if it took none.
    """

    own_bands: Tensor | None = None

    def __init__(
        self,
        spectral: Spectral,
        linear: Tensor | None = None,
        magnitude: Tensor | None = None,
        phase: "Tensor | Spectrum | None" = None,
        upper: Tensor | None = None,
        relative_level: Tensor | None = None,
    ) -> None:
        self.spectral, self.upper, self.relative_level = spectral, upper, relative_level
        self._of_same_phase = phase if isinstance(phase, Spectrum) else None
        # The properties of these names compute only those that are not given.
        known = {"linear": linear, "magnitude": magnitude, "phase": None if self._of_same_phase else phase}
        vars(self).update({name: values for name, values in known.items() if values is not None})

    @cached_property
    def linear(self) -> Tensor:
        return self.spectral.unscale(self.magnitude) * self.phase

    @cached_property
    def magnitude(self) -> Tensor:
        # torch.stft lays the bins of a frame side by side. Made contiguous, it saves 5 % of a training step in
        # a loss against a network's output.
        return self.spectral.scale(self.linear.abs().contiguous())

    @cached_property
    def phase(self) -> Tensor:
        return self._of_same_phase.phase if self._of_same_phase else torch.sgn(self.linear)

    @property
    def plain(self) -> Tensor:
        """The magnitude on the scale 0 to 2 at the plain level, in which a soft voice after a loud one stays soft."""
        assert self.relative_level is not None
        return (self.magnitude + 1) * self.relative_level**self.spectral.power

    @property
    def compressed(self) -> Tensor:
        """The complex values with compressed magnitude, on the scale of ``magnitude + 1``: moduli of 0 to 2."""
        return (self.magnitude + 1) * self.phase

    @cached_property
    def waveform(self) -> Tensor:
        """The waveform ``[B, (T - 1) * hop]`` of the single bins, at their rate; see :meth:`Spectral.waveform`."""
        narrow = self.narrow()
        return narrow.spectral.waveform(narrow.linear)

    def narrow(self) -> "Spectrum":
        """Return the single bins alone, at the rate that they need; itself where there are no bands."""
        if not self.spectral.bands:
            return self
        single = slice(self.spectral.single)
        magnitude, phase = self.magnitude[..., single, :], self.phase[..., single, :]
        return Spectrum(self.spectral.narrow(), magnitude=magnitude, phase=phase)

    def up_to(self, hertz: Tensor, other: "Spectrum") -> "Spectrum":
        """Return this spectrum with the bands of the other one where they reach above the frequencies ``[B]``."""
        assert self.spectral.bands is not None
        own = F.pad(self.spectral.bands.ends() <= hertz[:, None], (self.spectral.single, 0), value=True)[..., None]
        magnitude = torch.where(own, self.magnitude, other.magnitude)
        joined = Spectrum(self.spectral, magnitude=magnitude, phase=torch.where(own, self.phase, other.phase))
        joined.own_bands = own[:, self.spectral.single :].to(magnitude.dtype)
        return joined

    @property
    def shape(self) -> torch.Size:
        return self.magnitude.shape

    def frames(self, wanted: slice) -> "Spectrum":
        """Return the spectrum of these frames alone, in the forms that have been computed already."""
        names = ("linear", "magnitude", "phase", "upper", "relative_level")
        known = {name: values[..., wanted] for name in names if (values := vars(self).get(name)) is not None}
        if self._of_same_phase:
            known["phase"] = self._of_same_phase.frames(wanted)
        return Spectrum(self.spectral, **known)


def overlap_added(windows: Tensor, hop: int) -> Tensor:
    """Return the sum of windows ``[B, T, n]`` that begin ``hop`` samples apart: ``[B, (T - 1) * hop + n]``."""
    rows, count, size = windows.shape
    overlap = math.ceil(size / hop)  # windows over one sample
    parts = F.pad(windows, (0, overlap * hop - size)).unflatten(-1, (overlap, hop))
    sums = windows.new_zeros(rows, count + overlap - 1, hop)
    for part in range(overlap):
        sums[:, part : part + count] += parts[:, :, part]
    return sums.flatten(1)[:, : (count - 1) * hop + size]
