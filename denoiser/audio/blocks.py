"""A function applied to a signal that arrives in pieces, with the same result as on the whole signal."""

import math
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor

from denoiser.audio.resampling import ratio, reach, resample

RESAMPLING_SECONDS = 4.0  # of a block


class Blocks:
    """Overlap-save: a function gets each block with context on either side, for which results are dropped.

    Args:
        function: takes ``[..., n]`` samples and a slice of their ``ceil(n * new / old)`` results; returns this slice.
        step: samples; a piece may begin at any multiple of it without effect on the results.
        context: number of samples on either side that a result may depend on.
        size: length of a block in samples, rounded to ``step``.
        rates: ``(old, new)``: ``old`` samples, of which ``step`` is a multiple, give ``new`` results.
        fade: number of results over which neighbouring blocks are cross-faded.
        threads: number of blocks that are computed at the same time, one of them by the calling thread.
    """

    def __init__(
        self,
        function: Callable[[Tensor, slice], Tensor],
        step: int,
        context: int,
        size: int,
        rates: tuple[int, int] = (1, 1),
        fade: int = 0,
        threads: int = 1,
    ) -> None:
        self.function = function
        self.rates = rates
        self.context = math.ceil(context / step) * step
        self.size = max(1, round(size / step)) * step
        self.ramp = (torch.arange(fade, dtype=torch.float32) + 0.5) / max(1, fade)
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        # One block more than threads, so that none idles while the results of the oldest are used.
        self.ahead = threads if threads > 1 else 0
        # Input samples after a sample until its result is out, at most.
        self.delay = self.size * (1 + self.ahead) + self.context
        self._buffer: Tensor | None = None
        self._before = 0  # samples of the buffer before the next block, a multiple of `step`
        # Calls that return a block's results, and how many come before those to be cross-faded with the next block.
        self._pending: deque[tuple[Callable[[], Tensor], int]] = deque()
        self._overlap: Tensor | None = None

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[..., n]`` samples and yield the results that are ready."""
        self._buffer = samples if self._buffer is None else torch.cat([self._buffer, samples], dim=-1)
        while self._buffer.shape[-1] >= self._before + self.size + self.context:
            self._begin(self._before + self.size + self.context, self.size)
            used = max(0, self._before + self.size - self.context)
            self._buffer = self._buffer[..., used:]
            self._before += self.size - used
            if len(self._pending) > self.ahead:
                yield self._oldest_results()

    def flush(self) -> Iterable[Tensor]:
        """Yield the remaining results: the signal has ended."""
        if self._buffer is not None:
            length = self._buffer.shape[-1]
            if length > self._before:
                self._begin(length, length - self._before)
        self._buffer = None
        while self._pending:
            yield self._oldest_results()
        if self.pool is not None:
            self.pool.shutdown()

    def _begin(self, length: int, size: int) -> None:
        """Start on the first ``length`` samples of the buffer, for the results of ``size`` samples from the next on."""
        assert self._buffer is not None
        old, new = self.rates
        first = self._before * new // old
        count = math.ceil(size * new / old)
        wanted = slice(first, first + count + len(self.ramp))
        call = partial(self.function, self._buffer[..., :length], wanted)
        self._pending.append((self.pool.submit(call).result if self.pool else call, count))

    def _oldest_results(self) -> Tensor:
        call, count = self._pending.popleft()
        results, beyond = call().tensor_split([count], dim=-1)
        if self._overlap is not None:
            n = min(self._overlap.shape[-1], results.shape[-1])
            ramp = self.ramp[:n].to(results.device)
            blended = torch.lerp(self._overlap[..., :n], results[..., :n], ramp)
            results = torch.cat([blended, results[..., n:]], dim=-1)
        # A copy, because a view would keep all of the block's results in memory.
        self._overlap = beyond.clone() if len(self.ramp) else None
        return results


class Passthrough:
    """Stand-in for :class:`Blocks` that leaves the signal as it is."""

    delay = 0

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        yield samples

    def flush(self) -> Iterable[Tensor]:
        return ()


def resampling(
    source: int, target: int, seconds: float = RESAMPLING_SECONDS, edge: str = "constant"
) -> Blocks | Passthrough:
    """Return blocks of ``seconds`` that resample a signal from ``source`` to ``target`` Hz, padded as ``edge`` says."""
    if source == target:
        return Passthrough()
    old, new = ratio(source, target)

    def function(samples: Tensor, wanted: slice) -> Tensor:
        return resample(samples, source, target, edge)[..., wanted]

    return Blocks(function, old, reach(source, target), round(seconds * source), (old, new))
