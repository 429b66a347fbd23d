"""Network and spectral representation together: noisy spectrum → estimate of the clean one, at the model's rate."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from denoiser import models
from denoiser.errors import CheckpointError, ConfigError
from denoiser.inference import upper_band
from denoiser.inference.level import Level
from denoiser.inference.options import Options
from denoiser.inference.upper_band import UpperBand
from denoiser.models import heads
from denoiser.models.causal import Memory
from denoiser.models.heads import Head
from denoiser.spectral import Spectral, Spectrum

BLOCK_SECONDS = 16.0
PRECISIONS = ("auto", "32", "bf16")  # of the network's arithmetic
WEIGHTS_PREFIX = "denoiser."  # of the names in a checkpoint
# More threads than cores compute no faster, and eight of them took 2.2 GB instead of 1.6.
_cores = threading.BoundedSemaphore(os.cpu_count() or 1)
AnyEstimator = TypeVar("AnyEstimator", bound="Estimator")


class Estimator(nn.Module):
    """A network, its head, and the spectral representation they work in.

    Args:
        net: ``[B, inputs, F, T]`` → ``[B, outputs, F, T]``.
        spectral: waveform ↔ scaled magnitude and phase.
        block_seconds: of all channels together, put through the network at once. The result does not depend on it.
        precision: ``32`` or ``bf16``; ``auto`` stands for ``32`` until a checkpoint is loaded.
        head: meaning of the network's output; noise to be subtracted by default.
    """

    def __init__(
        self,
        net: nn.Module,
        spectral: Spectral,
        block_seconds: float = BLOCK_SECONDS,
        precision: str = "auto",
        head: Head | None = None,
    ) -> None:
        super().__init__()
        check_precision(precision)
        # Convolutions over [B, C, F, T] are faster with channels innermost: 1.4x in float32, 1.8x in bf16 on CPU.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spectral = spectral
        self.head = head or heads.build()
        self.block_seconds = block_seconds
        self.precision = precision

    @classmethod
    def build(
        cls: type[AnyEstimator],
        model: Mapping[str, Any],
        spectral: Mapping[str, Any],
        precision: str = "auto",
        device: str = "cpu",
    ) -> AnyEstimator:
        """Build an untrained one from plain settings: ``{name: unet, depth: 5, ..., head: {name: mask}}``.

        On the ``device`` ``meta`` the network takes no memory and cannot be run. Raises ConfigError for settings that
        cannot be built.
        """
        settings = {**model}
        try:
            head = heads.build(**(settings.pop("head", None) or {}))
            representation = Spectral(**spectral)
            settings["bins"] = representation.bins
            with torch.device(device):
                net = models.build(**settings, inputs=head.inputs, outputs=head.outputs)
        except TypeError as error:  # an argument that is missing or unknown
            raise ConfigError(f"model or spectral: {error}") from error
        if head.start:
            bias = net.get_parameter("head.bias")
            start = torch.tensor(head.start).repeat_interleave(len(bias) // head.outputs)
            with torch.no_grad():
                bias.copy_(start)
        head.causal = bool(getattr(net, "causal", False))
        return cls(net, representation, precision=precision, head=head)

    def load_weights(self, checkpoint: Mapping[str, Any], path: str | Path) -> None:
        """Take weights and spectral scale from a checkpoint's content; CheckpointError where they do not fit."""
        self.load_state_dict(self.fitting_weights(checkpoint, path))
        if not 0 < float(self.spectral.peak) < math.inf:
            raise CheckpointError(f"{path}: was written before training had begun; it has no spectral scale")

    def fitting_weights(self, checkpoint: Mapping[str, Any], path: str | Path) -> dict[str, Tensor]:
        """Return the weights in a checkpoint's content; CheckpointError where their names or shapes do not fit."""
        weights = {
            name.removeprefix(WEIGHTS_PREFIX): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(WEIGHTS_PREFIX)
        }
        own = self.state_dict()
        for name in [*own, *weights]:
            found = list(weights[name].shape) if name in weights else "missing"
            expected = list(own[name].shape) if name in own else "nothing of that name"
            if found != expected:
                raise CheckpointError(
                    f"{path}: its weights do not fit the model: {name} is {found}, expected {expected}"
                )
        return weights

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model, Hz."""
        return self.spectral.sample_rate

    @property
    def device(self) -> torch.device:
        return self.spectral.window.device

    @property
    def causal(self) -> bool:
        """True where the network sees no later frame, so that a stream is enhanced frame by frame."""
        return bool(getattr(self.net, "causal", False))

    def estimate(self, noisy: Spectrum, memory: Memory | None = None, wanted: slice | None = None) -> Spectrum:
        """Return the estimate of the clean spectrum of ``[B, F, T]``, not yet clamped at silence.

        ``memory`` is the state of a causal network between the pieces of a signal, empty at its beginning. ``wanted``
        selects the frames to return; the others are their context.
        """
        features = self.head.features(noisy, memory)
        if memory is not None:
            output = self.net(features, memory)
        elif wanted is None:
            output = self.net(features)
        else:
            narrows = getattr(self.net, "narrows", False)
            output = self.net(features, wanted) if narrows else self.net(features)[..., wanted]
            noisy = noisy.frames(wanted)
        return self.head(self.head.activation(output.float()), noisy, memory)

    def magnitudes(
        self, noisy: Spectrum, options: Options, memory: Memory | None = None, wanted: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scaled magnitude and phase ``[B, F, T]`` of the estimate, with the listener's limit on attenuation.

        ``memory`` and ``wanted`` are those of :meth:`estimate`.
        """
        with torch.autocast(noisy.magnitude.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            estimate = self.estimate(noisy, memory, wanted)
        magnitude = estimate.magnitude
        if options.min_gain:
            kept = noisy.magnitude if wanted is None else noisy.magnitude[..., wanted]
            least = (kept + 1) * options.min_gain**self.spectral.power - 1
            magnitude = torch.maximum(magnitude, least)
        return magnitude, estimate.phase

    def context(self, options: Options) -> int:
        """Return the number of frames on either side that an enhanced frame depends on."""
        return int(self.net.context) + self._estimates_beside(options)

    def _estimates_beside(self, options: Options) -> int:
        """Return the number of frames on either side of a sample whose estimates it depends on."""
        # A window overlaps those beside it twice, in the STFT and in its inverse; each phase iteration does both again.
        window = math.ceil(self.spectral.n_fft / self.spectral.hop)
        return self.head.context + window * (2 + 2 * options.phase_iters) + upper_band.CONTEXT_FRAMES

    def segment(self, low: Tensor, level: Level, options: Options, wanted: slice, band: UpperBand) -> Tensor:
        """Enhance ``[C, N]`` at the model's rate as one piece; returns layers ``[L, C, n]`` of its ``wanted`` samples.

        The channels are independent signals, each with its ``level``. Layers are those of :class:`UpperBand`.
        """
        # Fewer channels at a time bound the memory.
        rows = max(1, round(self.block_seconds * self.sample_rate / low.shape[-1]))
        parts = zip(low.split(rows), level.rms.split(rows), level.mean.split(rows), strict=True)
        with _cores:
            layers = [self._segment(part, Level(rms, mean), options, wanted, band) for part, rms, mean in parts]
        return torch.cat(layers, dim=1)

    def _segment(self, low: Tensor, level: Level, options: Options, wanted: slice, band: UpperBand) -> Tensor:
        spectral, hop = self.spectral, self.spectral.hop
        begin, end, _ = wanted.indices(low.shape[-1])
        noisy = spectral(low - level.mean, level.rms)
        beside = self._estimates_beside(options)
        first = max(0, begin // hop - beside)
        last = min(noisy.shape[-1], math.ceil(end / hop) + beside)
        frames = slice(first, last)
        magnitude, phase = self.magnitudes(noisy, options, wanted=frames)

        # The inverse begins in the middle of the first window and ends in that of the last.
        start = first * hop
        length = min(low.shape[-1] - start, (last - first - 1) * hop)
        waveform = spectral.inverse(magnitude, phase, level.rms, length, options.phase_iters)
        enhanced = waveform[:, begin - start : end - start]
        return band.layers(enhanced, low[:, wanted], noisy.magnitude[..., frames], magnitude, begin - start)


def check_precision(precision: str) -> None:
    """Raise ConfigError for a precision that is not one of PRECISIONS."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is unknown; expected {', '.join(PRECISIONS)}")
