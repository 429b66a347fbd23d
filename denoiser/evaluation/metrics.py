"""Metrics of an enhanced waveform against the clean one, for validation, the test and files alike.

A metric takes ``clean`` and ``estimate``, ``[N]`` at ``sample_rate`` Hz; those of DNSMOS need no ``clean``. It is NaN,
and raises nothing, if it is not defined for ``clean``, as where that is silent or too short; a silent ``estimate`` has
the lowest value. :func:`score` takes an estimate that is not finite for a silent one, and also gives NaN where the
package of a metric is not installed.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from denoiser.audio import resample
from denoiser.errors import ConfigError
from denoiser.evaluation import dnsmos
from denoiser.evaluation.composite import llr, lsd, seg_snr, wss

NAN = math.nan
LIMIT = 100.0  # dB; 16 bit hold 98: a higher SI-SDR measures the arithmetic, not the signal
# The package `pesq` writes beyond its table of 50 utterances: recordings of a minute crashed whole processes. An
# utterance and the pause after it take at least 0.39 s, so 49 of them do not fit in 19 s.
PESQ_SECONDS = 19.0
LOWEST_PESQ = 0.999  # limit of the formulas of P.862.1 and P.862.2
STOI_SECONDS = 60.0  # pystoi needs 2 MB per second
DEFAULT = ("pesq", "stoi", "si_sdr")
ANY_RATE = ("stoi", "estoi", "si_sdr", "lsd")  # the others are measured at the rates of PESQ, 8 or 16 kHz


def si_sdr(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019), no mean removed.

    10 log10(|a s|² / |a s - e|²) with a = <e, s> / |s|², which is c² / (1 - c²) for the cosine c between the two.
    Clamped to ±100 dB, so that no mean becomes infinite. A silent estimate has -100 dB.
    """
    s, e = clean.double(), estimate.double()
    if not s.any():
        return NAN
    if not e.any():
        return -LIMIT
    cosine = float(s @ e) / math.sqrt(float(s @ s)) / math.sqrt(float(e @ e))
    floor = 10 ** (-LIMIT / 10)
    return 10 * math.log10(max(cosine**2, floor) / max(1 - cosine**2, floor))


def _in_pieces(measure: Callable[[Tensor, Tensor], float], clean: Tensor, estimate: Tensor, limit: float) -> float:
    """Return the mean of a measure over equal pieces of at most ``limit`` samples, without undefined ones."""
    count = max(1, math.ceil(len(clean) / limit))
    pairs = zip(clean.tensor_split(count), estimate.tensor_split(count), strict=True)
    return average([measure(x.contiguous(), y.contiguous()) if x.any() else NAN for x, y in pairs])


def pesq(clean: Tensor, estimate: Tensor, sample_rate: int, mode: str = "wb") -> float:
    """Return PESQ of ITU-T P.862 by the package ``pesq``.

    ``wb`` is wide-band at 16 kHz (P.862.2, 1 to 4.64), ``nb`` narrow-band (P.862.1, 1 to 4.55), as 8 kHz always
    are. A silent estimate has 0.999, below any other. Beyond 19 s, the mean over equal pieces that are shorter.
    """
    import pesq as package

    def value(x: Tensor, y: Tensor) -> float:
        try:
            return float(package.pesq(sample_rate, x.numpy(), y.numpy(), mode if sample_rate == 16_000 else "nb"))
        except (package.PesqError, ValueError, ZeroDivisionError):
            # No speech found, or shorter than 1/4 s.
            return NAN

    def measure(x: Tensor, y: Tensor) -> float:
        found = value(x, y)
        # The package refuses a silent estimate as well.
        return LOWEST_PESQ if math.isnan(found) and not math.isnan(value(x, x)) else found

    return _in_pieces(measure, clean, estimate, PESQ_SECONDS * sample_rate)


def stoi(clean: Tensor, estimate: Tensor, sample_rate: int, extended: bool = False) -> float:
    """Return short-time objective intelligibility, 0 to 1, by the package ``pystoi`` (Taal et al. 2011).

    ``extended`` is for fluctuating noise (Jensen and Taal 2016). Beyond a minute, the mean over equal, shorter pieces.
    """
    import pystoi

    def measure(x: Tensor, y: Tensor) -> float:
        with warnings.catch_warnings():
            # pystoi warns and answers 1e-5 where fewer than 30 frames hold speech: that is "not defined".
            warnings.simplefilter("error", RuntimeWarning)
            try:
                return float(pystoi.stoi(x.numpy(), y.numpy(), sample_rate, extended))
            except (RuntimeWarning, ValueError, IndexError):
                return NAN

    # Extended STOI adds noise to zeros, drawn from NumPy's global generator.
    state = np.random.get_state()
    np.random.seed(0)
    try:
        return _in_pieces(measure, clean, estimate, STOI_SECONDS * sample_rate)
    finally:
        np.random.set_state(state)


@dataclass(frozen=True)
class Metric:
    """Metric with a ``measure``, or ``weights``: a sum of others and a constant, at ``""``, limited to 1 to 5.

    One with neither is of DNSMOS.
    """

    heading: str
    definition: str  # one line
    measure: Callable[[Tensor, Tensor, int], float] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    packages: tuple[str, ...] = ()  # of the extra `metrics`
    digits: int = 2


