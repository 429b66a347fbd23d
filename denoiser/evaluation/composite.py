"""Frame-wise distances between an estimate and clean speech: LLR, WSS, segmental SNR, LSD.

The first three are parts of the composite ratings of Y. Hu and P. C. Loizou, "Evaluation of objective quality measures
for speech enhancement", IEEE Trans. Audio, Speech, Lang. Process. 16(1), 2008. Where the paper and the authors' program
differ, they follow the program, from which all published ratings come:

- A frame has W samples, 30 ms, under a Hann window, 0.5 - 0.5 cos(2 π n / (W + 1)) for n = 1 ... W, and starts
  H = W // 4 after the one before; there are (N - W) // H of them, without the last whole one.
- Waveforms have full scale at ±1. Neither level nor delay is matched.
- LLR and WSS are the mean of the lowest 95 % of their frames, segmental SNR the mean of all.

Every measure takes ``clean`` and ``estimate``, ``[N]`` at ``sample_rate`` Hz, and is NaN without a frame.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024  # frames computed at once, so that an hour needs no more memory than a minute
KEPT = 0.95  # share of the frames, sorted
# White noise added to a frame, as a share of its power: the predictor of a pure tone stays computable.
WHITE = 1e-12
EPS = torch.finfo(torch.float64).eps

# Klatt's critical bands as the authors' program has them, Hz.
CENTRES = (
    50, 120, 190, 260, 330, 400, 470, 540, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30, 1288.72, 1442.54,
    1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
)  # fmt: skip
WIDTHS = (
    70, 70, 70, 70, 70, 70, 70, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823, 168.154,
    183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
)  # fmt: skip


def _frames(clean: Tensor, estimate: Tensor, sample_rate: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield windowed frames of both, float64 ``[T, W]``, at most ``BLOCK`` at a time."""
    width = round(0.030 * sample_rate)
    hop = width // 4
    count = (len(clean) - width) // hop if hop else 0
    # Without the zeros at both ends.
    window = torch.hann_window(width + 2, periodic=False, dtype=torch.float64)[1:-1]
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count) - 1
        part = slice(first * hop, last * hop + width)
        x = clean[part].double().unfold(0, width, hop) * window
        y = estimate[part].double().unfold(0, width, hop) * window
        yield x, y


def _lowest(blocks: list[Tensor]) -> float:
    """Return the mean of the lowest 95 % of the frames' values."""
    if not blocks:
        return math.nan
    values = torch.cat(blocks).sort().values
    return float(values[: max(1, math.floor(KEPT * len(values) + 0.5))].mean())


