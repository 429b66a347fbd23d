"""A causal network over a signal that arrives in pieces: frame by frame, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from denoiser.inference.level import Level
from denoiser.models.causal import Memory
from denoiser.spectral import overlap_added

if TYPE_CHECKING:
    from denoiser.inference.denoiser import Denoiser
    from denoiser.inference.options import Options

SMOOTHED = 3  # frames that the gain of the band above the model's is averaged over


class Live:
    """In the place of :class:`~denoiser.audio.blocks.Blocks` where the network is causal.

    The network remembers what it needs of the frames before, and the windows of the inverse STFT are added up as they
    come: nothing is computed twice, and pieces of any length give what the whole gives. A sample comes out once the
    last window that holds it is full, ``n_fft`` samples later at the most.

    Args:
        level: what the samples ``[C, n]`` are divided by and freed of, asked for at each piece.
        frames: that are put through the network at once, of all channels together: bounds the memory.
    """

    size = ahead = 0  # of a block, and blocks that wait for others: what comes in is worked on at once

    def __init__(self, denoiser: Denoiser, options: Options, level: Callable[[], Level], frames: int) -> None:
        self.denoiser, self.options, self.level, self.frames = denoiser, options, level, max(1, frames)
        self.hop, self.context = denoiser.spectral.hop, denoiser.spectral.n_fft
        self.half = self.context // 2
        self.memory: Memory = {}
        self.held: Tensor | None = None  # samples, from the first of the first window that is not full
        self.input = torch.zeros(0)  # samples, from `given` on
        self.taken = self.given = self.done = 0  # samples, samples, frames
        self.added = self.weight = torch.zeros(0)  # windowed estimates, and squared windows, from `given` on
        self.energy = torch.zeros(0)  # of the frames that gains are still to be made of
        self.first = -(SMOOTHED - 1)  # the first of these frames

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[C, n]``; yield what is ready: what to add to the gain times the input, and that gain, ``[2, C, m]``.

        Without ``options.full_band`` the gain is 0 and left out, ``[1, C, m]``.
        """
        if self.held is None:
            self.held, self.input = samples.new_zeros(len(samples), self.half), samples[:, :0]
            self.energy = samples.new_zeros(2, len(samples), SMOOTHED - 1)
        self.held = torch.cat([self.held, samples], dim=-1)
        self.input = torch.cat([self.input, samples], dim=-1)
        self.taken += samples.shape[-1]
        yield from self._run((self.taken + self.half - self.context) // self.hop + 1)

    def flush(self) -> Iterable[Tensor]:
        """The signal has ended: yield the rest."""
        if self.held is None or not self.taken:
            return
        self.held = F.pad(self.held, (0, self.context + self.hop))
        yield from self._run(1 - -self.taken // self.hop)
        if self.given < self.taken:
            yield self._out(self.taken)

    def _run(self, until: int) -> Iterable[Tensor]:
        """The frames before this one, of those that are left."""
        assert self.held is not None
        while (count := min(until - self.done, max(1, self.frames // len(self.held)))) > 0:
            self._frames(self.held[:, : (count - 1) * self.hop + self.context], count)
            self.held = self.held[:, count * self.hop :]
            self.done += count
            ready = min(self.done * self.hop - self.half, self.taken)
            if ready > self.given:
                yield self._out(ready)

    def _frames(self, piece: Tensor, count: int) -> None:
        spectral, level = self.denoiser.spectral, self.level()
        mean, rms = level.mean.to(piece.device), level.rms.to(piece.device)
        noisy = spectral(piece - mean, rms, center=False)
        clean, phase, energy = self.denoiser.magnitudes(noisy, self.options, self.memory)
        windows = torch.fft.irfft((spectral.unscale(clean) * phase).mT, self.context)
        self.added = self._joined(self.added, windows * spectral.window * rms[..., None])
        self.weight = self._joined(self.weight, (spectral.window**2).expand(1, count, -1))
        if energy is not None:
            self.energy = torch.cat([self.energy, energy], dim=-1)

    def _joined(self, before: Tensor, windows: Tensor) -> Tensor:
        """Windows ``[C, count, n_fft]`` added where they belong, to what was there: ``[C, m]``, from ``given`` on."""
        new = overlap_added(windows, self.hop)
        first = self.done * self.hop - self.half - self.given
        if first < 0:  # the half of the first window that lies before the signal
            new, first = new[:, -first:], 0
        if not before.numel():
            return new
        joined = F.pad(before, (0, first + new.shape[-1] - before.shape[-1]))
        joined[:, first:] += new
        return joined

    def _out(self, until: int) -> Tensor:
        count = until - self.given
        out = (self.added[:, :count] / self.weight[:, :count])[None]
        if self.options.full_band:
            places = torch.arange(self.given, until, device=out.device) - (self.first + SMOOTHED - 1) * self.hop
            gain = upper_gain(self.energy, places, self.hop)
            over = until // self.hop - (self.first + SMOOTHED - 1)  # frames that no later sample lies after
            self.energy, self.first = self.energy[..., over:], self.first + over
            out = torch.stack([out[0] - gain * self.input[:, :count], gain])
        self.added, self.weight, self.given = self.added[:, count:], self.weight[:, count:], until
        self.input = self.input[:, count:]
        return out


def upper_gain(energy: Tensor, places: Tensor, hop: int) -> Tensor:
    """Energies before and after of a frame's upper bins ``[2, C, T]`` → gains at samples ``[C, places]``, 0 to 1.

    Means over :data:`SMOOTHED` frames, of which the first begins at place 0; linear between the frames.
    """
    before, after = F.avg_pool1d(energy, SMOOTHED, 1)
    gain = (after / before.clamp(min=1e-20)).clamp(max=1).sqrt()
    index, share = places // hop, places % hop / hop
    return torch.lerp(gain[:, index], gain[:, (index + 1).clamp(max=gain.shape[-1] - 1)], share)
