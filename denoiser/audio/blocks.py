"""A function over a signal that arrives in pieces, with the result it has on the whole."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future

import torch
from torch import Tensor

from denoiser.audio import ratio, reach, resample

RESAMPLED = 4.0  # seconds at once


class Blocks:
    """Runs a function over a signal that arrives in pieces, with the result it has on the whole.

    Each block is given with ``context`` samples of its surroundings, whose results are thrown away (overlap-save).

    Args:
        function: ``[..., n]`` and a slice of its ``ceil(n * new / old)`` results → these alone. A result follows from
            the ``context`` samples on either side of its place alone, whatever the start of the piece, as long as that
            is a multiple of ``step``.
        step: samples; a multiple of ``old``.
        context: samples.
        size: of a block, samples; rounded to ``step``.
        rates: ``(old, new)``: for ``old`` samples in, ``new`` come out.
        fade: results over which two neighbouring blocks are cross-faded: heard only if they differ.
        pool: whose threads run the function, a block each; None for here, one by one.
        ahead: blocks that are begun, or wait for a thread, before the results of one are waited for.
    """

    def __init__(
        self,
        function: Callable[[Tensor, slice], Tensor],
        step: int,
        context: int,
        size: int,
        rates: tuple[int, int] = (1, 1),
        fade: int = 0,
        pool: Executor | None = None,
        ahead: int = 0,
    ) -> None:
        self.pool, self.ahead = pool, ahead
        self.begun: deque[tuple[Future[Tensor], int]] = deque()  # results, and how many are the block's own
        self.function, self.step, self.rates = function, step, rates
        self.context = math.ceil(context / step) * step
        self.size = max(1, round(size / step)) * step
        self.ramp = (torch.arange(fade) + 0.5) / fade if fade else torch.zeros(0)
        self.held: Tensor | None = None  # samples from `start` on
        self.start = self.done = 0  # both multiples of `step`
        self.tail: Tensor | None = None  # the last block's results beyond its end

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        """Take ``[..., n]``; yield what is ready."""
        self.held = samples if self.held is None else torch.cat([self.held, samples], dim=-1)
        while self.held.shape[-1] >= (need := self.done + self.size + self.context - self.start):
            self._begin(need, self.size)
            self.done += self.size
            start = max(0, self.done - self.context)
            self.held, self.start = self.held[..., start - self.start :], start
            if len(self.begun) > self.ahead:
                yield self._finished()

    def flush(self) -> Iterable[Tensor]:
        """The signal has ended: yield the rest."""
        if self.held is not None and (left := self.start + self.held.shape[-1] - self.done) > 0:
            self._begin(self.held.shape[-1], left)
        self.held = None
        while self.begun:
            yield self._finished()

    def _begin(self, length: int, wanted: int) -> None:
        old, new = self.rates
        assert self.held is not None
        first, count = (self.done - self.start) * new // old, math.ceil(wanted * new / old)
        arguments = self.held[..., :length], slice(first, first + count + len(self.ramp))
        results: Future[Tensor]
        if self.pool is None:
            results = Future()
            results.set_result(self.function(*arguments))
        else:
            results = self.pool.submit(self._without_gradient, *arguments)
        self.begun.append((results, count))

    @torch.no_grad()  # of its own in every thread
    def _without_gradient(self, block: Tensor, wanted: slice) -> Tensor:
        return self.function(block, wanted)

    def _finished(self) -> Tensor:
        """The results of the block that was begun first."""
        future, count = self.begun.popleft()
        results = future.result()
        results, beyond = results[..., :count], results[..., count:]
        if self.tail is not None:
            n = min(self.tail.shape[-1], results.shape[-1])
            ramp = self.ramp[:n].to(results.device)
            blended = torch.lerp(self.tail[..., :n], results[..., :n], ramp)
            results = torch.cat([blended, results[..., n:]], dim=-1)
        self.tail = beyond.clone() if len(self.ramp) else None
        return results


class Unchanged:
    """Blocks of a signal that needs nothing done."""

    def push(self, samples: Tensor) -> Iterable[Tensor]:
        yield samples

    def flush(self) -> Iterable[Tensor]:
        return ()


def resampling(source: int, target: int, size: float = RESAMPLED) -> Blocks | Unchanged:
    """Blocks of ``size`` seconds at ``source`` Hz → ``target`` Hz."""
    if source == target:
        return Unchanged()
    old, new = ratio(source, target)

    def function(x: Tensor, wanted: slice) -> Tensor:
        return resample(x, source, target)[..., wanted]

    return Blocks(function, old, reach(source, target), round(size * source), (old, new))
