"""A microphone's blocks through a causal network: as many samples out as in, at a delay that stays."""

import math
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from denoiser.audio.reader import peak
from denoiser.errors import ConfigError
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.options import Options

WARM_UP_SECONDS = 0.5  # of sound, and a block at least
SILENCE = -99.0  # dB shown for digital silence


class Live:
    """Noisy blocks ``[n]`` at ``rate`` Hz → enhanced ones of the same length, ``delay`` seconds later.

    ``bypass`` may be set at any time: the noisy sound passes, at the same delay, after a cross-fade of one block. With
    ``keeps``, both sides are to be taken out by :meth:`kept`. ConfigError for a network that looks ahead.
    """

    def __init__(
        self, denoiser: Denoiser, rate: int, block: int, options: Options | None = None, keeps: bool = False
    ) -> None:
        self.stream = denoiser.stream(rate, options=options)
        if not denoiser.causal:
            given = f"the network looks ahead, and would answer {self.stream.latency:.1f} s late"
            raise ConfigError(f"{given}; live needs a causal one, as model=crn trains")
        self.rate, self.block = rate, block
        self.bypass = False
        self.keeps = keeps
        self.silence = torch.zeros(block)
        # Whole samples, in spite of rounding.
        self._waiting = math.ceil(self.stream.latency * rate - 1e-6)
        self.delay = self._waiting / rate
        # The first blocks take many times as long.
        self.reset()
        for _ in range(max(1, round(WARM_UP_SECONDS * rate / block))):
            self.process(1e-3 * torch.randn(block))
        self.reset()

    def reset(self) -> None:
        """Begin anew: nothing was heard or counted yet."""
        self.stream.reset()
        self._noisy = self._enhanced = torch.zeros(self._waiting)
        self._weight = 0.0 if self.bypass else 1.0
        self._kept: deque[Tensor] = deque()
        self.blocks = 0
        self.busy = self.longest = 0.0  # seconds of work, in all and of one block
        self._peaks = 0.0, 0.0

    def __call__(self, noisy: np.ndarray) -> np.ndarray:
        """Return the next block ``[n]`` for that of the microphone, and count the work."""
        begin = time.perf_counter()
        enhanced = self.process(torch.from_numpy(noisy)).numpy()
        took = time.perf_counter() - begin
        self.blocks += 1
        self.busy += took
        self.longest = max(self.longest, took)
        return enhanced

    def process(self, noisy: Tensor) -> Tensor:
        """Return the next ``[n]`` samples for the next ``[n]`` of the microphone."""
        count = len(noisy)
        waiting = torch.cat([self._noisy, noisy])
        ready = torch.cat([self._enhanced, self.stream.process(noisy)])
        before, self._noisy = waiting[:count], waiting[count:]
        after, self._enhanced = ready[:count], ready[count:]
        weight = 0.0 if self.bypass else 1.0
        if weight != self._weight:
            after = torch.lerp(before, after, torch.linspace(self._weight, weight, count))
        elif self.bypass:
            after = before
        self._weight = weight
        after = after.clamp(-1, 1)
        self._peaks = max(self._peaks[0], peak(noisy)), max(self._peaks[1], peak(after))
        if self.keeps:
            self._kept.append(torch.stack([before, after]))
        return after

    def levels(self) -> tuple[float, float]:
        """Return the peaks before and after since the last call, dBFS."""
        peaks, self._peaks = self._peaks, (0.0, 0.0)
        before, after = (20 * math.log10(value) if value > 0 else SILENCE for value in peaks)
        return max(before, SILENCE), max(after, SILENCE)

    def kept(self) -> Iterator[Tensor]:
        """Yield the blocks ``[2, n]`` that were not taken yet, noisy and enhanced, aligned in time."""
        while self._kept:
            yield self._kept.popleft()

    @property
    def load(self) -> float:
        """Mean share of a block's time that its work took."""
        return self.busy / max(1, self.blocks) * self.rate / self.block

    @property
    def worst_load(self) -> float:
        """Share of a block's time that the work on the slowest one took."""
        return self.longest * self.rate / self.block
