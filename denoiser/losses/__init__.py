"""Losses between the estimated and the clean spectrum.

Each is a module of ``(estimate, clean, noisy) -> scalar``, a mean over the batch; all three arguments are a
:class:`~denoiser.spectral.Spectrum`. A loss whose value does not depend on the phase of the estimate says so by
``sees_phase = False``: under it a head that estimates the phase learns nothing about it.
"""

from denoiser.losses.compressed import Compressed
from denoiser.losses.mrstft import MultiResolution
from denoiser.losses.noise import L1, MSE, Huber
from denoiser.losses.pmsqe import Pmsqe
from denoiser.losses.si_sdr import SiSdr
from denoiser.losses.sum import WeightedSum, sees_phase

__all__ = ["L1", "MSE", "Compressed", "Huber", "MultiResolution", "Pmsqe", "SiSdr", "WeightedSum", "sees_phase"]
