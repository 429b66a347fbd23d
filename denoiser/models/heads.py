"""Meaning of a network's output: noise to subtract, a gain, a complex gain, a gain and a rotation, a filter.

In the formulas, ``X`` is the noisy spectrum and ``Y`` the estimate of the clean one; ``|X|``, from 0 to 2, is the
scaled magnitude + 1; ``a, b, c ...`` are the outputs of the network after the activation of the head.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.errors import building
from denoiser.models.causal import CausalPad, Memory
from denoiser.spectral import Spectrum

MAX_TAPS = 15
LEAST = 1e-3  # added to a modulus, so that its powers have finite slopes: 80 dB below a signal of RMS 1


class Head(nn.Module, ABC):
    """Noisy spectrum → input of the network; output of the network → estimate of the clean spectrum."""

    inputs = 1  # channels of the network
    outputs = 1
    start: tuple[float, ...] | None = None  # added to the outputs of an untrained network, before the activation
    context = 0  # frames on either side that an estimate depends on, beside those that the network sees
    causal = False  # all of these are earlier frames, as in a causal network
    bf16 = False  # the network may compute in bfloat16 unasked: the error is 60 dB below the sound
    estimates_phase = False  # the estimate has a phase of its own, not the noisy one
    activation: nn.Module  # bounds the network's output, value by value; part of an exported network

    def features(self, noisy: Spectrum, memory: Memory | None = None) -> Tensor:
        """Return the input of the network ``[B, inputs, F, T]``: the scaled magnitude, at most 1."""
        return noisy.magnitude[:, None].clamp(max=1)

    @abstractmethod
    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        """Return the estimate ``[B, F, T]``, which may lie below silence, from activated ``output [B, outputs, F, T]``.

        In ``memory`` a causal head keeps frames from one piece of a signal to the next.
        """


class Noise(Head):
    """``|Y| = |X| - 2 a`` with a in (-1, 1): noise is subtracted, and the phase stays the noisy one."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.Tanh()

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        # Clamped on the way to sound alone: a clamp inside the loss has no gradient.
        return Spectrum(noisy.spectral, magnitude=noisy.magnitude - 2 * output[:, 0], phase=noisy)


class _Gain(Head):
    """Base of the heads whose output is a gain of at most ``limit``: above 1 where noise has cancelled speech."""

    bound: type[nn.Module] = nn.Tanh

    def __init__(self, limit: float = 1.2) -> None:
        super().__init__()
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= 10:
            raise ValueError("expected a gain (limit) above 0, at most 10")
        self.limit = limit
        self.activation = self.bound()


class Mask(_Gain):
    """``|Y| = limit a |X|`` with a in (0, 1): a gain; the phase stays the noisy one."""

    bound = nn.Sigmoid
    bf16 = True

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        gain = self.limit * output[:, 0]
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy)


class _ComplexInput(_Gain):
    """Base of the heads whose network sees real and imaginary part beside the magnitude, all compressed."""

    inputs = 3
    estimates_phase = True

    def features(self, noisy: Spectrum, memory: Memory | None = None) -> Tensor:
        magnitude = noisy.magnitude.clamp(max=1)
        parts = torch.view_as_real((magnitude + 1) * noisy.phase).movedim(-1, 1) / 2
        return torch.cat([magnitude[:, None], parts], dim=1)


class ComplexMask(_ComplexInput):
    """``Y = limit (a + i b) X``, compressed, with a and b in (-1, 1): a complex gain.

    Williamson, Wang and Wang, "Complex ratio masking for monaural speech separation" (2016).
    """

    outputs = 2
    # A gain of 0.9 without rotation. From a gain of zero every rotation is as near, and steps are lost on finding one.
    start = (1.0, 0.0)

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        gain, rotation = _polar(self.limit * output[:, 0], self.limit * output[:, 1])
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy.phase * rotation)


class MaskAndPhase(_ComplexInput):
    """``|Y| = limit (a + 1) / 2 |X|``, and the phase rotated by the angle of ``1 + 2 b + 2 i c``; a, b, c in (-1, 1).

    Any angle is possible; that of an untrained network is small. After Yin et al., "PHASEN" (2020).
    """

    outputs = 3

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        gain = self.limit * (output[:, 0] + 1) / 2
        _, rotation = _polar(1 + 2 * output[:, 1], 2 * output[:, 2])
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy.phase * rotation)


