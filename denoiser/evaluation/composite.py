"""How far an estimate is from clean speech, frame by frame: LLR, WSS, segmental SNR, LSD.

The first three are the ingredients of the composite ratings of Y. Hu and P. C. Loizou, "Evaluation of objective
quality measures for speech enhancement", IEEE Trans. Audio, Speech, Lang. Process. 16(1), 2008. Published ratings
come from the program that its authors gave away, so where paper and program differ, this follows the program:

- A frame has W samples, 30 ms, under a Hann window, 0.5 - 0.5 cos(2 π n / (W + 1)) for n = 1 ... W, and starts
  H = W // 4 after the one before; there are (N - W) // H of them, which leaves out the last whole one.
- Waveforms have full scale at ±1, and are taken as they are: no level or delay is matched.
- LLR and WSS are the mean of the lowest 95 % of their frames, segmental SNR that of all.

Every measure takes ``clean`` and ``estimate``, ``[N]`` at ``sample_rate`` Hz, and is NaN where there is no frame.
Nothing is larger than ``BLOCK`` frames, so that an hour needs no more memory than a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024  # frames
KEPT = 0.95  # of the frames, sorted
WHITE = 1e-12  # of a frame's power, added to it as white noise: the predictor of a pure tone stays computable
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
    """Windowed frames of both, float64 ``[T, W]``, at most ``BLOCK`` at a time."""
    width = round(0.030 * sample_rate)
    hop = width // 4
    count = (len(clean) - width) // hop if hop else 0
    window = torch.hann_window(width + 2, periodic=False, dtype=torch.float64)[1:-1]  # its zeros left out
    for first in range(0, count, BLOCK):
        last = min(first + BLOCK, count) - 1
        part = slice(first * hop, last * hop + width)
        x, y = (w[part].double().unfold(0, width, hop) * window for w in (clean, estimate))
        yield x, y


def _lowest(blocks: list[Tensor]) -> float:
    """The mean of the lowest 95 % of the frames' values."""
    if not blocks:
        return math.nan
    values = torch.cat(blocks).sort().values
    return float(values[: max(1, math.floor(KEPT * len(values) + 0.5))].mean())


