"""Noisy waveform → enhanced waveform as one module that torch can export: real numbers, and state as arguments."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.export.complex import Complex, RealArithmetic
from denoiser.inference.estimator import Estimator
from denoiser.inference.exported import LEAST_WEIGHT
from denoiser.inference.options import Options
from denoiser.models.causal import Memory


class Step(nn.Module):
    """Block ``[1, N]`` of a recording with its context → the same block, enhanced; N is a multiple of the hop."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, noisy: Tensor) -> Tensor:
        spectral = self.estimator.spectral
        enhanced = self._enhanced(noisy)
        for shift in spectral.beginnings(spectral.shifts)[1:]:
            shifted = F.pad(noisy, (shift, spectral.hop - shift), spectral.edge)
            enhanced = enhanced + self._enhanced(shifted)[:, shift : shift + noisy.shape[-1]]
        return enhanced / spectral.shifts

    def _enhanced(self, noisy: Tensor) -> Tensor:
        spectral = self.estimator.spectral
        with RealArithmetic():
            stft = spectral.stft(noisy)
            levels = spectral.levels(stft, torch.ones_like(noisy[:, :1])).expand(-1, stft.shape[-1])
            spectrum = spectral.normalise(stft, levels, spectral.plain_levels(stft))
            magnitude, phase = self.estimator.magnitudes(spectrum, Options())
            return spectral.inverse(magnitude, phase, levels, noisy.shape[-1], noisy=spectrum)


class CausalStep(nn.Module):
    """The next ``hop`` samples ``[1, hop]`` and a state → as many enhanced samples, and the next state.

    The state are the samples before these that their window reaches back to, the sums of windows that reach beyond
    them, the powers of the frames before for the level over time, and all that layers keep. The first of the enhanced
    samples is the first one of the window: the delay is a window less a hop.
    """

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator
        spectral = estimator.spectral
        self.overlap = spectral.n_fft - spectral.hop
        # One frame of silence shows which layers keep something, and its shape.
        memory: Memory = {}
        with torch.no_grad(), RealArithmetic():
            silence = torch.zeros(1, spectral.n_fft)
            spectrum = spectral.normalise(spectral.stft(silence, center=False), torch.ones(1, 1))
            estimator.magnitudes(spectrum, Options(), memory)
        self.layers = list(memory)
        self.complex_layers = {layer for layer, kept in memory.items() if isinstance(kept, Complex)}
        self.start = [torch.zeros(1, self.overlap), torch.zeros(2, self.overlap)]
        if spectral.level_frames:
            self.start.append(torch.zeros(1, spectral.level_context))
        self.start += [torch.zeros_like(kept) for kept in self._tensors(memory)]

    def forward(self, noisy: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        spectral = self.estimator.spectral
        before, sums, *kept = state
        powers = [kept.pop(0)] if spectral.level_frames else []
        window = torch.cat([before, noisy], dim=-1)
        with RealArithmetic():
            memory: Memory = {
                layer: torch.view_as_complex(tensor) if layer in self.complex_layers else tensor
                for layer, tensor in zip(self.layers, kept, strict=True)
            }
            stft = spectral.stft(window, center=False)
            level = spectral.levels(stft, torch.ones_like(noisy[:, :1]), *powers)
            spectrum = spectral.normalise(stft, level)
            magnitude, phase = self.estimator.magnitudes(spectrum, Options(), memory)
            linear = spectral.all_bins(magnitude, phase, level, spectrum)
            estimate = torch.fft.irfft(linear.mT, spectral.n_fft)[:, 0] * spectral.window
            powers = [torch.cat([kept, spectral.powers(stft)], dim=-1)[:, 1:] for kept in powers]
            kept = self._tensors(memory)
        sums = F.pad(sums, (0, spectral.hop)) + torch.cat([estimate, spectral.window[None] ** 2])
        done, sums = sums[:, : spectral.hop], sums[:, spectral.hop :]
        # The first sample of the first window has the weight 0.
        enhanced = done[:1] / done[1:].clamp(min=LEAST_WEIGHT)
        return enhanced, window[:, spectral.hop :], sums, *powers, *kept

    def _tensors(self, memory: Memory) -> list[Tensor]:
        return [
            torch.view_as_real(memory[layer]) if isinstance(memory[layer], Complex) else memory[layer]
            for layer in self.layers
        ]
