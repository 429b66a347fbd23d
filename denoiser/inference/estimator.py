"""Network and spectral representation together: noisy spectrum → estimate of the clean one, at the model's rate."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoiser.audio.reader import MAX_RATE, MIN_RATE
from denoiser.errors import AudioError, CheckpointError, ConfigError, brief
from denoiser.inference import upper_band
from denoiser.inference.options import Options
from denoiser.inference.upper_band import UpperBand
from denoiser.models import heads
from denoiser.models.causal import Memory
from denoiser.models.heads import Head
from denoiser.spectral import Spectral, Spectrum


class Estimator(nn.Module):
    """A network ``[B, inputs, F, T]`` → ``[B, outputs, F, T]``, its head, and the representation they work in.

    The head says what the output means: noise to be subtracted by default. The network processes ``block_seconds`` in
    one piece, summed over channels; the result does not depend on it.
    """

    precision = "32"  # or bf16, of the network's arithmetic
    # The same model as ``denoiser.export`` wrote it, if it is causal: for streams whose level is not known before.
    exported: Path | None = None

    def __init__(
        self, net: nn.Module, spectral: Spectral, block_seconds: float = 16.0, head: Head | None = None
    ) -> None:
        super().__init__()
        # Convolutions over [B, C, F, T] are faster with channels innermost: 1.4x in float32, 1.8x in bf16 on CPU.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spectral = spectral
        self.head = head or heads.build()
        self.head.causal = spectral.causal = self.causal
        self.block_seconds = block_seconds

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Take weights as any module does; a file that others were exported to is not used from then on."""
        self.exported = None
        return super().load_state_dict(*arguments, **options)

    def load_weights(self, checkpoint: Mapping[str, Any], path: str | Path) -> None:
        """Take weights and spectral scale from a checkpoint's content; CheckpointError where they do not fit."""
        state, prefix = checkpoint["state_dict"], "denoiser."
        weights = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
        on_meta = any(parameter.is_meta for parameter in self.parameters())
        try:
            self.load_state_dict(weights, assign=on_meta)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: its weights do not fit the model ({brief(error)})") from error
        if not 0 < float(self.spectral.peak) < math.inf:
            raise CheckpointError(f"{path}: was written before training had begun; it has no spectral scale")

    def at(self, sample_rate: int) -> "Estimator":
        """Return the estimator for recordings of this rate: they are not brought to one that only bands need."""
        if not MIN_RATE <= sample_rate <= MAX_RATE:
            raise AudioError(f"sample rate {sample_rate} Hz: expected {MIN_RATE} to {MAX_RATE}")
        spectral = self.spectral
        if sample_rate > spectral.narrow_rate or spectral.narrow_rate == spectral.sample_rate:
            return self
        narrow = Estimator(self.net, spectral.narrow(), self.block_seconds, self.head)
        narrow.precision = self.precision
        return narrow

    @property
    def sample_rate(self) -> int:
        return self.spectral.sample_rate

    @property
    def level_rate(self) -> int | None:
        """Hz at which the level of a whole recording is measured; None if it does not matter, as for one over time."""
        return None if self.spectral.level_frames else self.sample_rate

    @property
    def device(self) -> torch.device:
        return self.spectral.window.device

    @property
    def inputs(self) -> int:
        """Channels of the network's input."""
        return self.head.inputs + self.spectral.two_levels

    @property
    def causal(self) -> bool:
        """True if the network sees no later frame: streams run frame by frame."""
        return bool(getattr(self.net, "causal", False))

    def check(self, options: Options) -> None:
        """Raise ConfigError for options that this network cannot follow."""
        if self.causal and options.phase_iters:
            given = f"phase_iters={options.phase_iters}"
            raise ConfigError(f"{given}: needs later frames, and this model is causal; use 0")

    def estimate(self, noisy: Spectrum, memory: Memory | None = None, wanted: slice | None = None) -> Spectrum:
        """Return the estimated clean spectrum ``[B, F, T]``, not yet clamped at silence.

        ``memory`` is the state of a causal network between pieces, empty at first. Only ``wanted`` frames return.
        """
        features = self.head.features(noisy, memory)
        if noisy.relative_level is not None:
            features = torch.cat([features, noisy.plain[:, None].clamp(max=2) / 2], dim=1)
        if memory is not None:
            output = self.net(features, memory)
        elif wanted is None:
            output = self.net(features)
        else:
            takes_wanted = getattr(self.net, "takes_wanted", False)
            output = self.net(features, wanted) if takes_wanted else self.net(features)[..., wanted]
            noisy = noisy.frames(wanted)
        return self.head(self.head.activation(output.float()), noisy, memory)

    def magnitudes(
        self, noisy: Spectrum, options: Options, memory: Memory | None = None, wanted: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scaled magnitude and phase of the :meth:`estimate`, with the attenuation limited by ``options``."""
        with torch.autocast(noisy.magnitude.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            estimate = self.estimate(noisy, memory, wanted)
        magnitude, phase = estimate.magnitude, estimate.phase
        if options.min_gain:
            seen = noisy if wanted is None else noisy.frames(wanted)
            least = (seen.magnitude + 1) * options.min_gain**self.spectral.power - 1
            magnitude = torch.maximum(magnitude, least)
            if self.head.estimates_phase:
                # The modulus of an estimated phase fades with the estimate.
                phase = torch.where(phase == 0, seen.phase, torch.sgn(phase))
        return magnitude, phase

    def context(self, options: Options) -> int:
        """Return the number of frames on either side that an enhanced frame depends on."""
        frames = int(self.net.context) + self.spectral.level_context + self._estimates_beside(options)
        # A shift moves the frames by less than a hop.
        return frames + 1 if self.shifts(options) > 1 else frames

    def shifts(self, options: Options) -> int:
        """Return the number of results that are averaged."""
        return options.shifts or self.spectral.shifts

    def _estimates_beside(self, options: Options) -> int:
        """Return the number of estimated frames on either side that a sample depends on."""
        # STFT and inverse each reach one window to either side; each phase iteration repeats both.
        window = math.ceil(self.spectral.n_fft / self.spectral.hop)
        return self.head.context + window * (2 + 2 * options.phase_iters) + upper_band.CONTEXT_FRAMES

    def segment(self, low: Tensor, level: Tensor, options: Options, wanted: slice, band: UpperBand) -> Tensor:
        """Enhance ``[C, N]``, at the model's rate and without offset, in one piece.

        ``level`` is the RMS ``[C, 1]`` of the recording. Returns the ``wanted`` samples as layers of ``band``.
        """
        # Split channels to limit memory.
        rows = max(1, round(self.block_seconds * self.sample_rate / low.shape[-1]))
        if len(low) > rows:
            parts = zip(low.split(rows), level.split(rows), strict=True)
            layers = [self.segment(part, rms, options, wanted, band) for part, rms in parts]
            return torch.cat(layers, dim=1)

        begin, end, _ = wanted.indices(low.shape[-1])
        total = self._segment(low, level, options, begin, end, band)
        shifts, hop = self.shifts(options), self.spectral.hop
        for shift in self.spectral.beginnings(shifts)[1:]:
            # A whole hop more, of which the shift comes before: as many frames for any shift.
            shifted = F.pad(low, (shift, -low.shape[-1] % hop + hop - shift), self.spectral.edge)
            total = total + self._segment(shifted, level, options, begin + shift, end + shift, band)
        return total / shifts

    def _segment(self, low: Tensor, level: Tensor, options: Options, begin: int, end: int, band: UpperBand) -> Tensor:
        """Return the layers of the samples from ``begin`` to ``end``."""
        spectral, hop = self.spectral, self.spectral.hop
        stft = spectral.stft(low)
        levels = spectral.levels(stft, level).expand(-1, stft.shape[-1])
        plain = spectral.plain_levels(stft)
        beside = self._estimates_beside(options)
        first = max(0, begin // hop - beside)
        last = min(stft.shape[-1], math.ceil(end / hop) + beside)
        # The level depends on more frames than the network does, which begins on a whole stride.
        context, stride = int(self.net.context), int(self.net.stride)
        seen = slice(max(0, first - context) // stride * stride, last + context)
        noisy = spectral.normalise(stft[..., seen], levels[..., seen], None if plain is None else plain[..., seen])
        frames = slice(first - seen.start, last - seen.start)
        magnitude, phase = self.magnitudes(noisy, options, wanted=frames)

        # The inverse spans from the middle of the first window to the middle of the last.
        start = first * hop
        length = min(low.shape[-1] - start, (last - first - 1) * hop)
        noisy = noisy.frames(frames)
        waveform = spectral.inverse(magnitude, phase, levels[..., first:last], length, options.phase_iters, noisy)
        enhanced = waveform[:, begin - start : end - start]
        smoothing = upper_band.SMOOTHED_FRAMES // 2
        energies = F.pad(band.energies(noisy.magnitude, magnitude), (smoothing, smoothing))
        return band.layers(enhanced, low[:, begin:end], energies, begin - start)
