"""Losses between the estimated and the clean spectrum.

Each is a module of ``(estimate, clean, noisy) -> scalar``, a mean over the batch; all three arguments are a
:class:`~denoiser.spectral.Spectrum`. A loss whose value hardly depends on the phase of the estimate says so by
``sees_phase = False``: under it a head that estimates the phase learns nothing about it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from denoiser.errors import ConfigError
from denoiser.losses.dnsmos import Dnsmos
from denoiser.losses.pmsqe import Pmsqe
from denoiser.losses.spectra import L1, MSE, Compressed, Huber
from denoiser.losses.stoi import Stoi
from denoiser.losses.waveforms import MultiResolution, SiSdr, UpperSdr
from denoiser.spectral import Spectrum

__all__ = [
    "L1",
    "MSE",
    "Compressed",
    "Dnsmos",
    "Huber",
    "MultiResolution",
    "Pmsqe",
    "SiSdr",
    "Stoi",
    "UpperSdr",
    "WeightedSum",
    "sees_phase",
]


class WeightedSum(nn.Module):
    """Several losses: ``terms`` are, by any name, ``{"loss": module, "weight": 1.0}``, or None to leave one out."""

    def __init__(self, terms: Mapping[str, Mapping[str, Any] | None]) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}
        self.terms = nn.ModuleDict()
        for name, term in terms.items():
            if term is None:
                continue
            if not isinstance(term, Mapping) or not isinstance(term.get("loss"), nn.Module):
                raise ConfigError(f"loss.terms.{name}: expected its weight and its loss, which a _target_ names")
            weight = float(term.get("weight", 1.0))
            if weight:
                self.weights[name] = weight
                self.terms[name] = term["loss"]
        if not self.weights:
            raise ConfigError(f"loss=sum: no term has a weight; there are: {', '.join(terms) or 'none'}")
        self.sees_phase = any(map(sees_phase, self.terms.values()))

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        parts = [weight * self.terms[name](estimate, clean, noisy) for name, weight in self.weights.items()]
        return torch.stack(parts).sum()


def sees_phase(loss: nn.Module) -> bool:
    """Return False where a loss says that its value does not depend on the phase of the estimate."""
    return bool(getattr(loss, "sees_phase", True))
