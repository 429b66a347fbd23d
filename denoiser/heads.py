"""What a network's output means: noise to subtract, a mask, a complex mask, a mask and a turn of the phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from denoiser.errors import ConfigError, building
from denoiser.spectral import Spectrum


class Head(nn.Module, ABC):
    """Noisy spectrum → the network's input; the network's output → the estimate of the clean spectrum.

    Attributes:
        inputs, outputs: channels of the network, ``[B, inputs, F, T]`` → ``[B, outputs, F, T]``.
        activation: bounds the network's output, value by value; part of an exported network.
        start: what is added to each output of an untrained network, before the activation.
    """

    inputs, outputs = 1, 1
    start: tuple[float, ...] | None = None
    activation: nn.Module

    def features(self, noisy: Spectrum) -> Tensor:
        """``[B, F, T]`` → ``[B, inputs, F, T]``: the scaled magnitude, at most 1."""
        return noisy.magnitude[:, None].clamp(max=1)

    @abstractmethod
    def forward(self, output: Tensor, noisy: Spectrum) -> Spectrum:
        """The activated output of the network and what it was made of → the estimate, not yet clamped at silence."""


class Noise(Head):
    """The scaled noise magnitude in (-1, 1), to be subtracted; the phase stays the noisy one. The seed."""

    def __init__(self) -> None:
        super().__init__()
        self.activation = nn.Tanh()

    def forward(self, output: Tensor, noisy: Spectrum) -> Spectrum:
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

    def forward(self, output: Tensor, noisy: Spectrum) -> Spectrum:
        gain = self.limit * output[:, 0]
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy)


class _WithParts(_Gain):
    """The network sees the compressed real and imaginary parts beside the magnitude."""

    inputs = 3

    def features(self, noisy: Spectrum) -> Tensor:
        magnitude = noisy.magnitude.clamp(max=1)
        parts = torch.view_as_real((magnitude + 1) * noisy.phase).movedim(-1, 1) / 2
        return torch.cat([magnitude[:, None], parts], dim=1)


class ComplexMask(_WithParts):
    """A complex gain, each part within ±``limit``, on the compressed spectrum.

    Williamson, Wang and Wang, "Complex ratio masking for monaural speech separation" (2016).
    """

    outputs = 2
    start = (1.0, 0.0)  # a gain of 0.9 and no turn: around zero any turn is as near, and steps are lost on finding one

    def forward(self, output: Tensor, noisy: Spectrum) -> Spectrum:
        gain, turn = _polar(self.limit * output[:, 0], self.limit * output[:, 1])
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy.phase * turn)


class MaskAndPhase(_WithParts):
    """A gain on the compressed magnitude as in :class:`Mask`, and a turn of the phase, of any angle.

    The turn is the direction of ``(1 + 2 a, 2 b)``, a and b within ±1, so that an untrained network's is small: a
    residual over the noisy phase as in Yin et al., "PHASEN" (2020).
    """

    outputs = 3

    def forward(self, output: Tensor, noisy: Spectrum) -> Spectrum:
        gain = self.limit * (output[:, 0] + 1) / 2
        _, turn = _polar(1 + 2 * output[:, 1], 2 * output[:, 2])
        return Spectrum(noisy.spectral, magnitude=(noisy.magnitude + 1) * gain - 1, phase=noisy.phase * turn)


HEADS: dict[str, type[Head]] = {"noise": Noise, "mask": Mask, "complex": ComplexMask, "phase": MaskAndPhase}


def build(name: str = "noise", **arguments: Any) -> Head:
    """The head of this name."""
    with building("model.head", HEADS, name, arguments) as head:
        return head(**arguments)


def _polar(real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
    """Modulus and direction; 1e-8 under the root keeps the gradient finite at zero."""
    modulus = torch.sqrt(real.square() + imaginary.square() + 1e-8)
    return modulus, torch.complex(real / modulus, imaginary / modulus)
