"""Noisy waveform → enhanced waveform: the one implementation that validation, files and Python share."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from denoiser import models
from denoiser.checkpoint import load_checkpoint
from denoiser.devices import cpu_has_bf16, resolve_device
from denoiser.errors import CheckpointError, ConfigError, DenoiserError, brief
from denoiser.inference.frames import SMOOTHED, upper_gain
from denoiser.inference.level import Level, measure
from denoiser.inference.options import Options
from denoiser.inference.recording import Enhanced, enhance_recording
from denoiser.inference.stream import Stream
from denoiser.inference.waveform import Waveform, rows_of
from denoiser.models import heads
from denoiser.models.causal import Memory
from denoiser.models.heads import Head
from denoiser.spectral import Spectral, Spectrum

BLOCK_SECONDS = 16.0  # put through the network at once, over all channels; the result does not depend on it
LARGEST = 1 << 26  # values in 32 bits of one tensor in the network: one that makes more of 12 s gets shorter blocks
# A block costs its context, too (of unet10 128 frames on either side): where tensors are small, it may be longer, and
# where they are not it is shorter, for 250 MB of them at the most.
LONG_BLOCK, LONGEST_BLOCK, SMALL = 12.0, 32.0, 3 << 22
# Of many threads, as many compute as there are cores: it is as fast, and 8 threads took 1.6 GB in place of 2.2.
_TURNS = threading.BoundedSemaphore(os.cpu_count() or 1)
PRECISIONS = ("auto", "32", "bf16")  # of the network's arithmetic


class Denoiser(nn.Module):
    """A network and the spectral representation it works in.

    From Python::

        denoiser = Denoiser.from_checkpoint("best")
        enhanced = denoiser.inference.denoiser(noisy, sample_rate)  # tensor or array [..., N], any rate
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
        _check_precision(precision)
        # Convolutions over [B, C, F, T] are faster with channels innermost: 1.4x in float32, 1.8x in bf16 on CPU.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spectral = spectral
        self.head = head or heads.build()
        self.block_seconds = block_seconds
        self.precision = precision

    @classmethod
    def build(
        cls, model: Mapping[str, Any], spectral: Mapping[str, Any], precision: str = "auto", device: str = "cpu"
    ) -> Denoiser:
        """Of plain settings, untrained: ``{name: unet, depth: 5, ..., head: {name: mask}}``; noise is the default.

        On the ``device`` ``meta`` its network takes no memory, and can only be looked at.

        Raises ConfigError for what cannot be built.
        """
        settings = {**model}
        try:
            head = heads.build(**(settings.pop("head", None) or {}))
            representation = Spectral(**spectral)
            settings["bins"] = representation.bins
            with torch.device(device):
                net = models.build(**settings, inputs=head.inputs, outputs=head.outputs)
        except TypeError as error:  # of names that are missing, or none
            raise ConfigError(f"model or spectral: {error}") from error
        if head.start:
            bias = net.get_parameter("head.bias")
            with torch.no_grad():
                bias.copy_(torch.tensor(head.start).repeat_interleave(len(bias) // head.outputs))
        head.causal = bool(getattr(net, "causal", False))
        return cls(net, representation, precision=precision, head=head)

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto", precision: str = "auto") -> Denoiser:
        """Read a checkpoint, which holds all that is needed, onto ``device`` (auto, cpu, cuda, cuda:1), for inference.

        ``path`` is ``best`` or ``small``, which come with the package, a file, a run's folder for its
        ``checkpoints/best.ckpt``. ``precision`` is that of the network: ``32``, ``bf16``, or
        ``auto``: bf16 on a CPU that multiplies it itself, where the result stays within some 1e-3 (-60 dB) of that of
        32 bits, which its head knows, and it is no stream of single frames; 32 elsewhere.

        Raises CheckpointError where the file is missing, damaged, not ours, or not yet trained, ConfigError for a
        ``precision`` that it does not have. Nothing in the file is executed: it is read as plain numbers, strings and
        tensors.
        """
        _check_precision(precision)
        checkpoint = load_checkpoint(path)
        model, spectral = (checkpoint["hyper_parameters"][key] for key in ("model", "spectral"))
        try:
            drawn = cls.build(model, spectral, precision, device="meta")  # first without memory
            growth = models.growth(drawn.net, drawn.spectral.bins)
        except Exception as error:  # whatever torch raises for numbers that no network has
            raise CheckpointError(f"{path}: describes a model this version cannot build ({brief(error)})") from error
        drawn._check_shapes(checkpoint, path)
        denoiser = cls.build(model, spectral, precision)
        denoiser.load_weights(checkpoint, path)
        models.fold(denoiser.net, exact=denoiser.head.bf16)
        where = resolve_device(device)
        if precision == "auto":
            narrow = where.type == "cpu" and cpu_has_bf16() and denoiser.head.bf16 and not denoiser.causal
            denoiser.precision = "bf16" if narrow else "32"
        values = growth * denoiser.spectral.bins * denoiser.spectral.frame_rate  # a second, of the largest tensor
        per_second = values / (2 if denoiser.precision == "bf16" else 1)
        usual, longer = min(LONG_BLOCK, LARGEST / per_second), min(LONGEST_BLOCK, SMALL / per_second)
        denoiser.block_seconds = max(usual, longer)
        return denoiser.to(where).eval()

    def load_weights(self, checkpoint: dict[str, Any], path: str | Path) -> None:
        """Take the weights and the spectral scale of a loaded checkpoint; CheckpointError where they do not fit."""
        self.load_state_dict(self._check_shapes(checkpoint, path))
        if not 0 < float(self.spectral.peak) < math.inf:
            raise CheckpointError(f"{path}: was written before training had begun; it has no spectral scale")

    def _check_shapes(self, checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
        """The weights of a loaded checkpoint; CheckpointError where they are not of this model."""
        prefix = "denoiser."
        weights = {k[len(prefix) :]: v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        own = {name: list(value.shape) for name, value in self.state_dict().items()}
        for name in [*own, *weights]:
            found = list(weights[name].shape) if name in weights else "missing"
            if found != (expected := own.get(name, "nothing of that name")):
                raise CheckpointError(
                    f"{path}: its weights do not fit the model: {name} is {found}, expected {expected}"
                )
        return weights

    @property
    def sample_rate(self) -> int:
        """The rate in Hz the model works at; :meth:`enhance` takes any."""
        return self.spectral.sample_rate

    @property
    def causal(self) -> bool:
        """Whether the network uses no frame before it has come, so that a stream is enhanced frame by frame."""
        return bool(getattr(self.net, "causal", False))

    def estimate(self, noisy: Spectrum, memory: Memory | None = None, wanted: slice | None = None) -> Spectrum:
        """Noisy spectrum ``[B, F, T]`` → the estimate of the clean one, not yet clamped at silence.

        ``memory`` is what a causal network keeps from one piece of a signal to the next: empty for the first.
        ``wanted`` are the frames to be returned, where the others were given for their sake alone.
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
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The estimate of the clean spectrum ``[B, F, T]`` as a listener chose it: scaled magnitude and phase.

        And, where ``options.full_band``, the energy of the uppermost 3/8 of its bins before and after, ``[2, B, T]``.
        All of the ``wanted`` frames alone, if given.
        """
        with torch.autocast(noisy.magnitude.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            estimate = self.estimate(noisy, memory, wanted)
        if wanted is not None:
            noisy = noisy.frames(wanted)
        clean = estimate.magnitude
        if options.floor:
            clean = torch.maximum(clean, (noisy.magnitude + 1) * options.floor**self.spectral.power - 1)
        if not options.full_band:
            return clean, estimate.phase, None
        first = 5 * self.spectral.bins // 8
        upper = torch.stack([noisy.magnitude[:, first:], clean[:, first:]])
        return clean, estimate.phase, self.spectral.unscale(upper).square().sum(2)

    def context(self, options: Options) -> int:
        """Frames on either side that an enhanced frame follows from."""
        return int(self.net.context) + self._beside(options)

    def _beside(self, options: Options) -> int:
        """Frames on either side of a sample whose estimates it follows from."""
        # A window reaches into the three frames beside it, twice: to the spectrum and back; each iteration again.
        window = math.ceil(self.spectral.n_fft / self.spectral.hop)
        return self.head.context + window * (2 + 2 * options.phase_iters) + SMOOTHED

    def segment(self, noisy: Tensor, rms: Tensor, options: Options, wanted: slice) -> tuple[Tensor, Tensor]:
        """Enhance ``[C, N]`` at the model's rate, as one piece, at the level ``rms`` ``[C, 1]``.

        Returns the ``wanted`` samples of it with the gain of the uppermost bands over time, 0 to 1, both ``[C, n]``.
        """
        rows = max(1, round(self.block_seconds * self.sample_rate / noisy.shape[-1]))  # at once: bounds the memory
        parts = zip(noisy.split(rows), rms.split(rows), strict=True)
        with _TURNS:
            results = [self._segment(part, level, options, wanted) for part, level in parts]
        enhanced, gain = zip(*results, strict=True)
        return torch.cat(enhanced), torch.cat(gain)

    def _segment(self, noisy: Tensor, rms: Tensor, options: Options, wanted: slice) -> tuple[Tensor, Tensor]:
        spectral = self.spectral
        begin, end, _ = wanted.indices(noisy.shape[-1])
        spectrum, beside = spectral(noisy, rms), self._beside(options)
        first, last = max(0, begin // spectral.hop - beside), min(spectrum.shape[-1], -(-end // spectral.hop) + beside)
        clean, phase, energy = self.magnitudes(spectrum, options, wanted=slice(first, last))
        start = first * spectral.hop  # the middle of the first window
        length = min(noisy.shape[-1] - start, (last - first - 1) * spectral.hop)
        enhanced = spectral.inverse(clean, phase, rms, length, options.phase_iters)[:, begin - start : end - start]
        if energy is None:
            return enhanced, torch.zeros_like(enhanced)
        energy = F.pad(energy, (SMOOTHED // 2, SMOOTHED // 2))
        return enhanced, upper_gain(energy, torch.arange(begin - start, end - start, device=noisy.device), spectral.hop)

    def level(self, waveform: Waveform, sample_rate: int) -> Level:
        """What :meth:`enhance` divides ``[..., N]`` by: for a :meth:`stream` that is to give the same result."""
        rows = rows_of(waveform)[0].to(self.spectral.window.device)
        step = _whole(sample_rate)  # a second
        return measure(lambda: rows.split(step, dim=-1), sample_rate, self.sample_rate)

    @torch.no_grad()
    def enhance(self, waveform: Waveform, sample_rate: int, options: Options | None = None) -> Waveform:
        """``[..., N]`` at ``sample_rate`` Hz → the same shape, rate, kind and dtype, enhanced.

        Leading dimensions (channels, batch) are independent signals, each with its own level: a quiet microphone
        beside a loud one is heard as well. Integers (int16, int32) are read and returned with full scale at the ends of
        their type, floats as they are: a quieter waveform gives the same result, quieter. An offset (DC) is taken
        away. Raises DenoiserError for NaN, infinity or no samples.
        """
        rate = _whole(sample_rate)
        rows, restore = rows_of(waveform)
        if not rows.numel():
            raise DenoiserError(f"cannot enhance a waveform of shape {list(waveform.shape)}: it holds no samples")
        stream = Stream(self, rate, self.level(rows, rate), options, self.block_seconds)
        return restore(torch.cat([stream.process(rows), stream.flush()], dim=-1).cpu())

    def stream(
        self,
        sample_rate: int,
        level: Level | None = None,
        options: Options | None = None,
        block_seconds: float = 2.0,
    ) -> Stream:
        """For a recording that comes in pieces: an object with ``process(block)`` and ``flush()``.

        ``level`` is what :meth:`level` says of the whole; without it the level is that of all that has come in so far.
        ``block_seconds`` of audio are enhanced at once: shorter for a shorter delay, longer for less work.
        """
        return Stream(self, _whole(sample_rate), level, options, block_seconds)

    @torch.no_grad()
    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        options: Options | None = None,
        *,
        loudness: float | None = None,
        progress: Callable[[float], None] | None = None,
        blocks_at_once: int = 1,
    ) -> Enhanced:
        """Enhance one file into another: same rate, channels, length, level and tags; same format if the extension is.

        Memory does not grow with the length. Where the result passes full scale, all of it is turned down to fit
        (``gain`` below 1). ``loudness`` is the result's in LUFS (ITU-R BS.1770); None leaves it as it comes out.
        ``progress`` is called with the seconds of audio that were finished since it was called last.
        ``blocks_at_once`` of it are worked on together, each in a thread: on a CPU faster than torch's threads inside
        of one. They are shorter then, for about the memory of one. The result does not depend on it. Raises AudioError
        for a file that cannot be read or written; nothing half-written is left under ``target``.
        """
        return enhance_recording(self, Path(source), Path(target), options, loudness, progress, blocks_at_once)


def _check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ConfigError(f"precision={precision} is unknown; expected {', '.join(PRECISIONS)}")


def _whole(sample_rate: float) -> int:
    if int(sample_rate) != sample_rate:
        raise DenoiserError(f"cannot enhance at a sample rate of {sample_rate} Hz; give a whole number")
    return int(sample_rate)
