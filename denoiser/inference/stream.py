"""Waveform in, enhanced waveform out, piece by piece: what whole files and live blocks go through alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from denoiser.audio import ratio, reach, resample
from denoiser.audio.blocks import RESAMPLED, Blocks, Unchanged, resampling
from denoiser.errors import ConfigError, DenoiserError
from denoiser.inference.frames import Live
from denoiser.inference.level import Level, Running
from denoiser.inference.options import Options
from denoiser.inference.waveform import Waveform, is_finite, rows_of

if TYPE_CHECKING:
    from denoiser.inference.denoiser import Denoiser

FADE_SECONDS = 0.01  # over which one block gives way to the next


class Stream:
    """One recording through a denoiser, in pieces of any length; the pieces that come out make up the whole.

    With the :class:`Level` that ``Denoiser.enhance`` would find, the result is that of ``enhance``. Without one, each
    block is enhanced at the level of all that has come in until then: a few seconds later the difference is
    small, and where two blocks meet they are cross-faded over 10 ms.

    Not for use by several threads at once: each has its own. With a ``pool``, of a network that is not causal and at a
    level that is known, blocks are worked on there at once, and come out ``ahead`` blocks later.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        sample_rate: int,
        level: Level | None = None,
        options: Options | None = None,
        block_seconds: float = 2.0,
        pool: Executor | None = None,
        ahead: int = 0,
    ) -> None:
        self.denoiser, self.sample_rate = denoiser, sample_rate
        self.device = denoiser.spectral.window.device
        self.level = None if level is None else Level(*(part.to(self.device) for part in level))
        self.running = Running()
        model_rate = denoiser.sample_rate
        chosen = options or Options()
        self.above = chosen.full_band and sample_rate > model_rate
        self.options = replace(chosen, full_band=self.above)  # no gain of the upper bands where nothing is above
        size = min(RESAMPLED, block_seconds)
        self.down, self.up = resampling(sample_rate, model_rate, size), self._raising(model_rate, size)
        net, hop = denoiser.net, denoiser.spectral.hop
        fade = round(FADE_SECONDS * model_rate)
        self.core: Blocks | Live
        if denoiser.causal:
            if self.options.phase_iters:
                raise ConfigError(
                    f"phase_iters={self.options.phase_iters}: iterations look ahead, and this model is causal; use 0"
                )
            self.core = Live(denoiser, self.options, self._level, round(block_seconds * denoiser.spectral.frame_rate))
        else:
            self.core = Blocks(
                self._enhance,
                step=int(net.stride) * hop,
                context=denoiser.context(self.options) * hop + fade,
                size=round(block_seconds * model_rate),
                fade=fade,
                pool=pool,
                ahead=ahead,
            )
        self.restore: Callable[[Tensor], Any]
        self.waiting: Tensor | None = None  # input whose result is not out yet
        self.taken = self.given = 0  # samples

    @property
    def latency(self) -> float:
        """Seconds of input beyond a sample after which that sample has come out, at the most."""
        rate = self.denoiser.sample_rate
        samples = (self.core.size * (1 + self.core.ahead) + self.core.context) / rate
        for stage, at in ((self.down, self.sample_rate), (self.up, rate)):
            if isinstance(stage, Blocks):
                samples += (stage.size + stage.context) / at
        return samples

    @torch.no_grad()
    def process(self, block: Waveform) -> Waveform:
        """Take the next ``[C, n]``, ``[n]`` or ``[B, C, n]``, n ≥ 0; returns what is ready, of the same kind.

        Raises DenoiserError for NaN or infinity, or when the number of channels changes.
        """
        rows, self.restore = rows_of(block)
        rows = rows.to(self.device)
        if self.waiting is not None and len(rows) != len(self.waiting):
            raise DenoiserError(f"this stream has {len(self.waiting)} channels and was given a block of {len(rows)}")
        self.waiting = rows if self.waiting is None else torch.cat([self.waiting, rows], dim=-1)
        self.taken += rows.shape[-1]
        if self.level is not None:
            rows = rows - self.level.mean
        return self.restore(self._finish([out for low in self.down.push(rows) for out in self._through(low)]))

    @torch.no_grad()
    def flush(self) -> Any:
        """The recording has ended: returns the rest, ``[C, m]``, of the kind that came. The stream is then used up."""
        if self.waiting is None:
            raise DenoiserError("this stream was flushed before it was given anything")
        parts = [out for low in self.down.flush() for out in self._through(low)]
        parts += [out for both in self.core.flush() for out in self.up.push(both)]
        parts += list(self.up.flush())
        return self.restore(self._finish(parts))

    def _through(self, low: Tensor) -> Iterable[Tensor]:
        if self.level is None:
            self.running.add(low)
        for both in self.core.push(low):
            yield from self.up.push(both)

    def _level(self) -> Level:
        """Of what the network is to be given next: the mean is off already where it was known."""
        if self.level is None:
            return self.running.level
        return Level(self.level.rms, torch.zeros_like(self.level.mean))

    def _enhance(self, low: Tensor, wanted: slice) -> Tensor:
        """``[C, n]`` at the model's rate → what to add to the gain times the input, and that gain, where wanted:
        ``[2, C, m]``."""
        level = Level(*(part.to(low.device) for part in self._level()))
        enhanced, gain = self.denoiser.segment(low - level.mean, level.rms, self.options, wanted)
        # The input at its full rate, times the gain, holds the lower band too: that is taken away again here.
        return torch.stack([enhanced - gain * low[:, wanted], gain]) if self.above else enhanced[None]

    def _raising(self, model_rate: int, size: float) -> Blocks | Unchanged:
        if self.sample_rate == model_rate:
            return Unchanged()
        old, new = ratio(model_rate, self.sample_rate)

        def function(both: Tensor, wanted: slice) -> Tensor:
            raised = resample(both[0], model_rate, self.sample_rate)[None, ..., wanted]
            if not self.above:
                return raised
            places = (torch.arange(raised.shape[-1], device=both.device) + wanted.start) * old
            index, share = places // new, (places % new) / new
            after = (index + 1).clamp(max=both.shape[-1] - 1)
            return torch.cat([raised, torch.lerp(both[1][..., index], both[1][..., after], share)[None]])

        return Blocks(function, old, reach(model_rate, self.sample_rate), round(size * model_rate), (old, new))

    def _finish(self, parts: list[Tensor]) -> Tensor:
        assert self.waiting is not None
        if not parts:
            return self.waiting[:, :0]
        ready = torch.cat(parts, dim=-1)[..., : self.taken - self.given]
        noisy, self.waiting = self.waiting.split([ready.shape[-1], self.waiting.shape[-1] - ready.shape[-1]], dim=-1)
        self.given += ready.shape[-1]
        mean = 0.0 if self.level is None else self.level.mean
        enhanced = ready[0] + ready[1] * (noisy - mean) if self.above else ready[0]
        if not is_finite(enhanced):  # of weights or settings that overflow: not for anybody's ears
            raise DenoiserError("the model makes NaN or infinity of this sound; its weights or settings are broken")
        return torch.lerp(enhanced, noisy, self.options.dry) if self.options.dry else enhanced
