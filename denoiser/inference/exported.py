"""A causal network frame by frame in onnxruntime: for one frame, most of PyTorch's time goes to calling operators."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoiser.errors import ConfigError
from denoiser.inference.frames import FrameByFrame
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
        # The file has the names of numpy.pad.
        self.edge = {"edge": "replicate"}.get(facts["edge"], facts["edge"])
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._shapes = [entry.shape for entry in self._session.get_inputs()]

    def __deepcopy__(self, memo: dict[int, Any]) -> "ExportedStep":
        """Return itself: a session cannot be copied, and keeps no state."""
        return self

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


def open_step(file: Path) -> ExportedStep:
    """Return the step of a file as it is now: the same one for every stream, since it keeps no state."""
    try:
        return _open_step(file, Path(file).stat().st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=4)
def _open_step(file: Path, changed: int) -> ExportedStep:
    return ExportedStep(file)


class ExportedFrames(FrameByFrame):
    """Frames in onnxruntime: one :class:`ExportedStep` for each hop and channel.

    For a model whose level follows the recording, at its own rate.
    """

    def __init__(self, step: ExportedStep, shift: int = 0) -> None:
        super().__init__(step.n_fft, step.hop, step.edge, shift)
        self._step = step
        self._states: list[list[np.ndarray]] = []  # of each channel

    def _enhance(self, windows: Tensor) -> Tensor:
        before, noisy = np.split(windows.numpy()[:, None], [-self._hop], axis=-1)
        states = self._states or [self._step.start(row) for row in before]
        results = [self._step(row, state) for row, state in zip(noisy, states, strict=True)]
        self._states = [state for _, *state in results]
        return torch.from_numpy(np.concatenate([enhanced for enhanced, *_ in results]))

    def _rest(self) -> Tensor:
        sums = np.stack([state[1] for state in self._states])
        return torch.from_numpy(sums[:, 0] / sums[:, 1].clip(LEAST_WEIGHT))