class Filter(Mask):
    """``Y[t] = M[t] + sum over k of w[k] M[t + k]`` in the lowest bins, where M is the estimate of :class:`Mask`.

    M and Y are uncompressed here, the weights ``w[k] = 2 b - 1 + i (2 c - 1)`` complex, b and c in (0, 1). Over several
    frames a voice is steady and noise is not. Beside the magnitude the network sees how far the phase of each bin has
    advanced since the frame before. After Mack and Habets, "Deep filtering for signal extraction and reconstruction"
    (2020), behind a gain as in Schröter et al., "DeepFilterNet" (2022).

    ``taps`` are odd: as many frames before as after the frame, or all before it in a causal network. The bins above
    the ``lowest`` keep the gain.
    """

    inputs = 3
    estimates_phase = True

    def __init__(self, limit: float = 1.2, taps: int = 5, lowest: int = 64) -> None:
        super().__init__(limit)
        if type(taps) is not int or taps not in range(1, MAX_TAPS + 1, 2) or type(lowest) is not int or lowest < 1:
            raise ValueError(f"expected an odd number of frames (taps) up to {MAX_TAPS}, and at least one bin (lowest)")
        self.taps, self.lowest = taps, lowest
        self.outputs = 1 + 2 * taps
        self.context = 1 + taps // 2
        self.previous = CausalPad(1)
        self.past = CausalPad(taps - 1)

    def features(self, noisy: Spectrum, memory: Memory | None = None) -> Tensor:
        spectral = noisy.spectral
        magnitude = noisy.magnitude.clamp(max=1)
        root = ((magnitude + 1) / 2).clamp(min=0).sqrt() * noisy.phase
        advance = root * self.previous(root, memory)[..., :-1].conj()
        # The phase of a tone in the middle of a bin advances by this angle, which is taken away.
        bins = torch.arange(spectral.bins, dtype=magnitude.dtype, device=advance.device)
        angle = -2 * torch.pi * spectral.hop / spectral.n_fft * bins
        advance = advance * torch.polar(torch.ones_like(angle), angle)[:, None]
        return torch.cat([magnitude[:, None], torch.view_as_real(advance).movedim(-1, 1)], dim=1)

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        spectral = noisy.spectral
        low, high = slice(self.lowest), slice(self.lowest, None)
        magnitude = super().forward(output, noisy).magnitude
        masked = spectral.unscale(magnitude[:, low]) * noisy.phase[:, low]

        weights = 2 * output[:, 1:, low].unflatten(1, (self.taps, 2)).movedim(2, -1) - 1  # [B, taps, low, T, 2]
        weights = torch.view_as_complex(weights.contiguous())
        around = self.past(masked, memory) if self.causal else F.pad(masked, (self.taps // 2, self.taps // 2))
        frames = around.unfold(-1, self.taps, 1).movedim(-1, 1)  # [B, taps, low, T]
        # The sum is added to the masked spectrum, so that an untrained network changes little.
        filtered = masked + (frames * weights).sum(1)

        modulus = torch.sqrt(filtered.real.square() + filtered.imag.square() + LEAST**2)
        magnitude = torch.cat([spectral.scale(modulus), magnitude[:, high]], dim=1)
        return Spectrum(spectral, None, magnitude, torch.cat([filtered / modulus, noisy.phase[:, high]], dim=1))


HEADS: dict[str, type[Head]] = {
    "noise": Noise,
    "mask": Mask,
    "complex": ComplexMask,
    "phase": MaskAndPhase,
    "filter": Filter,
}


def build(name: str = "noise", **arguments: Any) -> Head:
    """Return the head of this name; ConfigError where there is none, or where it refuses the arguments."""
    with building("model.head", HEADS, name, arguments) as head:
        return head(**arguments)


def _polar(real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """Return modulus and direction of a complex number; 1e-8 under the root keeps the gradient finite at zero."""
    modulus = torch.sqrt(real.square() + imaginary.square() + 1e-8)
    return modulus, torch.complex(real / modulus, imaginary / modulus)