def llr(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Return the log-likelihood ratio of linear predictors, 0 or more, lower is better.

    Per frame, ln(b' R b / a' R a), where R is the autocorrelation matrix of the clean frame, a its linear predictor and
    b the estimate's, of order 16 (10 below 10 kHz). Not bounded above. Digital silence counts as white noise.
    """
    order = 10 if sample_rate < 10_000 else 16
    found = []
    for x, y in _frames(clean, estimate, sample_rate):
        r = _autocorrelation(x, order)
        a, b = _predictor(r), _predictor(_autocorrelation(y, order))
        # Below 0 only by rounding.
        found.append(torch.log(_error(b, r) / _error(a, r)).clamp(min=0))
    return _lowest(found)


def _power(x: Tensor) -> Tensor:
    """Return the power spectrum of ``[T, W]``, padded to the power of two that holds a frame twice, ``[T, F]``."""
    return torch.fft.rfft(x, 2 ** math.ceil(math.log2(2 * x.shape[1]))).abs() ** 2


def _autocorrelation(x: Tensor, order: int) -> Tensor:
    """Return lags 0 to ``order`` of ``[T, W]``, ``[T, order + 1]``, with a trace of white noise."""
    lags = torch.fft.irfft(_power(x))[:, : order + 1].clone()
    # EPS: digital silence becomes the quietest white noise.
    lags[:, 0] += WHITE * lags[:, 0] + EPS**2
    return lags


def _predictor(r: Tensor) -> Tensor:
    """Return the prediction error filters 1, a1 ... aP of lags, both ``[T, P + 1]``, by Levinson-Durbin recursion."""
    a = torch.zeros_like(r)
    a[:, 0] = 1
    error = r[:, 0].clone()
    for i in range(1, r.shape[1]):
        reflection = -(a[:, :i] * r[:, 1 : i + 1].flip(1)).sum(1) / error
        a[:, 1 : i + 1] = a[:, 1 : i + 1] + reflection[:, None] * a[:, :i].flip(1)
        error = error * (1 - reflection**2)
    return a


def _error(a: Tensor, r: Tensor) -> Tensor:
    """Return a' R a for the Toeplitz matrix R of the lags ``r``: the power that the filter ``a`` leaves, ``[T]``."""
    order = a.shape[1]
    own = torch.stack([(a[:, : order - lag] * a[:, lag:]).sum(1) for lag in range(order)], dim=1)
    return 2 * (own * r).sum(1) - own[:, 0] * r[:, 0]


def wss(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Return the weighted spectral slope distance, 0 or more, lower is better (D. H. Klatt, ICASSP 1982).

    Per frame, Σ w (slope - slope')² / Σ w over the 24 slopes in dB between 25 Gaussian critical bands up to 3.6 kHz
    (gains below -30 dB are dropped), where w is the mean over clean and estimate of
    20 / (20 + dB below the frame's maximum) · 1 / (1 + dB below the nearest peak).
    """
    found = []
    for frames in _frames(clean, estimate, sample_rate):
        clean_level, level = (_band_levels(x, sample_rate) for x in frames)
        clean_slope, slope = clean_level.diff(dim=1), level.diff(dim=1)
        weight = (_weights(clean_level, clean_slope) + _weights(level, slope)) / 2
        found.append((weight * (clean_slope - slope) ** 2).sum(1) / weight.sum(1))
    return _lowest(found)


def _bands(sample_rate: int, bins: int) -> Tensor:
    """Return the gains of the critical bands, all of one area, ``[bins, 25]``."""
    hertz = sample_rate / 2 / bins
    widths = torch.tensor(WIDTHS, dtype=torch.float64)
    centres = (torch.tensor(CENTRES, dtype=torch.float64) / hertz).floor()
    distance = (torch.arange(bins, dtype=torch.float64)[:, None] - centres) / (widths / hertz)
    gains = torch.exp(-11 * distance**2) * widths[0] / widths
    return torch.where(gains > math.exp(-30 / (2 * 2.303)), gains, 0.0)


def _band_levels(x: Tensor, sample_rate: int) -> Tensor:
    """Return the energies of the bands of windowed frames ``[T, W]`` in dB, at least -100, ``[T, 25]``."""
    power = _power(x)[:, :-1]
    return 10 * torch.log10((power @ _bands(sample_rate, power.shape[1])).clamp(min=1e-10))


def _weights(level: Tensor, slope: Tensor) -> Tensor:
    """Return the weight of each slope, ``[T, 24]``, from levels ``[T, 25]`` and slopes ``[T, 24]``."""
    here = level[:, :-1]
    rising = slope > 0
    # In a fall the nearest peak is the band where the fall began. In a rise it is the last band with a rise after it,
    # one before the true peak: an error of the authors' program, and so of all published numbers.
    peak = here.clone()
    for i in range(1, here.shape[1]):
        peak[:, i] = torch.where(rising[:, i] | rising[:, i - 1], here[:, i], peak[:, i - 1])
    for i in range(here.shape[1] - 2, -1, -1):
        peak[:, i] = torch.where(rising[:, i] & rising[:, i + 1], peak[:, i + 1], peak[:, i])
    return 20 / (20 + level.amax(1, keepdim=True) - here) / (1 + peak - here)


def seg_snr(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Return the mean SNR of all frames in dB, each clamped to -10 to 35; a frame of clean digital silence has -10."""
    found = []
    for x, y in _frames(clean, estimate, sample_rate):
        ratio = (x**2).sum(1) / (((x - y) ** 2).sum(1) + EPS)
        found.append((10 * torch.log10(ratio + EPS)).clamp(-10, 35))
    return float(torch.cat(found).mean()) if found else math.nan


def lsd(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Return the log-spectral distance in dB, 0 or more, lower is better (A. H. Gray and J. D. Markel, 1976).

    Mean over frames of the RMS over frequency of the difference in dB. Level counts. Points more than 50 dB below the
    loudest point of the clean spectrogram count as 50 dB below it (I. Cohen, 2003).
    """
    powers = [(torch.fft.rfft(x).abs() ** 2).amax() for x, _ in _frames(clean, estimate, sample_rate)]
    floor = float(max(powers)) * 1e-5 if powers else 0.0
    if not floor > 0:
        return math.nan
    found = []
    for frames in _frames(clean, estimate, sample_rate):
        x, y = (10 * torch.log10((torch.fft.rfft(f).abs() ** 2).clamp(min=floor)) for f in frames)
        found.append(((x - y) ** 2).mean(1).sqrt())
    return float(torch.cat(found).mean())