# The constants of Hu and Loizou (2008), fitted to what listeners said under ITU-T P.835.
CSIG = {"": 3.093, "pesq": 0.603, "llr": -1.029, "wss": -0.009}
CBAK = {"": 1.634, "pesq": 0.478, "wss": -0.007, "seg_snr": 0.063}
COVL = {"": 1.594, "pesq": 0.805, "llr": -0.512, "wss": -0.007}
METRICS: dict[str, Metric] = {
    "pesq": Metric("PESQ", "PESQ-WB, ITU-T P.862.2 at 16 kHz (P.862 at 8 kHz), 1 to 4.64", pesq, packages=("pesq",)),
    "pesq_nb": Metric("PESQ-NB", "ITU-T P.862 and P.862.1, 1 to 4.55", partial(pesq, mode="nb"), packages=("pesq",)),
    "stoi": Metric("STOI", "short-time objective intelligibility, 0 to 1", stoi, packages=("pystoi",), digits=3),
    "estoi": Metric("ESTOI", "extended STOI, 0 to 1", partial(stoi, extended=True), packages=("pystoi",), digits=3),
    "si_sdr": Metric("SI-SDR dB", "scale-invariant signal-to-distortion ratio, no mean removed, ±100 dB", si_sdr),
    "seg_snr": Metric("SSNR dB", "segmental SNR, all frames of 30 ms by 7.5 ms, each within -10 to 35 dB", seg_snr),
    "csig": Metric("CSIG", "signal distortion, 1 to 5 (Hu and Loizou 2008)", weights=CSIG, packages=("pesq",)),
    "cbak": Metric("CBAK", "background intrusiveness, 1 to 5 (Hu and Loizou 2008)", weights=CBAK, packages=("pesq",)),
    "covl": Metric("COVL", "overall quality, 1 to 5 (Hu and Loizou 2008)", weights=COVL, packages=("pesq",)),
    "llr": Metric("LLR", "log-likelihood ratio of linear predictors, lowest 95 % of frames", llr),
    "wss": Metric("WSS", "weighted spectral slope, 25 critical bands, lowest 95 % of frames", wss),
    "lsd": Metric("LSD dB", "log-spectral distance, RMS over frequency, mean over frames of 30 ms, range 50 dB", lsd),
    "dnsmos_sig": Metric("SIG", "DNSMOS P.835 rating of the voice, 1 to 5", packages=dnsmos.PACKAGES),
    "dnsmos_bak": Metric("BAK", "DNSMOS P.835 rating of the background, 1 to 5", packages=dnsmos.PACKAGES),
    "dnsmos_ovrl": Metric("OVRL", "DNSMOS P.835 rating overall, 1 to 5", packages=dnsmos.PACKAGES),
}


def missing_package(name: str) -> str | None:
    """Return the package that a metric needs and that is not installed, or None."""
    packages = METRICS[name].packages if name in METRICS else ()
    return next((package for package in packages if find_spec(package) is None), None)


def check_names(names: Sequence[str]) -> None:
    """Raise ConfigError if a metric does not exist."""
    if unknown := [name for name in names if name not in METRICS]:
        raise ConfigError(f"metric {', '.join(unknown)} is unknown; there are: {', '.join(METRICS)}")


@torch.no_grad()
def score(clean: Tensor | None, estimate: Tensor, sample_rate: int, names: Sequence[str] = DEFAULT) -> dict[str, float]:
    """Return the named metrics of one waveform ``[N]`` against its clean reference, or of DNSMOS without one."""
    estimate = estimate.detach().float().cpu()
    clean = torch.zeros_like(estimate) if clean is None else clean.detach().float().cpu()
    if not torch.isfinite(estimate).all():
        # Left out of a mean, it would count less than a bad one.
        estimate = torch.zeros_like(estimate)
    has_reference = bool(clean.any()) and bool(torch.isfinite(clean).all())
    given = at_speech_rate = (clean, estimate, sample_rate)
    if sample_rate not in (8_000, 16_000):
        at_speech_rate = (resample(clean, sample_rate, 16_000), resample(estimate, sample_rate, 16_000), 16_000)

    @cache
    def ratings() -> dict[str, float]:
        return dnsmos.ratings(resample(estimate, sample_rate, dnsmos.RATE))

    @cache
    def value(name: str) -> float:
        if name in dnsmos.NAMES:
            return ratings()[name]
        if not has_reference or missing_package(name):
            return NAN
        metric = METRICS[name]
        if metric.measure:
            return metric.measure(*(given if name in ANY_RATE else at_speech_rate))
        total = sum(weight * (value(part) if part else 1.0) for part, weight in metric.weights.items())
        return total if math.isnan(total) else min(max(total, 1.0), 5.0)

    return {name: value(name) for name in names}


def mean(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the :func:`average` of each metric over the rows."""
    return {name: average([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def average(values: Sequence[float]) -> float:
    """Return the mean of the values that are defined, else NaN; their order has no effect."""
    defined = [value for value in values if math.isfinite(value)]
    return math.fsum(defined) / len(defined) if defined else NAN
