"""Scale-invariant signal-to-distortion ratio as a loss."""

import torch
from torch import Tensor, nn

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
