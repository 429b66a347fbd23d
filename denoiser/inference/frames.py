"""A causal network over a signal that arrives in pieces, frame by frame."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from denoiser.inference.estimator import Estimator
from denoiser.inference.options import Options
from denoiser.inference.upper_band import SMOOTHED_FRAMES, UpperBand
from denoiser.models.causal import Memory
from denoiser.spectral import overlap_added


class FrameByFrame(ABC):
    """Replacement for :class:`~denoiser.audio.blocks.Blocks` that computes each frame once.

    A sample is ready once the last window over it is added. The first window is centred ``shift`` samples before the
    first sample. Up to ``at_once`` frames, of all channels together, are enhanced in one piece.
    """

    def __init__(self, n_fft: int, hop: int, edge: str, shift: int = 0, at_once: int = 1) -> None:
        self._n_fft, self._hop, self._edge = n_fft, hop, edge
        self._shift, self._at_once = shift, at_once
        # Largest number of input samples that a result waits for.
        self.delay = n_fft
        self._received = self._done = 0  # samples, and frames
        self._ahead: Tensor | None = None  # samples from the next frame on

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[C, n]`` and yield what is ready, as layers ``[L, C, m]`` of :class:`UpperBand`."""
        if not samples.shape[-1]:
            return
        before = self._n_fft // 2 + self._shift
        if self._ahead is None:
            self._ahead = F.pad(samples[:, :1], (before, 0), self._edge)[:, :before]
        self._ahead = torch.cat([self._ahead, samples], dim=-1)
        self._received += samples.shape[-1]
        yield from self._run((self._received + before - self._n_fft) // self._hop + 1)

    def flush(self) -> Iterable[Tensor]:
        """Yield the rest: the signal has ended."""
        if self._ahead is None:
            return
        self._ahead = F.pad(self._ahead, (0, self._n_fft + self._hop), self._edge)
        # The last window is centred on the end of the signal, or after it.
        yield from self._run(math.ceil((self._received + self._shift) / self._hop) + 1)
        yield from self._within(self._rest())

    def _run(self, until: int) -> Iterable[Tensor]:
        """Enhance the frames before number ``until``, and yield the samples that they complete."""
        assert self._ahead is not None
        at_once = max(1, self._at_once // len(self._ahead))
        while self._done < until:
            count = min(until - self._done, at_once)
            yield from self._within(self._enhance(self._ahead[:, : (count - 1) * self._hop + self._n_fft]))

    def _within(self, enhanced: Tensor) -> Iterable[Tensor]:
        """Yield the layers of what belongs to the signal of ``[C, n]`` samples, from the next frame's first one on."""
        assert self._ahead is not None
        begin, size = self._done * self._hop - self._n_fft // 2 - self._shift, enhanced.shape[-1]
        inside = slice(max(0, -begin), max(0, self._received - begin))
        low, self._ahead = self._ahead[:, :size][:, inside], self._ahead[:, size:]
        self._done += size // self._hop
        if low.shape[-1]:
            yield self._layers(enhanced[:, inside], low)

    @abstractmethod
    def _enhance(self, windows: Tensor) -> Tensor:
        """Enhance the next frames, which span ``[C, n]``; returns the samples before the frame that follows them."""

    @abstractmethod
    def _rest(self) -> Tensor:
        """Return the samples from the next frame on, to which no window will be added."""

    def _layers(self, enhanced: Tensor, low: Tensor) -> Tensor:
        """Return the layers of the next samples ``[C, n]``, enhanced and noisy."""
        return enhanced[None]


class Frames(FrameByFrame):
    """Frames in torch, of any causal network.

    The network keeps its state between frames, and the windows of the inverse STFT are added up as they come.
    ``level``, called for each piece, returns the RMS ``[C, 1]`` so far.
    """

    def __init__(
        self,
        estimator: Estimator,
        options: Options,
        level: Callable[[], Tensor],
        band: UpperBand,
        shift: int,
        at_once: int,
    ) -> None:
        self._spectral = spectral = estimator.spectral
        super().__init__(spectral.n_fft, spectral.hop, spectral.edge, shift, at_once)
        self._estimator, self._options, self._level, self._band = estimator, options, level, band
        self._memory: Memory = {}
        # Samples from the first gain that is still needed to the next output.
        self._start = shift

    def _enhance(self, windows: Tensor) -> Tensor:
        spectral = self._spectral
        if not self._done:
            # Powers of the last frames, for the level over time.
            self._powers = windows.new_zeros(len(windows), 0)
            # Overlap-added estimates, and in the last row squared windows, from the next frame on.
            self._sums = windows.new_zeros(len(windows) + 1, 0)
            # Energies of the frames whose gains are still needed, and of earlier ones they are averaged with.
            self._energies = windows.new_zeros(2, len(windows), SMOOTHED_FRAMES - 1)
        stft = spectral.stft(windows, center=False)
        levels = spectral.levels(stft, self._level(), self._powers)
        if spectral.level_frames:
            powers = torch.cat([self._powers, spectral.powers(stft)], dim=-1)
            self._powers = powers[..., -spectral.level_context :]
        noisy = spectral.normalise(stft, levels)
        magnitude, phase = self._estimator.magnitudes(noisy, self._options, self._memory)
        self._energies = torch.cat([self._energies, self._band.energies(noisy.magnitude, magnitude)], dim=-1)
        linear = spectral.all_bins(magnitude, phase, levels, noisy)
        estimates = torch.fft.irfft(linear.mT, self._n_fft) * spectral.window
        squares = (spectral.window**2).expand(1, stft.shape[-1], -1)
        new = overlap_added(torch.cat([estimates, squares]), self._hop)
        sums = F.pad(self._sums, (0, new.shape[-1] - self._sums.shape[-1])) + new
        count = stft.shape[-1] * self._hop
        self._sums = sums[:, count:]
        return sums[:-1, :count] / sums[-1:, :count]

    def _rest(self) -> Tensor:
        return self._sums[:-1] / self._sums[-1:]

    def _layers(self, enhanced: Tensor, low: Tensor) -> Tensor:
        layers = self._band.layers(enhanced, low, self._energies, self._start)
        used, self._start = divmod(self._start + low.shape[-1], self._hop)
        self._energies = self._energies[..., used:]
        return layers


class ShiftedFrames:
    """Mean of the results of ``cores`` for one signal; the frames of each are shifted by another number of samples.

    A sample is ready once all of them have it: within the same largest delay, though later on average.
    """

    def __init__(self, cores: Sequence[FrameByFrame]) -> None:
        self.cores = cores
        self.delay = cores[0].delay
        # Layers of each core that wait for the others.
        self._waiting: list[list[Tensor]] = [[] for _ in cores]

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[C, n]`` and yield what is ready, as layers ``[L, C, m]`` of :class:`UpperBand`."""
        return self._mean([core.push(samples) for core in self.cores])

    def flush(self) -> Iterable[Tensor]:
        """Yield the rest: the signal has ended."""
        return self._mean([core.flush() for core in self.cores])

    def _mean(self, results: Sequence[Iterable[Tensor]]) -> Iterator[Tensor]:
        """Yield the mean of the samples that all cores have."""
        for waiting, parts in zip(self._waiting, results, strict=True):
            waiting += parts
        if not all(self._waiting):
            return
        joined = [torch.cat(parts, dim=-1) for parts in self._waiting]
        count = min(layers.shape[-1] for layers in joined)
        self._waiting = [[layers[..., count:]] for layers in joined]
        if count:
            yield torch.stack([layers[..., :count] for layers in joined]).mean(0)
