"""Noisy waveform in, enhanced waveform out, piece by piece: the path of whole files and of live blocks alike."""

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from denoiser.audio.blocks import RESAMPLING_SECONDS, Blocks, resampling
from denoiser.audio.reader import LARGEST, peak
from denoiser.errors import ConfigError, DenoiserError, brief
from denoiser.inference.estimator import Estimator
from denoiser.inference.exported import ExportedFrames, ExportedStep, open_step
from denoiser.inference.frames import FrameByFrame, Frames, ShiftedFrames
from denoiser.inference.level import Level, RunningLevel, RunningOffset
from denoiser.inference.options import Options
from denoiser.inference.upper_band import UpperBand

Waveform = TypeVar("Waveform", Tensor, np.ndarray)
FADE_SECONDS = 0.01  # cross-fade between blocks
BLOCK_SECONDS = 2.0  # of a network that looks ahead
LIVE_SECONDS = 0.01  # of a causal one, which resampling alone works in
# More rows than samples, and so many of them, are no channels but the frames of an audio callback.
FEWEST_FRAMES = 16


class Stream:
    """One recording, enhanced in pieces of any length.

    With the :class:`Level` of the whole recording, the result is that of ``Denoiser.enhance``. Without one, the offset
    (DC) is that of the input so far, and so is the level of a model whose level does not follow the recording; both
    are close to those of the whole after a few seconds. A causal network whose level follows the recording needs no
    ``level``: its result never depends on what comes later.

    Each stream belongs to one thread. ``threads`` blocks are enhanced in parallel, if the level is known and the
    network is not causal. ``block_seconds`` are by default 2 s, and 10 ms for a causal network.
    """

    def __init__(
        self,
        estimator: Estimator,
        sample_rate: int,
        level: Level | None = None,
        options: Options | None = None,
        block_seconds: float | None = None,
        threads: int = 1,
    ) -> None:
        for given, kind, name in ((level, Level, "level"), (options, Options, "options")):
            if given is not None and not isinstance(given, kind):
                found = type(given).__name__
                raise ConfigError(f"stream(rate, level, options): {name} is of type {found}; expected {kind.__name__}")
        if block_seconds is not None and not (isinstance(block_seconds, Real) and 0 <= block_seconds < math.inf):
            raise ConfigError(f"block_seconds={block_seconds!r}: expected a number of 0 or more")
        self.estimator = estimator = estimator.at(sample_rate)
        self.sample_rate = sample_rate
        self.options = options or Options()
        estimator.check(self.options)
        self._block_seconds = block_seconds or (LIVE_SECONDS if estimator.causal else BLOCK_SECONDS)
        self._threads = threads
        needs_level = not (estimator.causal and estimator.spectral.level_frames)
        self._known = level.to(estimator.device) if level is not None and needs_level else None
        self.band = UpperBand(estimator.spectral, sample_rate, self.options.full_band)
        self._restore: Callable[[Tensor], Any]
        self._step = None if level is not None else self._exported_step()
        self.reset()

    def reset(self) -> None:
        """Begin anew, with another recording of the same rate; a level that was given stays."""
        estimator, spectral = self.estimator, self.estimator.spectral
        resampled = min(RESAMPLING_SECONDS, self._block_seconds)
        self._running, self._offset = RunningLevel(), RunningOffset()
        self.down = resampling(self.sample_rate, estimator.sample_rate, resampled, spectral.edge)
        self.core: FrameByFrame | ShiftedFrames | Blocks
        if estimator.causal:
            cores = [self._frames(shift) for shift in spectral.beginnings(estimator.shifts(self.options))]
            self.core = cores[0] if len(cores) == 1 else ShiftedFrames(cores)
        else:
            fade = round(FADE_SECONDS * estimator.sample_rate)
            self.core = Blocks(
                self._enhance,
                step=int(estimator.net.stride) * spectral.hop,
                context=estimator.context(self.options) * spectral.hop + fade,
                size=round(self._block_seconds * estimator.sample_rate),
                fade=fade,
                # A level that is still measured has to be that of all before the block.
                threads=self._threads if self._known is not None else 1,
            )
        self.up = self.band.upsampling(resampled)
        self.received = 0  # samples
        self._has_ended = False
        # Input whose result is not out yet, as it is and without its offset, [2, C, n].
        self._waiting: Tensor | None = None

    def _exported_step(self) -> ExportedStep | None:
        """Return the step for onnxruntime, if it does all that is asked for and is there."""
        estimator, options = self.estimator, self.options
        file = estimator.exported
        if file is None or not (estimator.causal and estimator.spectral.level_frames):
            return None
        if self.band.kept or options.min_gain or options.phase_iters or estimator.precision != "32":
            return None
        if estimator.device.type != "cpu" or find_spec("onnxruntime") is None:
            return None
        step = open_step(file)
        step.check(estimator.spectral, file)
        return step

    def _frames(self, shift: int) -> FrameByFrame:
        if self._step is not None:
            return ExportedFrames(self._step, shift)
        # Frames wait for no others, so a long piece goes through the network at once, however short the blocks are.
        at_once = round(max(self._block_seconds, BLOCK_SECONDS) * self.estimator.spectral.frame_rate)
        return Frames(self.estimator, self.options, self._current_level, self.band, shift, at_once)

    @property
    def latency(self) -> float:
        """Largest number of seconds from a sample's input to its output."""
        model_rate = self.estimator.sample_rate
        return self.down.delay / self.sample_rate + (self.core.delay + self.up.delay) / model_rate

    @torch.no_grad()
    def process(self, block: Waveform) -> Waveform:
        """Take the next ``[C, n]``, ``[n]`` or ``[B, C, n]``, n ≥ 0; returns what is ready, of the same type.

        Raises DenoiserError for NaN or infinity, when the number of channels changes, and after :meth:`flush`.
        """
        if self._has_ended:
            raise DenoiserError("this stream was flushed; reset() begins the next recording")
        rows, self._restore = rows_of(block, is_checked=self._waiting is not None)
        rows = rows.to(self.estimator.device)
        if self._waiting is None:
            if self._known is not None and len(self._known.rms) != len(rows):
                measured = len(self._known.rms)
                raise DenoiserError(f"this stream has the level of {measured} channels and was given {len(rows)}")
            self._waiting = rows.new_zeros(2, len(rows), 0)
        channels = self._waiting.shape[1]
        if len(rows) != channels:
            raise DenoiserError(f"this stream has {channels} channels and was given a block of {len(rows)}")
        # Before the signal is resampled, which makes ripple of the step at its beginning.
        centred = rows - (self._offset(rows) if self._known is None else self._known.mean)
        self._waiting = torch.cat([self._waiting, torch.stack([rows, centred])], dim=-1)
        self.received += rows.shape[-1]
        layers = [part for low in self.down.push(centred) for part in self._through(low)]
        return self._restore(self._finish(layers))

    @torch.no_grad()
    def flush(self) -> Any:
        """Return the rest, ``[C, m]``, of the input's type: the recording has ended, and the stream is used up."""
        if self._waiting is None:
            raise DenoiserError("this stream was flushed before it was given anything")
        self._has_ended = True
        layers = [part for low in self.down.flush() for part in self._through(low)]
        for rest in self.core.flush():
            layers += self.up.push(rest)
        layers += self.up.flush()
        return self._restore(self._finish(layers))

    def _through(self, low: Tensor) -> Iterable[Tensor]:
        """Enhance ``[C, n]`` at the model's rate; yields layers at the recording's rate."""
        if self._known is None and self._step is None:
            self._running.add(low)
        for layers in self.core.push(low):
            yield from self.up.push(layers)

    def _current_level(self) -> Tensor:
        return (self._known or self._running.level).rms.to(self.estimator.device)

    # no_grad holds for one thread only, and this may run in others.
    @torch.no_grad()
    def _enhance(self, low: Tensor, wanted: slice) -> Tensor:
        """Enhance one block ``[C, n]``; returns the layers ``[L, C, m]`` of its ``wanted`` samples."""
        return self.estimator.segment(low, self._current_level(), self.options, wanted, self.band)

    def _finish(self, layers: list[Tensor]) -> Tensor:
        """Return the enhanced samples ``[C, m]`` of layers at the recording's rate."""
        assert self._waiting is not None
        if not layers:
            return self._waiting[0, :, :0]
        # Resampling may give a sample more than the recording has.
        ready = torch.cat(layers, dim=-1)[..., : self._waiting.shape[-1]]
        count = ready.shape[-1]
        (noisy, centred), self._waiting = self._waiting[..., :count], self._waiting[..., count:]
        enhanced = self.band.combine(ready, centred)
        if not math.isfinite(peak(enhanced)):  # weights or settings that overflow
            raise DenoiserError("the model makes NaN or infinity of this sound; its weights or settings are broken")
        return torch.lerp(enhanced, noisy, self.options.dry) if self.options.dry else enhanced


