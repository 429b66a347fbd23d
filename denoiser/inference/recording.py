"""One sound file → its enhanced version, in memory that does not grow with its length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from denoiser.audio import FLOATING, Reader, Writer
from denoiser.audio.loudness import Meter
from denoiser.errors import AudioError
from denoiser.inference.level import measure
from denoiser.inference.options import Options
from denoiser.inference.stream import Stream

if TYPE_CHECKING:
    from denoiser.inference.denoiser import Denoiser

READ_SAMPLES = 1 << 18  # of all channels, read from a file at once
SHARED_BLOCK = 16.0  # seconds of one among several at once, to which a long one is cut: for memory
SHORTEST = 4.0  # seconds of a block, of a recording of many channels; unet10 sees one more on either side


def enhance_recording(
    denoiser: Denoiser,
    source: Path,
    target: Path,
    options: Options | None = None,
    loudness: float | None = None,
    progress: Callable[[float], None] | None = None,
    blocks_at_once: int = 1,
) -> Enhanced:
    """What :meth:`Denoiser.enhance_file` does."""
    if target.exists() and target.samefile(source):
        raise AudioError(f"{target}: is the input itself; give another output=")
    # One more waits, so that no thread does while a block is written and the next is read.
    ahead, pooled = (blocks_at_once, ThreadPoolExecutor(blocks_at_once)) if blocks_at_once > 1 else (0, nullcontext())
    with Reader(source) as reader, pooled as pool:
        info = reader.info
        same = target.suffix.lower() == source.suffix.lower()
        limited = not (same and info.subtype in FLOATING)
        level = measure(lambda: _blocks(reader), info.sample_rate, denoiser.sample_rate)

        most = denoiser.block_seconds  # less than SHORTEST for networks that need much memory
        if blocks_at_once > 1:
            most = min(most, max(SHARED_BLOCK, most / blocks_at_once))
        seconds = max(min(SHORTEST, most), most * min(1.0, 2 / info.channels))

        def blocks(share: float) -> Iterator[Tensor]:
            stream = Stream(denoiser, info.sample_rate, level, options, seconds, pool, ahead)
            for piece in itertools.chain(_blocks(reader), [None]):
                if piece is None and not stream.taken:
                    raise AudioError(f"{source}: holds no samples")
                block = (stream.flush() if piece is None else stream.process(piece)).cpu()
                if block.numel():
                    yield block
                if progress is not None:
                    progress(share * block.shape[-1] / info.sample_rate)

        def save(gain: float, share: float) -> int:
            peak, samples = 0.0, 0
            with Writer(
                target, info.sample_rate, info.channels, format=info.format if same else None, subtype=info.subtype,
                tags=info.tags,
                    frames=info.frames or round(info.seconds * info.sample_rate),
            ) as writer:  # fmt: skip
                for block in blocks(share):
                    block *= gain
                    peak = max(peak, float(block.abs().max()))
                    samples += block.shape[-1]
                    if not (limited and peak > 1):
                        writer.write(block)
                if limited and peak > 1:
                    raise _ClippedError(peak)
            return samples

        gain, passes = 1.0, 1 if loudness is None else 2
        if loudness is not None:
            meter = Meter(info.sample_rate, info.channels)
            for block in blocks(1 / passes):
                meter.add(block)
            gain = meter.gain(loudness)
        try:
            samples = save(gain, 1 / passes)
        except _ClippedError as clipped:  # what all of it had to be turned down by was not known before: once more
            gain *= (1 - 1e-6) / clipped.peak
            samples = save(gain, 0)
    return Enhanced(samples / info.sample_rate, gain, info.sample_rate, info.channels)


class Enhanced(NamedTuple):
    """What became of a file: its length, and the gain it took to fit full scale or to have the loudness asked for."""

    seconds: float
    gain: float
    sample_rate: int
    channels: int


class _ClippedError(Exception):
    def __init__(self, peak: float) -> None:
        self.peak = peak


def _blocks(reader: Reader) -> Iterator[Tensor]:
    """A file from its beginning, some seconds at a time."""
    reader.rewind()
    while (block := reader.read(READ_SAMPLES // reader.info.channels)).shape[-1]:
        yield block
