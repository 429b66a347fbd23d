"""Bands of neighbouring frequencies, equally wide on the scale of equivalent rectangular bandwidths (ERB)."""

import torch
from torch import Tensor, nn


class Bands(nn.Module):
    """Overlapping bands, ``count`` of them, from ``low`` Hz to half of ``sample_rate`` (Glasberg and Moore 1990).

    They cover the bins of a transform of ``n_fft`` samples that lie above ``low``: each is a triangle on the ERB scale,
    and all of them sum to 1 in each bin.
    """

    shares: Tensor  # of each band in each bin, [count, bins]

    def __init__(self, count: int, low: int, sample_rate: int, n_fft: int) -> None:
        super().__init__()
        self.count = count
        self.low, self.high = (erb_number(torch.tensor(edge)) for edge in (low, sample_rate / 2))
        first = low * n_fft // sample_rate + 1
        hertz = torch.arange(first, n_fft // 2 + 1) * (sample_rate / n_fft)
        place = (erb_number(hertz) - self.low) / (self.high - self.low) * count - 0.5
        distance = (place.clamp(0, count - 1) - torch.arange(count)[:, None]).abs()
        self.register_buffer("shares", (1 - distance).clamp(min=0).float(), persistent=False)

    def join(self, spectrum: Tensor) -> Tensor:
        """Return the RMS ``[..., count, T]`` of the bins of each band, of complex values ``[..., bins, T]``."""
        shares = self.shares / self.shares.sum(1, keepdim=True).clamp(min=1)
        with torch.autocast(spectrum.device.type, enabled=False):
            return (shares @ (spectrum.real.square() + spectrum.imag.square())).sqrt()

    def spread(self, gains: Tensor) -> Tensor:
        """Return the gains of the bins ``[..., bins, T]``, interpolated between those of the bands."""
        return self.shares.mT @ gains

    def ends(self) -> Tensor:
        """Return the frequency up to which each band reaches, Hz: ``[count]``."""
        # A band ends where the next but one begins.
        ends = ((torch.arange(self.count, device=self.shares.device) + 1.5) / self.count).clamp(max=1)
        return (10 ** ((self.low + ends * (self.high - self.low)) / 21.4) - 1) / 0.00437


def erb_number(hertz: Tensor) -> Tensor:
    """Return the place of frequencies on the ERB scale."""
    return 21.4 * torch.log10(1 + 0.00437 * hertz)
