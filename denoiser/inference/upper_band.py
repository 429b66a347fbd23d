"""The band of a recording above the model's band."""

import torch
from torch import Tensor
from torch.nn import functional as F

from denoiser.audio.blocks import Blocks, Passthrough, resampling
from denoiser.audio.resampling import ratio, reach, resample
from denoiser.spectral import Spectral

SMOOTHED_FRAMES = 3  # frames that a gain is averaged over
CONTEXT_FRAMES = 3  # frames on either side that a sample's gain may depend on


class UpperBand:
    """The band of a recording at ``sample_rate`` Hz above the model's, which the network does not see.

    Its gain, 0 to 1, is the network's gain in the uppermost 3/8 of its bins, smoothed over time. The output is
    ``E + g (X - L)``: the enhanced lower band E, the gain g, the input X at its full rate, and the lower band L of X.
    Until the last step ``layers`` ``[2, C, N]`` carry ``E - g L`` and ``g``. If there is nothing above the model's
    band, or it is not kept, the only layer ``[1, C, N]`` is E.
    """

    def __init__(self, spectral: Spectral, sample_rate: int, keep: bool = True) -> None:
        self.spectral = spectral
        self.sample_rate = sample_rate
        self.kept = keep and sample_rate > spectral.sample_rate

    def energies(self, noisy: Tensor, clean: Tensor) -> Tensor:
        """Return the energies ``[2, C, T]`` of the uppermost bins of two magnitudes; T is 0 if nothing is kept."""
        if not self.kept:
            return noisy.new_zeros(2, len(noisy), 0)
        first = 5 * self.spectral.bins // 8
        upper = torch.stack([noisy[:, first:], clean[:, first:]])
        return self.spectral.unscale(upper).square().sum(2)

    def layers(self, enhanced: Tensor, low: Tensor, energies: Tensor, start: int) -> Tensor:
        """Return the layers ``[L, C, n]`` of a block ``[C, n]``, enhanced and noisy (``low``), at the model's rate.

        ``energies`` are those of the frames around it, and of as many more as the smoothing takes away. The block
        begins ``start`` samples after the middle of the first frame that has a smoothed gain.
        """
        if not self.kept:
            return enhanced[None]
        before, after = F.avg_pool1d(energies, SMOOTHED_FRAMES, stride=1)
        # Where noise cancels speech, the estimate exceeds the input: at most a gain of 1.
        gains = (after / before.clamp(min=1e-20)).clamp(max=1).sqrt()
        places = torch.arange(start, start + enhanced.shape[-1], device=gains.device)
        gain = _interpolated(gains, places, self.spectral.hop)
        return torch.stack([enhanced - gain * low, gain])

    def upsampling(self, seconds: float) -> Blocks | Passthrough:
        """Return blocks of ``seconds`` that bring layers from the model's rate to the recording's."""
        model_rate = self.spectral.sample_rate
        if not self.kept:
            return resampling(model_rate, self.sample_rate, seconds)
        rates = ratio(model_rate, self.sample_rate)
        context, size = reach(model_rate, self.sample_rate), round(seconds * model_rate)
        return Blocks(self._upsample, rates[0], context, size, rates)

    def combine(self, layers: Tensor, noisy: Tensor) -> Tensor:
        """Return the enhanced signal ``[C, n]`` of layers and the noisy input, both at the recording's rate."""
        return layers[0] + layers[1] * noisy if self.kept else layers[0]

    def _upsample(self, layers: Tensor, wanted: slice) -> Tensor:
        old, new = ratio(self.spectral.sample_rate, self.sample_rate)
        low = resample(layers[0], self.spectral.sample_rate, self.sample_rate)[..., wanted]
        places = (torch.arange(low.shape[-1], device=low.device) + wanted.start) * old
        return torch.stack([low, _interpolated(layers[1], places, new)])


def _interpolated(values: Tensor, places: Tensor, spacing: int) -> Tensor:
    """Interpolate linearly between values ``[C, T]`` that are ``spacing`` apart, at ``places``: ``[C, n]``."""
    before, share = places // spacing, (places % spacing).to(values.dtype) / spacing
    after = (before + 1).clamp(max=values.shape[-1] - 1)
    return torch.lerp(values[..., before], values[..., after], share)
