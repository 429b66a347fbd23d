"""What a network's output means: noise to subtract, a mask, a complex mask, a mask and a turn of the phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.errors import ConfigError, building
from denoiser.models.causal import Memory, Past
from denoiser.spectral import Spectrum


class Head(nn.Module, ABC):
    """Noisy spectrum → the network's input; the network's output → the estimate of the clean spectrum.

    Attributes:
        inputs, outputs: channels of the network, ``[B, inputs, F, T]`` → ``[B, outputs, F, T]``.
        activation: bounds the network's output, value by value; part of an exported network.
        start: what is added to each output of an untrained network, before the activation.
        reach: frames on either side that a frame of the estimate follows from, beside what the network sees.
        causal: whether they are all before it, as in the network.
        bf16: whether its network may compute in bfloat16 without being told to: of masks and filters the difference was
            measured, 60 dB below the sound. A difference that is subtracted is off by more.
        estimates_phase: True where the estimate has a phase of its own, not the noisy one.
    """

    inputs, outputs = 1, 1
    start: tuple[float, ...] | None = None
    reach = 0
    causal = False
    bf16 = False
    estimates_phase = False
    activation: nn.Module

    def features(self, noisy: Spectrum, memory: Memory | None = None) -> Tensor:
        """``[B, F, T]`` → ``[B, inputs, F, T]``: the scaled magnitude, at most 1."""
        return noisy.magnitude[:, None].clamp(max=1)

    @abstractmethod
    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        """The activated output of the network and what it was made of → the estimate, not yet clamped at silence.

        ``memory`` is what a causal head keeps from one piece of a signal to the next.
        """


class Noise(Head):
    """The scaled noise magnitude in (-1, 1), to be subtracted; the phase stays the noisy one. The seed."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.Tanh()

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        return Spectrum(noisy.spectral, magnitude=noisy.spectral.subtract(noisy.magnitude, output[:, 0]), phase=noisy)


class _Gain(Head):
    """A head whose output is a gain, of at most ``limit``: above 1 where noise has cancelled speech."""

    bound: type[nn.Module] = nn.Tanh

    def __init__(self, limit: float = 1.2) -> None:
        super().__init__()
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit <= 10:
            raise ConfigError(f"model.head.limit={limit}: expected a gain above 0, at most 10")
        self.limit, self.activation = limit, self.bound()


class Mask(_Gain):
    """A gain on the compressed magnitude, 0 to ``limit``; the phase stays the noisy one."""

    bound = nn.Sigmoid
    bf16 = True

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        gain = self.limit * output[:, 0]
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy)


class _WithParts(_Gain):
    """The network sees the compressed real and imaginary parts beside the magnitude."""

    inputs = 3
    estimates_phase = True

    def features(self, noisy: Spectrum, memory: Memory | None = None) -> Tensor:
        magnitude = noisy.magnitude.clamp(max=1)
        parts = torch.view_as_real((magnitude + 1) * noisy.phase).movedim(-1, 1) / 2
        return torch.cat([magnitude[:, None], parts], dim=1)


class ComplexMask(_WithParts):
    """A complex gain, each part within ±``limit``, on the compressed spectrum.

    Williamson, Wang and Wang, "Complex ratio masking for monaural speech separation" (2016).
    """

    outputs = 2
    start = (1.0, 0.0)  # a gain of 0.9 and no turn: around zero any turn is as near, and steps are lost on finding one

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        gain, turn = _polar(self.limit * output[:, 0], self.limit * output[:, 1])
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy.phase * turn)


class MaskAndPhase(_WithParts):
    """A gain on the compressed magnitude as in :class:`Mask`, and a turn of the phase, of any angle.

    The turn is the direction of ``(1 + 2 a, 2 b)``, a and b within ±1, so that an untrained network's is small: a
    residual over the noisy phase as in Yin et al., "PHASEN" (2020).
    """

    outputs = 3

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        gain = self.limit * (output[:, 0] + 1) / 2
        _, turn = _polar(1 + 2 * output[:, 1], 2 * output[:, 2])
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy.phase * turn)