def rows_of(waveform: Waveform, is_checked: bool = False) -> tuple[Tensor, Callable[[Tensor], Waveform]]:
    """Return ``[..., N]`` as float32 ``[rows, N]`` in ±1, and the function that reverses this.

    ``is_checked`` says that the number of channels is known, so that few samples of many channels are no mistake.
    Raises DenoiserError for an invalid shape, type or value.
    """
    if isinstance(waveform, Tensor):
        given: Tensor = waveform
    else:
        try:
            given = torch.as_tensor(_native(np.asarray(waveform)), device="cpu")
        except (TypeError, ValueError) as error:
            kind = type(waveform).__name__
            raise DenoiserError(f"cannot enhance a {kind} ({brief(error)}); give a tensor or an array") from error
    if given.ndim == 0:
        raise DenoiserError("cannot enhance a single number; expected a waveform [..., samples]")
    looks_turned = given.ndim > 1 and given.shape[-2] >= FEWEST_FRAMES and given.shape[-2] > given.shape[-1] > 0
    if looks_turned and not is_checked:
        shape = f"shape {list(given.shape)}: expected [channels, samples]"
        raise DenoiserError(f"cannot enhance a waveform of {shape}; transpose what soundfile and audio callbacks give")
    signed = given.dtype in (torch.int16, torch.int32)
    if not (signed or given.is_floating_point()):
        raise DenoiserError(f"cannot enhance a waveform of {given.dtype}; give floats, int16 or int32")
    full_scale = -float(torch.iinfo(given.dtype).min) if signed else 1.0
    rows = given.float().reshape(math.prod(given.shape[:-1]), given.shape[-1]) / full_scale
    if not peak(rows) <= LARGEST:
        raise DenoiserError(f"cannot enhance a waveform that holds NaN, infinite or absurd samples (over {LARGEST:g})")

    def restore(result: Tensor) -> Waveform:
        result = result.reshape(*given.shape[:-1], result.shape[-1]).to(given.device)
        if signed:
            # In float64, as float32 rounds the largest int32 up, and it would wrap around.
            result = (result.double() * full_scale).round().clamp(-full_scale, full_scale - 1)
        result = result.to(given.dtype)
        return result if isinstance(waveform, Tensor) else result.numpy().astype(np.asarray(waveform).dtype, copy=False)

    return rows, restore


def _native(array: np.ndarray) -> np.ndarray:
    """Return an array that torch takes: of this machine's order of bytes, in order, and writable; a copy if needed."""
    # No negative strides, as in x[::-1].
    array = np.asarray(array, array.dtype.newbyteorder("="), order="C")
    return array if array.flags.writeable else array.copy()
