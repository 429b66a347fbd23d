"""Distances between spectra: of scaled noise magnitudes, and of compressed magnitudes and complex values."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.errors import ConfigError
from denoiser.spectral import Spectrum

# Magnitude where the signal has an RMS of 1. The slope of a power has no bound at 0, so it is linear below this.
LEAST = 1e-3


class NoiseLoss(nn.Module):
    """A distance between the scaled noise of the estimate and the true one, ``[B, F, T]`` in [-1, 1], for any head."""

    sees_phase = False
    distance: nn.Module

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        # Half of the difference fills the range of tanh whichever of the two is louder. Only the target is clamped to
        # it: a clamp of the estimate would have no gradient.
        target = ((noisy.magnitude - clean.magnitude) / 2).clamp(-1, 1)
        return self.distance((noisy.magnitude - estimate.magnitude) / 2, target)


class Huber(NoiseLoss):
    """Huber's distance: quadratic up to ``delta``, linear beyond it."""

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.distance = nn.HuberLoss(delta=delta)


class L1(NoiseLoss):
    """Mean absolute difference."""

    distance = nn.L1Loss()


class MSE(NoiseLoss):
    """Mean squared difference."""

    distance = nn.MSELoss()


class Compressed(nn.Module):
    """Weighted sum of four differences between estimate and clean, of spectra compressed to the scale 0 to 2.

    The first two are those of Braun and Tashev, "A consolidated view of loss functions for supervised deep
    learning-based speech enhancement" (2021); consistency is that of Wisdom et al., "Differentiable consistency
    constraints for improved deep speech enhancement" (2019). Unweighted, they are about 0.05, 0.1, 0.1 and 0.3.

    Arguments are their weights. The ``consistency`` is the complex term after the inverse STFT and another STFT.
    """

    def __init__(
        self, magnitude: float = 1.0, complex: float = 0.3, consistency: float = 0.3, waveform: float = 0.05
    ) -> None:
        super().__init__()
        weights = {"magnitude": magnitude, "complex": complex, "consistency": consistency, "waveform": waveform}
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ConfigError(f"loss=compressed: weights {weights}; expected 0 or more, and one above 0")
        self.weights = weights
        self.sees_phase = complex + consistency + waveform > 0

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        distances = {
            "magnitude": lambda: F.mse_loss(estimate.magnitude, clean.magnitude),
            "complex": lambda: _mean_square(estimate.compressed - clean.compressed),
            "consistency": lambda: _mean_square(_compressed_again(estimate) - _compressed_again(clean)),
            "waveform": lambda: F.l1_loss(estimate.waveform, clean.waveform),
        }
        terms = [weight * distances[name]() for name, weight in self.weights.items() if weight]
        return torch.stack(terms).sum()


def _mean_square(difference: Tensor) -> Tensor:
    return torch.view_as_real(difference).square().mean()


def _compressed_again(spectrum: Spectrum) -> Tensor:
    """Return the compressed complex spectrum of the waveform that ``spectrum`` makes."""
    spectral = spectrum.spectral.narrow()
    linear = spectral.stft(spectrum.waveform, center=False)
    power = (linear.real.square() + linear.imag.square()).clamp(min=LEAST**2)
    return linear * power.pow((spectral.power - 1) / 2) * (2 / spectral.peak)
