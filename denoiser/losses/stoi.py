"""Short-time objective intelligibility, STOI, with a gradient."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from denoiser.spectral import Spectrum

FRAME = 0.0256  # seconds of a frame; frames begin half of it apart
LOWEST, BANDS = 150, 15  # Hz at the middle of the first third of an octave, and the number of them
SEGMENT = 30  # frames that are compared at once
RANGE = 1e-4  # share of the power of the loudest frame, -40 dB: softer frames are pauses
WORST = 10**0.75  # times the clean magnitude, at most: a ratio of signal to distortion of -15 dB
SILENT = 1e-3  # power of a crop, of a noisy signal of RMS 1, with too little speech to be heard
EPSILON = 1e-8


class Stoi(nn.Module):
    """One minus the short-time objective intelligibility, 0 to 2, mean over the batch.

    Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy speech" (2011), at the
    rate of the waveforms instead of 10 kHz. Crops with less than 0.4 s of speech are left out of the mean.
    """

    sees_phase = False

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        rate = clean.spectral.narrow_rate
        heard = clean.waveform.square().mean(-1) > SILENT
        pairs = zip(estimate.waveform[heard], clean.waveform[heard], strict=True)
        lost = [part for pair in pairs if (part := _lost(*pair, rate)) is not None]
        if not lost:
            return estimate.waveform.sum() * 0
        return torch.stack(lost).mean()


def _lost(estimate: Tensor, clean: Tensor, rate: int) -> Tensor | None:
    """Return one minus the STOI of the waveforms ``[N]``, or None if they have less speech than a segment."""
    if clean.shape[-1] < SEGMENT * round(FRAME * rate) // 2:
        return None
    bands = _bands(rate, clean.device)
    x, s = (_frames(waveform, rate) for waveform in (estimate, clean))  # [F, T]
    power = s.square().sum(0)
    spoken = power > RANGE * power.max()
    x, s = ((bands @ part[:, spoken].square() + EPSILON).sqrt() for part in (x, s))  # [bands, T]
    if x.shape[-1] < SEGMENT:
        return None
    x, s = (part.unfold(-1, SEGMENT, 1) for part in (x, s))  # [bands, T, SEGMENT]
    # The estimate is brought to the level of the clean speech, and no error counts for more than the worst.
    x = x * (_norm(s) / _norm(x))
    x = torch.minimum(x, (1 + WORST) * s)
    x, s = (part - part.mean(-1, keepdim=True) for part in (x, s))
    return 1 - ((x / _norm(x)) * (s / _norm(s))).sum(-1).mean()


def _norm(part: Tensor) -> Tensor:
    return (part.square().sum(-1, keepdim=True) + EPSILON).sqrt()


def _frames(waveform: Tensor, rate: int) -> Tensor:
    """Return the magnitudes ``[F, T]`` of the frames of a waveform ``[N]``."""
    size = round(FRAME * rate)
    window = torch.hann_window(size, device=waveform.device)
    spectrum = torch.stft(waveform, 2 * size, size // 2, size, window=window, center=False, return_complex=True)
    return (torch.view_as_real(spectrum).square().sum(-1) + EPSILON).sqrt()


# Tensors that are made in inference mode could not be trained through later.
@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _bands(rate: int, device: torch.device) -> Tensor:
    """Return the bins of each third of an octave ``[bands, F]``."""
    hertz = torch.arange(round(FRAME * rate) + 1, device=device) * (rate / 2 / round(FRAME * rate))
    middles = LOWEST * 2 ** (torch.arange(BANDS, device=device) / 3)
    lower, upper = (middles * 2**sixth for sixth in (-1 / 6, 1 / 6))
    return ((hertz >= lower[:, None]) & (hertz < upper[:, None])).float()
