"""Losses between the estimated spectrum and the clean one, means over all of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.errors import ConfigError, building
from denoiser.losses.pmsqe import Pmsqe
from denoiser.spectral import Spectral, Spectrum


class OnNoise(nn.Module):
    """A distance between the scaled noises, noisy - estimate and noisy - clean: of magnitudes alone, for any head.

    Args:
        distance: ``huber``, ``l1`` or ``mse``.
        delta: where ``huber`` turns from quadratic to linear.
    """

    def __init__(self, distance: str, delta: float = 1.0) -> None:
        super().__init__()
        kinds = {"huber": nn.HuberLoss(delta=delta), "l1": nn.L1Loss(), "mse": nn.MSELoss()}
        self.distance = kinds[distance]

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        # Only the target is clamped to what tanh can reach: a clamp of the estimate would have no gradient.
        target = Spectral.difference(noisy.magnitude, clean.magnitude)
        return self.distance((noisy.magnitude - estimate.magnitude) / 2, target)


class Compressed(nn.Module):
    """Of compressed spectra, the squared difference of magnitudes and of complex values; and of what becomes of both
    through the inverse STFT.

    Braun and Tashev, "A consolidated view of loss functions for supervised deep learning-based speech enhancement"
    (2021), for the first two; consistency as Wisdom et al., "Differentiable consistency constraints for improved deep
    speech enhancement" (2019): the complex term, of the spectrum that the estimated waveform has. Each is a mean over
    bins, of spectra on the scale 0 to 2; the waveform's is a mean over samples, of a noisy signal of RMS 1.

    Args:
        magnitude, complex, consistency, waveform: weights; 0 leaves a term out, and what only it needs. By these the
            four are of one size on noisy speech (0.05, 0.1, 0.1 and 0.3, unweighted), the magnitude the largest.
    """

    def __init__(
        self, magnitude: float = 1.0, complex: float = 0.3, consistency: float = 0.3, waveform: float = 0.05
    ) -> None:
        super().__init__()
        weights = {"magnitude": magnitude, "complex": complex, "consistency": consistency, "waveform": waveform}
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ConfigError(f"loss=compressed: weights {weights}; expected 0 or more, and one above 0")
        self.weights = weights

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        weights = self.weights
        terms = []
        if weights["magnitude"]:
            terms.append(weights["magnitude"] * F.mse_loss(estimate.magnitude, clean.magnitude))
        if weights["complex"]:
            terms.append(weights["complex"] * _squared(estimate.compressed - clean.compressed))
        if weights["consistency"]:
            both = (_compressed(part.waveform, part.spectral) for part in (estimate, clean))
            terms.append(weights["consistency"] * _squared(next(both) - next(both)))
        if weights["waveform"]:
            terms.append(weights["waveform"] * F.l1_loss(estimate.waveform, clean.waveform))
        return torch.stack(terms).sum()


class SiSdr(nn.Module):
    """Minus the scale-invariant signal-to-distortion ratio, dB over 10, mean over the batch.

    Le Roux et al., "SDR - half-baked or well done?" (2019). Crops without speech, where it has no meaning, count for
    nothing.
    """

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        x, s = (part.waveform - part.waveform.mean(-1, keepdim=True) for part in (estimate, clean))
        power = s.square().sum(-1, keepdim=True)
        target = (x * s).sum(-1, keepdim=True) / (power + EPSILON) * s
        ratio = (target.square().sum(-1) + EPSILON) / ((x - target).square().sum(-1) + EPSILON)
        heard = power[:, 0] > SILENT * s.shape[-1]
        return -(torch.log10(ratio) * heard).sum() / heard.sum().clamp(min=1)


class MultiResolution(nn.Module):
    """Spectral convergence and the L1 distance of log magnitudes, mean over several windows, of the waveforms.

    Yamamoto, Song and Kim, "Parallel WaveGAN" (2020).

    Args:
        windows: samples; each moves on by a quarter.
    """

    def __init__(self, windows: tuple[int, ...] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.windows = tuple(windows)

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        return torch.stack([self._one(estimate.waveform, clean.waveform, size) for size in self.windows]).mean()

    @staticmethod
    def _one(x: Tensor, s: Tensor, size: int) -> Tensor:
        window = torch.hann_window(size, device=x.device)
        a, b = (
            torch.stft(w, size, size // 4, window=window, return_complex=True).abs().square().clamp(min=1e-7).sqrt()
            for w in (x, s)
        )
        convergence = (a - b).norm() / b.norm()
        return convergence + F.l1_loss(a.log(), b.log())


class Sum(nn.Module):
    """Several losses at once.

    Args:
        terms: of each loss, by name, its ``weight`` and its arguments; None leaves it out.
    """

    def __init__(self, terms: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        chosen = {name: options for name, options in terms.items() if options is not None}
        for name, options in chosen.items():
            if not isinstance(options, Mapping):
                raise ConfigError(f"loss.terms.{name}={options}: expected its settings, as {{weight: {options}}}")
        self.weights = {name: float(options.get("weight", 1.0)) for name, options in chosen.items()}
        if not any(self.weights.values()):
            raise ConfigError(f"loss 'sum': no term has a weight; there are: {', '.join(terms) or 'none'}")
        self.terms = nn.ModuleDict(
            {name: build(name, **{k: v for k, v in o.items() if k != "weight"}) for name, o in chosen.items()}
        )

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        parts = [weight * self.terms[name](estimate, clean, noisy) for name, weight in self.weights.items() if weight]
        return torch.stack(parts).sum()


def _squared(difference: Tensor) -> Tensor:
    return torch.view_as_real(difference).square().mean()


def _compressed(waveform: Tensor, spectral: Spectral) -> Tensor:
    """As :attr:`Spectrum.compressed`, but linear below :data:`LEAST`: there the slope of a power has no bound."""
    linear = spectral.stft(waveform, center=False)
    modulus = (linear.real.square() + linear.imag.square()).clamp(min=LEAST**2)
    return linear * modulus.pow((spectral.power - 1) / 2) * (2 / spectral.peak)


LEAST = 1e-3  # of a spectrum whose signal has an RMS of 1
EPSILON, SILENT = 1e-8, 1e-6  # of a noisy signal of RMS 1: -60 dB is no speech
LOSSES: dict[str, Any] = {
    "huber": lambda delta=1.0: OnNoise("huber", delta),
    "l1": lambda: OnNoise("l1"),
    "mse": lambda: OnNoise("mse"),
    "compressed": Compressed,
    "si_sdr": SiSdr,
    "mrstft": MultiResolution,
    "pmsqe": Pmsqe,
    "sum": Sum,
}


def build(name: str, **arguments: Any) -> nn.Module:
    """The loss of this name, a module of ``(estimate, clean, noisy) -> scalar``, each a :class:`Spectrum`."""
    with building("loss", LOSSES, name, arguments) as loss:
        return loss(**arguments)
