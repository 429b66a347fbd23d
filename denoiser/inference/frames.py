"""A causal network over a signal that arrives in pieces, frame by frame."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from denoiser.inference.estimator import Estimator
from denoiser.inference.exported import ExportedFrames
from denoiser.inference.options import Options
from denoiser.inference.upper_band import SMOOTHED_FRAMES, UpperBand
from denoiser.models.causal import Memory
from denoiser.spectral import overlap_added


class Frames:
    """Replacement for :class:`~denoiser.audio.blocks.Blocks` that computes each frame once.

    The network keeps its state between frames, and the windows of the inverse STFT are added up as they come: a sample
    is ready once its last window is added. ``level``, called for each piece, returns the RMS ``[C, 1]`` so far.
    ``frames`` of all channels together are put through the network at once.
    """

    def __init__(
        self, estimator: Estimator, options: Options, level: Callable[[], Tensor], band: UpperBand, frames: int
    ) -> None:
        self.estimator = estimator
        self.options = options
        self.level = level
        self.frames = max(1, frames)
        self._hop, self._n_fft = estimator.spectral.hop, estimator.spectral.n_fft
        self._half = self._n_fft // 2
        # Largest number of input samples that a result waits for.
        self.delay = self._n_fft
        self._memory: Memory = {}
        self._powers = torch.zeros(0)  # of the last frames, for the level over time
        self._band = band
        self._received = self._returned = 0  # samples
        self._frames_done = 0
        # Samples from the next frame on, and samples from the next output on.
        self._ahead: Tensor | None = None
        self._low = torch.zeros(0)
        # Overlap-added estimates, and in the last row squared windows; both start at the next output sample.
        self._sums = torch.zeros(0)
        # Energies of the frames whose gains are still needed, and of earlier ones they are averaged with.
        self._energies = torch.zeros(0)
        self._start = 0  # samples from the first of these gains to the next output

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[C, n]`` and yield what is ready, as layers ``[L, C, m]`` of :class:`UpperBand`."""
        if not samples.shape[-1]:
            return
        if self._ahead is None:
            # The first window is centred on the first sample.
            self._ahead = F.pad(samples[:, :1], (self._half, 0), self.estimator.spectral.edge)[:, : self._half]
            self._low = samples[:, :0]
            self._powers = samples.new_zeros(len(samples), 0)
            self._sums = samples.new_zeros(len(samples) + 1, 0)
            self._energies = samples.new_zeros(2, len(samples), SMOOTHED_FRAMES - 1)
        self._ahead = torch.cat([self._ahead, samples], dim=-1)
        self._low = torch.cat([self._low, samples], dim=-1)
        self._received += samples.shape[-1]
        complete = (self._received + self._half - self._n_fft) // self._hop + 1  # windows
        yield from self._run(complete)

    def flush(self) -> Iterable[Tensor]:
        """Yield the rest: the signal has ended."""
        if self._ahead is None or not self._received:
            return
        self._ahead = F.pad(self._ahead, (0, self._n_fft + self._hop), self.estimator.spectral.edge)
        last = math.ceil(self._received / self._hop)
        yield from self._run(last + 1)
        if self._returned < self._received:
            yield self._output(self._received)

    def _run(self, until: int) -> Iterable[Tensor]:
        """Enhance the frames before number ``until``, and yield the samples that they complete."""
        assert self._ahead is not None
        at_once = max(1, self.frames // len(self._ahead))
        while self._frames_done < until:
            count = min(until - self._frames_done, at_once)
            self._add_frames(self._ahead[:, : (count - 1) * self._hop + self._n_fft], count)
            self._ahead = self._ahead[:, count * self._hop :]
            self._frames_done += count
            complete = min(self._frames_done * self._hop - self._half, self._received)
            if complete > self._returned:
                yield self._output(complete)

    def _add_frames(self, piece: Tensor, count: int) -> None:
        spectral = self.estimator.spectral
        stft = spectral.stft(piece, center=False)
        levels = spectral.levels(stft, self.level(), self._powers)
        if spectral.level_frames:
            powers = torch.cat([self._powers, spectral.powers(stft)], dim=-1)
            self._powers = powers[..., -spectral.level_context :]
        noisy = spectral.normalise(stft, levels)
        magnitude, phase = self.estimator.magnitudes(noisy, self.options, self._memory)
        self._energies = torch.cat([self._energies, self._band.energies(noisy.magnitude, magnitude)], dim=-1)
        linear = spectral.all_bins(magnitude, phase, levels, noisy)
        windows = torch.fft.irfft(linear.mT, self._n_fft) * spectral.window
        squares = (spectral.window**2).expand(1, count, -1)
        new = overlap_added(torch.cat([windows, squares]), self._hop)
        first = self._frames_done * self._hop - self._half - self._returned
        if first < 0:  # half of the first window lies before the signal
            new, first = new[:, -first:], 0
        self._sums = F.pad(self._sums, (0, first + new.shape[-1] - self._sums.shape[-1]))
        self._sums[:, first:] += new

    def _output(self, until: int) -> Tensor:
        """Return the layers of all samples before ``until`` that have not been returned."""
        count = until - self._returned
        enhanced = self._sums[:-1, :count] / self._sums[-1:, :count]
        layers = self._band.layers(enhanced, self._low[:, :count], self._energies, self._start)
        used, self._start = divmod(self._start + count, self._hop)
        self._energies = self._energies[..., used:]
        self._low, self._sums = self._low[:, count:], self._sums[:, count:]
        self._returned = until
        return layers


class ShiftedFrames:
    """Mean of what ``cores`` make of the same signal, the frames of each so many samples later, its ``shifts``.

    A sample is ready once all of them have it: within the same largest delay, though later on average.
    """

    def __init__(self, cores: Sequence[Frames | ExportedFrames], shifts: Sequence[int], edge: str) -> None:
        self.cores = cores
        self.delay = cores[0].delay
        self._edge = edge
        self._shifts = shifts
        # Of each core, how many samples of its result lie before the signal and are still to be dropped, and the layers
        # that wait for the others.
        self._before = list(self._shifts)
        self._waiting: list[list[Tensor]] = [[] for _ in cores]
        self._begun = False

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[C, n]`` and yield what is ready, as layers ``[L, C, m]`` of :class:`UpperBand`."""
        if not samples.shape[-1]:
            return
        for number, (core, shift) in enumerate(zip(self.cores, self._shifts, strict=True)):
            given = samples
            if shift and not self._begun:
                before = F.pad(samples[:, :1], (shift, 0), self._edge)[:, :shift]
                given = torch.cat([before, samples], dim=-1)
            self._keep(number, core.push(given))
        self._begun = True
        yield from self._mean()

    def flush(self) -> Iterable[Tensor]:
        """Yield the rest: the signal has ended."""
        for number, core in enumerate(self.cores):
            self._keep(number, core.flush())
        yield from self._mean()

    def _keep(self, number: int, parts: Iterable[Tensor]) -> None:
        for part in parts:
            skipped = min(self._before[number], part.shape[-1])
            self._before[number] -= skipped
            self._waiting[number].append(part[..., skipped:])

    def _mean(self) -> Iterator[Tensor]:
        """Yield the mean of the samples that all cores have."""
        if not all(self._waiting):
            return
        joined = [torch.cat(parts, dim=-1) for parts in self._waiting]
        count = min(layers.shape[-1] for layers in joined)
        self._waiting = [[layers[..., count:]] for layers in joined]
        if count:
            yield torch.stack([layers[..., :count] for layers in joined]).mean(0)
