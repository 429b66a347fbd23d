"""A causal network frame by frame in onnxruntime: for one frame, most of PyTorch's time goes to calling operators."""

import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoiser.errors import ConfigError
from denoiser.spectral import Spectral

LEAST_WEIGHT = 1e-12  # of a sample, the sum of squared windows over it


class ExportedStep:
    """The step of a causal network that ``denoiser.export`` wrote: a hop of sound and a state → a hop, and a state.

    It runs in the thread that calls it, and wakes no other. Raises ImportError without onnxruntime.
    """

    def __init__(self, file: str | Path | bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; it warns of each initial value that it folds
        content = file if isinstance(file, bytes) else str(file)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        facts = self._session.get_modelmeta().custom_metadata_map
        self.sample_rate, self.n_fft, self.hop = (int(facts[name]) for name in ("sample_rate", "n_fft", "hop"))
        self.level_seconds = float(facts["level_seconds"])
        self.edge: Any = facts["edge"]
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._shapes = [entry.shape for entry in self._session.get_inputs()]

    def check(self, spectral: Spectral, file: Path) -> None:
        """Raise ConfigError unless the step was exported from a model with this representation."""
        for name in ("sample_rate", "n_fft", "hop", "level_seconds"):
            own, wanted = getattr(self, name), getattr(spectral, name)
            if own != wanted:
                raise ConfigError(f"{file}: was exported with {name}={own}, and this model has {wanted}")

    def start(self, before: np.ndarray) -> list[np.ndarray]:
        """Return the state of a signal whose first window begins with ``[1, n_fft - hop]`` samples."""
        return [before, *(np.zeros(shape, np.float32) for shape in self._shapes[2:])]

    def __call__(self, noisy: np.ndarray, state: list[np.ndarray]) -> list[np.ndarray]:
        """Return ``[1, hop]`` enhanced samples, those at the beginning of the window, and the next state."""
        return self._session.run(None, dict(zip(self._inputs, [noisy, *state], strict=True)))


@lru_cache(maxsize=4)
def open_step(file: Path) -> "ExportedStep":
    """Return the step of a file; the same one for every stream, since it keeps no state."""
    return ExportedStep(file)


class ExportedFrames:
    """Replacement for :class:`~denoiser.inference.frames.Frames`: one :class:`ExportedStep` for each hop and channel.

    For a model whose level follows the recording, at its own rate.
    """

    def __init__(self, step: ExportedStep) -> None:
        self.step = step
        # Largest number of input samples that a result waits for.
        self.delay = step.n_fft
        self._half = step.n_fft // 2
        self._overlap = step.n_fft - step.hop
        self._ahead = self._last = np.zeros((0, 0), np.float32)  # samples from the next hop on, and the last one
        self._states: list[list[np.ndarray]] = []  # of each channel
        self._received = self._frames = 0  # samples, and frames that are done

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[C, n]`` and yield what is ready, ``[1, C, m]``."""
        if not samples.shape[-1]:
            return
        given = samples.numpy()
        if not self._received:
            # The first window is centred on the first sample.
            self._ahead = np.pad(given[:, :1], ((0, 0), (self._half, 0)), self.step.edge)[:, : self._half]
        self._received += given.shape[-1]
        self._ahead = np.concatenate([self._ahead, given], axis=-1)
        self._last = given[:, -1:]
        if not self._states and self._ahead.shape[-1] >= self._overlap:
            self._begin()
        while self._states and self._ahead.shape[-1] >= self.step.hop:
            yield from self._next()

    def flush(self) -> Iterable[Tensor]:
        """Yield the rest: the signal has ended."""
        if not self._received:
            return
        after = np.pad(self._last, ((0, 0), (0, self.step.n_fft + self.step.hop)), self.step.edge)[:, 1:]
        self._ahead = np.concatenate([self._ahead, after], axis=-1)
        if not self._states:
            self._begin()
        # The last window is centred on the end of the signal, or after it.
        while self._frames <= math.ceil(self._received / self.step.hop):
            yield from self._next()
        sums = np.stack([state[1] for state in self._states])
        yield from self._within(sums[:, 0] / sums[:, 1].clip(LEAST_WEIGHT))

    def _begin(self) -> None:
        self._states = [self.step.start(row[None, : self._overlap]) for row in self._ahead]
        self._ahead = self._ahead[:, self._overlap :]

    def _next(self) -> Iterable[Tensor]:
        parts = []
        for channel, row in enumerate(self._ahead):
            part, *self._states[channel] = self.step(row[None, : self.step.hop], self._states[channel])
            parts.append(part)
        yield from self._within(np.concatenate(parts))
        self._ahead = self._ahead[:, self.step.hop :]
        self._frames += 1

    def _within(self, enhanced: np.ndarray) -> Iterable[Tensor]:
        """Yield those of the samples ``[C, n]`` from the next frame's first one on that belong to the signal."""
        begin = self._frames * self.step.hop - self._half
        part = enhanced[:, max(0, -begin) : max(0, self._received - begin)]
        if part.shape[-1]:
            yield torch.from_numpy(part)[None]