def llr(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Log-likelihood ratio, 0 or more, lower is better: how ill the estimate's linear predictor suits clean speech.

    Per frame, ln(b' R b / a' R a), where R is the autocorrelation matrix of the clean frame, a its linear
    predictor and b the estimate's, of order 16 (10 below 10 kHz). Not bounded above, as in the authors' program.
    Digital silence counts as white noise.
    """
    order = 10 if sample_rate < 10_000 else 16
    found = []
    for x, y in _frames(clean, estimate, sample_rate):
        r = _autocorrelation(x, order)
        a, b = _predictor(r), _predictor(_autocorrelation(y, order))
        found.append(torch.log(_error(b, r) / _error(a, r)).clamp(min=0))  # below 0 only by rounding
    return _lowest(found)


def _fft_size(width: int) -> int:
    """The power of two that holds a frame twice."""
    return 2 ** math.ceil(math.log2(2 * width))


def _autocorrelation(x: Tensor, order: int) -> Tensor:
    """``[T, W]`` → lags 0 to ``order``, ``[T, order + 1]``, with a trace of white noise."""
    lags = torch.fft.irfft(torch.fft.rfft(x, _fft_size(x.shape[1])).abs() ** 2)[:, : order + 1].clone()
    lags[:, 0] += WHITE * lags[:, 0] + EPS**2  # EPS: digital silence becomes the quietest white noise
    return lags


def _predictor(r: Tensor) -> Tensor:
    """Levinson and Durbin's recursion: lags ``[T, P + 1]`` → prediction error filters 1, a1 ... aP, ``[T, P + 1]``."""
    a = torch.zeros_like(r)
    a[:, 0] = 1
    error = r[:, 0].clone()
    for i in range(1, r.shape[1]):
        reflection = -(a[:, :i] * r[:, 1 : i + 1].flip(1)).sum(1) / error
        a[:, 1 : i + 1] = a[:, 1 : i + 1] + reflection[:, None] * a[:, :i].flip(1)
        error = error * (1 - reflection**2)
    return a


def _error(a: Tensor, r: Tensor) -> Tensor:
    """a' R a for the Toeplitz matrix R of the lags ``r``: the power that the filter ``a`` leaves, ``[T]``."""
    order = a.shape[1]
    own = torch.stack([(a[:, : order - lag] * a[:, lag:]).sum(1) for lag in range(order)], dim=1)
    return 2 * (own * r).sum(1) - own[:, 0] * r[:, 0]


def wss(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Weighted spectral slope, 0 or more, lower is better (D. H. Klatt, ICASSP 1982): formants that moved count most.

    Per frame, the energies of 25 critical bands up to 3.6 kHz in dB, Gaussian bands of which less than -30 dB is
    dropped; their 24 slopes, from one band to the next; and Σ w (slope - slope')² / Σ w, where w is the mean over
    clean and estimate of 20 / (20 + dB below the frame's maximum) · 1 / (1 + dB below the nearest peak).
    """
    found = []
    for frames in _frames(clean, estimate, sample_rate):
        levels = [_band_levels(x, sample_rate) for x in frames]
        slopes = [level.diff(dim=1) for level in levels]
        weight = torch.stack([_weights(*side) for side in zip(levels, slopes, strict=True)]).mean(0)
        found.append((weight * (slopes[0] - slopes[1]) ** 2).sum(1) / weight.sum(1))
    return _lowest(found)


def _bands(sample_rate: int, bins: int) -> Tensor:
    """Gains of the critical bands, all of one area, ``[bins, 25]``."""
    hertz = sample_rate / 2 / bins
    widths = torch.tensor(WIDTHS, dtype=torch.float64)
    centres = (torch.tensor(CENTRES, dtype=torch.float64) / hertz).floor()
    distance = (torch.arange(bins, dtype=torch.float64)[:, None] - centres) / (widths / hertz)
    gains = torch.exp(-11 * distance**2) * widths[0] / widths
    return torch.where(gains > math.exp(-30 / (2 * 2.303)), gains, 0.0)


def _band_levels(x: Tensor, sample_rate: int) -> Tensor:
    """Windowed frames ``[T, W]`` → energies of the bands in dB, at least -100, ``[T, 25]``."""
    power = torch.fft.rfft(x, _fft_size(x.shape[1]))[:, :-1].abs() ** 2
    return 10 * torch.log10((power @ _bands(sample_rate, power.shape[1])).clamp(min=1e-10))


def _weights(level: Tensor, slope: Tensor) -> Tensor:
    """Levels ``[T, 25]`` and their slopes ``[T, 24]`` → how much each slope counts, ``[T, 24]``."""
    here = level[:, :-1]
    rising = slope > 0
    # Where it falls (or is level), the nearest peak is the band where that began; where it rises, the last band
    # from which it still does: one before the peak. So in the authors' program, so in all published numbers.
    peak = here.clone()
    for i in range(1, here.shape[1]):
        peak[:, i] = torch.where(rising[:, i] | rising[:, i - 1], here[:, i], peak[:, i - 1])
    for i in range(here.shape[1] - 2, -1, -1):
        peak[:, i] = torch.where(rising[:, i] & rising[:, i + 1], peak[:, i + 1], peak[:, i])
    return 20 / (20 + level.amax(1, keepdim=True) - here) / (1 + peak - here)


def seg_snr(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Segmental SNR in dB: the mean over all frames, pauses too, of the frame's SNR, each held within -10 to 35 dB.

    A frame where the clean waveform is digital silence counts as -10, as in the authors' program.
    """
    found = []
    for x, y in _frames(clean, estimate, sample_rate):
        ratio = (x**2).sum(1) / (((x - y) ** 2).sum(1) + EPS)
        found.append((10 * torch.log10(ratio + EPS)).clamp(-10, 35))
    return float(torch.cat(found).mean()) if found else math.nan


def lsd(clean: Tensor, estimate: Tensor, sample_rate: int) -> float:
    """Log-spectral distance in dB, 0 or more, lower is better (A. H. Gray and J. D. Markel, 1976): level counts.

    The mean over frames of the RMS over frequency of the difference in dB, where what is more than 50 dB below
    the loudest point of the clean spectrogram counts as 50 dB below it (I. Cohen, 2003).
    """
    powers = [(torch.fft.rfft(x).abs() ** 2).amax() for x, _ in _frames(clean, estimate, sample_rate)]
    if not powers or not (floor := float(max(powers)) * 1e-5) > 0:
        return math.nan
    found = []
    for frames in _frames(clean, estimate, sample_rate):
        x, y = (10 * torch.log10((torch.fft.rfft(f).abs() ** 2).clamp(min=floor)) for f in frames)
        found.append(((x - y) ** 2).mean(1).sqrt())
    return float(torch.cat(found).mean())
