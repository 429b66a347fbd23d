"""Magnitudes of the waveforms at several resolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.spectral import Spectrum


class MultiResolution(nn.Module):
    """Spectral convergence plus the L1 distance of log magnitudes, mean over several ``windows``, of the waveforms.

    Yamamoto, Song and Kim, "Parallel WaveGAN" (2020). Windows are lengths in samples; the hop is a quarter of each.
    """

    def __init__(self, windows: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.windows = tuple(windows)

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        terms = [_one_resolution(estimate.waveform, clean.waveform, size) for size in self.windows]
        return torch.stack(terms).mean()


def _one_resolution(estimate: Tensor, clean: Tensor, size: int) -> Tensor:
    x, s = _magnitude(estimate, size), _magnitude(clean, size)
    convergence = (x - s).norm() / s.norm()
    return convergence + F.l1_loss(x.log(), s.log())


def _magnitude(waveform: Tensor, size: int) -> Tensor:
    window = torch.hann_window(size, device=waveform.device)
    spectrum = torch.stft(waveform, size, size // 4, window=window, return_complex=True)
    return spectrum.abs().square().clamp(min=1e-7).sqrt()
