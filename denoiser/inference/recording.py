"""One sound file → its enhanced version, in memory that does not grow with its length."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from denoiser.audio import Info, Reader, Writer
from denoiser.audio.formats import FORMATS, MUXERS
from denoiser.audio.loudness import Meter
from denoiser.audio.muxer import ContainerWriter
from denoiser.audio.reader import peak
from denoiser.errors import AudioError
from denoiser.inference.estimator import Estimator
from denoiser.inference.level import measure_level
from denoiser.inference.options import Options
from denoiser.inference.stream import Stream

READ_SAMPLES = 1 << 18  # per read, over all channels
SHORTEST_START = 0.003  # seconds; packets of codecs begin a little before or after their time
SHARED_BLOCK = 16.0  # seconds; longest block when several run in parallel, to limit memory
SHORTEST_BLOCK = 4.0  # seconds; many channels shorten blocks, and unet10 adds 1 s of context on either side


class Enhanced(NamedTuple):
    """Result of enhancing a file; ``gain`` set the requested loudness, or avoided clipping.

    ``notes`` are sentences on what is wrong with the source, and on what of it the target does not keep.
    """

    seconds: float
    gain: float
    info: Info  # of the source
    notes: tuple[str, ...] = ()


@dataclass
class Recording:
    """A file that is enhanced block by block, ``blocks_at_once`` in parallel, several times if needed."""

    estimator: Estimator
    reader: Reader
    options: Options
    progress: Callable[[float], None] | None
    blocks_at_once: int

    def __post_init__(self) -> None:
        self.info = self.reader.info
        self._state = _state(self.info.path)
        self.estimator = self.estimator.at(self.info.sample_rate)
        self.level = measure_level(self._read, self.info.sample_rate, self.estimator.level_rate)

    def enhance_into(self, target: Path, loudness: float | None) -> Enhanced:
        """Write the enhanced recording, at ``loudness`` (LUFS) if given, never beyond full scale."""
        gain, passes = 1.0, 1
        if loudness is not None:
            passes = 2
            meter = Meter(self.info.sample_rate, self.info.channels, self.info.mask)
            for block in self._enhance(1 / passes):
                meter.add(block)
            gain = meter.gain(loudness)
        try:
            samples = self._save(target, gain, 1 / passes)
        except _ClippedError as clipped:
            # The peak is known only now, and the blocks are gone: enhance the recording once more.
            gain *= (1 - 1e-6) / clipped.args[0]
            samples = self._save(target, gain, 0)
        return Enhanced(samples / self.info.sample_rate, gain, self.info, (*self.reader.notes, *self.losses))

    def _read(self) -> Iterator[Tensor]:
        """Yield the noisy recording from its beginning, ``[C, n]`` at a time."""
        self.reader.rewind()
        while (block := self.reader.read(READ_SAMPLES // self.info.channels)).shape[-1]:
            yield block

    def _enhance(self, share: float) -> Iterator[Tensor]:
        """Yield the enhanced recording in blocks ``[C, n]``; the pass counts as ``share`` of the progress."""
        longest = self.estimator.block_seconds
        if self.blocks_at_once > 1:
            longest = min(longest, SHARED_BLOCK)
        # Two channels still have the full length.
        seconds = min(longest, max(SHORTEST_BLOCK, 2 * longest / self.info.channels))
        rate = self.info.sample_rate
        stream = Stream(self.estimator, rate, self.level, self.options, seconds, self.blocks_at_once)
        for noisy in self._read():
            yield from self._finished(stream.process(noisy), share)
        if not stream.received:
            raise AudioError(f"{self.info.path}: holds no samples")
        yield from self._finished(stream.flush(), share)

    def _finished(self, block: Tensor, share: float) -> Iterator[Tensor]:
        if block.numel():
            yield block.cpu()
        if self.progress is not None:
            self.progress(share * block.shape[-1] / self.info.sample_rate)

    def _save(self, target: Path, gain: float, share: float) -> int:
        """Write the enhanced recording times ``gain``; returns its length in samples.

        Raises _ClippedError, and writes nothing, where the format cannot hold its peak.
        """
        info = self.info
        largest, samples = 0.0, 0
        writer = self._writer(target)
        limited = not writer.has_headroom
        self.losses = writer.notes
        with writer:
            if isinstance(writer, Writer) and info.start >= SHORTEST_START:
                # As late as in the film, so that the file can be laid under the picture.
                writer.write(torch.zeros(info.channels, round(info.start * info.sample_rate)))
            for block in self._enhance(share):
                block = block * gain
                largest = max(largest, peak(block))
                samples += block.shape[-1]
                if not limited or largest <= 1:
                    writer.write(block)
            if _state(info.path) not in (None, self._state):
                # The result would lack the end, be newer than the recording, and never be done again.
                advice = "is it still being recorded or copied? Wait for its end, or give a copy"
                raise AudioError(f"{info.path}: changed while it was read; {advice}")
            if limited and largest > 1:
                raise _ClippedError(largest)
        return samples

    def _writer(self, target: Path) -> Writer | ContainerWriter:
        info = self.info
        if target.suffix.lower() in MUXERS:
            return ContainerWriter(target, info)
        same_format = target.suffix.lower() == info.path.suffix.lower()
        writer = Writer(
            target,
            info.sample_rate,
            info.channels,
            format=info.format if same_format else None,
            subtype=info.subtype,
            tags=info.tags,
            frames=info.frames or round((info.seconds + info.start) * info.sample_rate),
            mask=info.mask,
            extras=info.extras,
        )
        codec = info.container.sound["codec_name"] if info.container else ""
        if same_format and codec == "flac" and FORMATS[target.suffix.lower()] == "OGG":
            kept = f"flac cannot be written into {target.suffix}, and a .flac would keep all of it"
            writer.notes.append(f"its sound becomes lossy: {kept}")
        return writer


def _state(path: Path) -> tuple[int, int] | None:
    """Return the size of a file and the time of its last change, None if it is no longer there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


class _ClippedError(Exception):
    """The result passes full scale in a format of limited range; the argument is its peak."""
