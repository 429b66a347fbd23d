"""Distances between waveforms: ratios of signal to distortion, and magnitudes at several resolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.spectral import Spectrum

EPSILON = 1e-8
SILENT = 1e-6  # power of clean speech, of a noisy signal of RMS 1: below -60 dB there is no speech


class SiSdr(nn.Module):
    """Minus the scale-invariant signal-to-distortion ratio of the waveforms, dB over 10, mean over the batch.

    Le Roux et al., "SDR - half-baked or well done?" (2019). Crops without speech are left out of the mean.
    """

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        x = estimate.waveform - estimate.waveform.mean(-1, keepdim=True)
        s = clean.waveform - clean.waveform.mean(-1, keepdim=True)
        power = s.square().sum(-1, keepdim=True)
        target = (x * s).sum(-1, keepdim=True) / (power + EPSILON) * s
        ratio = (target.square().sum(-1) + EPSILON) / ((x - target).square().sum(-1) + EPSILON)
        heard = power[:, 0] > SILENT * s.shape[-1]
        return -(torch.log10(ratio) * heard).sum() / heard.sum().clamp(min=1)


class UpperSdr(nn.Module):
    """Minus the signal-to-distortion ratio of all that the bands hold, dB over 10, mean over the batch.

    It compares bins: those of the noisy sound with the gains of the bands, and those of the clean one. Losses of
    compressed magnitudes alone turn the loudest consonants down too far. Crops without speech there, in bands that
    count, are left out of the mean, and without bands it is 0.
    """

    sees_phase = False

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        if noisy.upper is None or clean.upper is None:
            return estimate.magnitude.new_zeros(())
        bands = noisy.spectral.bands
        assert bands is not None
        enhanced = noisy.spectral.upper_gains(estimate.magnitude, noisy) * noisy.upper
        counted = 1.0 if estimate.own_bands is None else bands.spread(estimate.own_bands)
        compared = (noisy.upper, clean.upper, enhanced - clean.upper)
        total, power, error = (_power(counted * bins) for bins in compared)
        heard = power > SILENT * total
        ratio = torch.log10(power.clamp(min=1e-20) / (error + EPSILON * power + 1e-20))
        return -(ratio * heard).sum() / heard.sum().clamp(min=1)


def _power(bins: Tensor) -> Tensor:
    return torch.view_as_real(bins).square().sum((-3, -2, -1))


class MultiResolution(nn.Module):
    """Spectral convergence plus the L1 distance of log magnitudes, mean over several ``windows``, of the waveforms.

    Yamamoto, Song and Kim, "Parallel WaveGAN" (2020). Windows are lengths in samples; the hop is a quarter of each.
    Without speech in the batch the convergence is 0.
    """

    def __init__(self, windows: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.windows = tuple(windows)

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        heard = clean.waveform.square().mean() > SILENT
        terms = []
        for size in self.windows:
            x, s = _magnitude(estimate.waveform, size), _magnitude(clean.waveform, size)
            # Relative to silence, one file would outweigh all others of a validation.
            convergence = heard * (x - s).norm() / s.norm()
            terms.append(convergence + F.l1_loss(x.log(), s.log()))
        return torch.stack(terms).mean()


def _magnitude(waveform: Tensor, size: int) -> Tensor:
    # Half a window is reflected at each end, which takes more than half a window of sound.
    waveform = F.pad(waveform, (0, max(0, size // 2 + 1 - waveform.shape[-1])))
    window = torch.hann_window(size, device=waveform.device)
    spectrum = torch.stft(waveform, size, size // 4, window=window, return_complex=True)
    return spectrum.abs().square().clamp(min=1e-7).sqrt()
