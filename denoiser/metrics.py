"""How good an enhanced waveform is. One definition, used in validation, in the test and on files.

A metric takes ``clean`` and ``estimate``, ``[N]`` at ``sample_rate`` Hz, and returns a float: NaN where
it is not defined (a silent or too short reference) or its package is not installed, never an exception.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from denoiser.audio import resample
from denoiser.errors import ConfigError

NAN = math.nan


def si_sdr(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), no mean removed (torchmetrics)."""
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio  # takes a second to load

    return float(scale_invariant_signal_distortion_ratio(estimate.double(), clean.double()))


def pesq(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Wide-band PESQ (ITU-T P.862.2, 1.04 to 4.64) at 16 kHz; at 8 kHz the narrow-band P.862 (``pesq`` package)."""
    try:
        import pesq as package
    except ImportError:
        return NAN
    if sample_rate not in (8_000, 16_000):
        clean, estimate = (resample(x, sample_rate, 16_000) for x in (clean, estimate))
        sample_rate = 16_000
    try:
        return float(
            package.pesq(sample_rate, clean.numpy(), estimate.numpy(), "wb" if sample_rate == 16_000 else "nb")
        )
    except (package.PesqError, ValueError, ZeroDivisionError):  # no speech found, or shorter than 1/4 s
        return NAN


def stoi(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Short-time objective intelligibility, 0 to 1 (Taal et al. 2011; ``pystoi`` package)."""
    try:
        import pystoi
    except ImportError:
        return NAN
    with warnings.catch_warnings():
        # pystoi warns and answers 1e-5 where fewer than 30 frames hold speech: that is "not defined".
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clean.numpy(), estimate.numpy(), sample_rate))
        except (RuntimeWarning, ValueError, IndexError):
            return NAN


Metric = Callable[[Tensor, Tensor, int], float]
METRICS: dict[str, Metric] = {"pesq": pesq, "stoi": stoi, "si_sdr": si_sdr}


PACKAGES = {"pesq": "pesq", "stoi": "pystoi"}  # of the extra `metrics`


def missing_package(name: str) -> str | None:
    """The package a metric needs and that is not installed, if so."""
    package = PACKAGES.get(name)
    return package if package and find_spec(package) is None else None


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError for a metric that does not exist."""
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"metric {', '.join(unknown)} is unknown; there are: {', '.join(METRICS)}")


def score(clean: Tensor, estimate: Tensor, sample_rate: int, names: Sequence[str] = tuple(METRICS)) -> dict[str, float]:
    """The named metrics of one waveform ``[N]`` against its clean reference."""
    clean, estimate = clean.detach().float().cpu(), estimate.detach().float().cpu()
    if not clean.any():
        return dict.fromkeys(names, NAN)
    with torch.no_grad():
        return {name: METRICS[name](clean, estimate, sample_rate) for name in names}


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each metric over those rows where it is defined; NaN where it is nowhere."""
    result = {}
    for name in rows[0] if rows else ():
        values = [row[name] for row in rows if math.isfinite(row[name])]
        result[name] = sum(values) / len(values) if values else NAN
    return result