class Filter(Mask):
    """A gain as :class:`Mask` gives, and over the lowest bins a complex filter along frames.

    Each of these bins becomes a weighted sum of itself in ``taps`` neighbouring frames: as many before as after, or
    for a causal network all before. Within one frame a harmonic and the noise beside it are one number; over several a
    voice is steady and the noise is not. After Mack and Habets, "Deep filtering for signal extraction and
    reconstruction" (2020), on what the gain has left, as Schröter et al., "DeepFilterNet" (2022). Beside the magnitude
    the network sees how far each bin has turned since the frame before.

    Args:
        limit: the largest gain.
        taps: frames of the filter, odd.
        lowest: bins that are filtered, from the first on.
    """

    inputs = 3
    estimates_phase = True

    def __init__(self, limit: float = 1.2, taps: int = 5, lowest: int = 64) -> None:
        super().__init__(limit)
        if type(taps) is not int or taps not in range(1, MAX_TAPS + 1, 2) or type(lowest) is not int or lowest < 1:
            raise ConfigError(
                f"model.head: taps={taps}, lowest={lowest}; expected an odd number of frames up to {MAX_TAPS}, "
                "and at least one bin"
            )
        self.taps, self.lowest = taps, lowest
        self.outputs, self.reach = 1 + 2 * taps, 1 + taps // 2
        self.one_before, self.before = Past(1), Past(taps - 1)

    def features(self, noisy: Spectrum, memory: Memory | None = None) -> Tensor:
        spectral, magnitude = noisy.spectral, noisy.magnitude.clamp(max=1)
        root = ((magnitude + 1) / 2).clamp(min=0).sqrt() * noisy.phase
        turn = root * self.one_before(root, memory)[..., :-1].conj()
        angle = -2 * torch.pi * spectral.hop / spectral.n_fft * torch.arange(spectral.bins, device=turn.device)
        turn = turn * torch.polar(torch.ones_like(angle), angle)[:, None]  # a tone in a bin's middle has not turned
        return torch.cat([magnitude[:, None], torch.view_as_real(turn).movedim(-1, 1)], dim=1)

    def forward(self, output: Tensor, noisy: Spectrum, memory: Memory | None = None) -> Spectrum:
        spectral, low = noisy.spectral, self.lowest
        magnitude = super().forward(output, noisy).magnitude
        kept = spectral.unscale(magnitude[:, :low]) * noisy.phase[:, :low]
        around = self.before(kept, memory) if self.causal else F.pad(kept, (self.taps // 2, self.taps // 2))
        weights = 2 * output[:, 1:, :low].unflatten(1, (self.taps, 2)).movedim(2, -1) - 1  # [B, taps, low, T, 2]
        frames = around.unfold(-1, self.taps, 1).movedim(-1, 1)
        filtered = kept + (frames * torch.view_as_complex(weights.contiguous())).sum(
            1
        )  # an untrained network's changes little
        modulus = torch.sqrt(filtered.real.square() + filtered.imag.square() + LEAST**2)
        magnitude = torch.cat([spectral.scale(modulus), magnitude[:, low:]], dim=1)
        return Spectrum(
            spectral, magnitude=magnitude, phase=torch.cat([filtered / modulus, noisy.phase[:, low:]], dim=1)
        )


MAX_TAPS = 15
LEAST = 1e-3  # of a spectrum whose signal has an RMS of 1: 80 dB below, where the slope of a power has no bound
HEADS: dict[str, type[Head]] = {
    "noise": Noise,
    "mask": Mask,
    "complex": ComplexMask,
    "phase": MaskAndPhase,
    "filter": Filter,
}


def build(name: str = "noise", **arguments: Any) -> Head:
    """The head of this name."""
    with building("model.head", HEADS, name, arguments) as head:
        return head(**arguments)


def _polar(real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """Modulus and direction; 1e-8 under the root keeps the gradient finite at zero."""
    modulus = torch.sqrt(real.square() + imaginary.square() + 1e-8)
    return modulus, torch.complex(real / modulus, imaginary / modulus)
