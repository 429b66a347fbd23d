"""Sound files out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from denoiser.audio import id3, libsndfile
from denoiser.audio.formats import BITS, FLOATING, encoding
from denoiser.errors import AudioError
from denoiser.filesystem import atomic_write

MAX_BYTES = (1 << 32) - (1 << 20)  # of samples, and room for headers: what a 32 bit length can state
_SHORT = {"WAV": "RF64", "WAVEX": "RF64", "AIFF": None, "AU": None}  # formats of such lengths, and their like without
_STEP = 1 << 14  # samples encoded at once: minutes of Vorbis in one call overflow libsndfile's stack


class Writer:
    """A sound file written block by block; it is there under its name only once all of it is on disk.

    ``format`` (``WAV``, ``FLAC``, ...) defaults to the one the extension names, ``subtype`` (``PCM_16``, ...) to that
    format's own default; what is not written here is replaced by the nearest that is. ``frames``, where it is known,
    is the number of samples to come: WAV becomes RF64 where they pass 4 GB. ``tags`` are those of TAGS: a format leaves
    out what it cannot hold.

    Raises AudioError where the format cannot hold the sound or the file cannot be written; then, and where the
    block that writes raises, nothing new is left and an older file stays.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int,
        channels: int,
        *,
        format: str | None = None,
        subtype: str | None = None,
        tags: Mapping[str, str] | None = None,
        frames: int | None = None,
    ) -> None:
        self._path, self._rate, self._channels = Path(path), sample_rate, channels
        self._format, self._subtype = encoding(self._path, format, subtype)
        if self._too_long(frames or 0) and _SHORT[self._format]:
            self._format, self._subtype = encoding(self._path, _SHORT[self._format], self._subtype)
        self._tags, self._frames, self._written = libsndfile.tags_of(tags or {}), frames, 0
        self._waiting: list[Tensor] = []
        self._stack = ExitStack()

    def __enter__(self) -> Writer:
        with self._explained(), ExitStack() as stack:
            if self._path.exists() and not self._path.is_file():
                raise ValueError("there is something of this name that is not a file")
            if self._format == "OGG" and self._channels > 255:
                raise ValueError("at most 255 channels")  # libsndfile 1.2.2 crashes instead of saying so
            self._check_length(self._frames or 0)
            partial = stack.enter_context(atomic_write(self._path))
            stack.push(lambda *error: None if error[0] else self._check(partial))
            file = id3.Tagged(partial, self._tags) if self._format == "MP3" and self._tags else None
            sound = libsndfile.Sound(
                partial, "w", self._rate, self._channels, self._subtype, format=self._format, file=file
            )
            self._sound = stack.enter_context(sound)
            if file is None:
                sound.tag(self._tags)
            stack.push(lambda *error: None if error[0] else self._flush(0))
            self._stack = stack.pop_all()
        return self

    def write(self, block: Tensor) -> None:
        """Append ``[C, n]`` floats in ±1; values beyond are clipped where the subtype is not a floating one."""
        self._waiting.append(block.detach().cpu().float())
        if sum(part.shape[1] for part in self._waiting) >= _STEP:
            with self._explained():
                self._flush(_STEP)

    def _flush(self, least: int) -> None:
        """Encode what waits in equal steps, the last of at least ``least`` samples: codecs see no blocks of ours."""
        steps = list(torch.cat(self._waiting, dim=1).split(_STEP, dim=1)) if self._waiting else []
        self._waiting = [steps.pop()] if steps and steps[-1].shape[1] < least else []
        for step in steps:
            self._written += step.shape[1]
            self._check_length(self._written)
            self._sound.write(_quantised(step, self._subtype).T.numpy())

    def __exit__(self, *error: Any) -> None:
        with self._explained(error[1]):
            self._stack.__exit__(*error)

    def _too_long(self, frames: int) -> bool:
        size = frames * self._channels * BITS.get(self._subtype, 8) // 8
        return self._format in _SHORT and size > MAX_BYTES

    def _check_length(self, frames: int) -> None:
        if self._too_long(frames):
            raise ValueError("it would pass 4 GB; .w64, .caf and .flac can")

    def _check(self, partial: Path) -> None:
        """Raise where the header does not say what was written: some formats hold few rates and tell nobody."""
        try:
            with libsndfile.Sound(partial) as sound:
                rate, channels, frames = sound.samplerate, sound.channels, sound.frames
        except libsndfile.ERRORS as error:
            raise ValueError(
                "the result cannot be read" if self._written else "it cannot be without samples"
            ) from error
        if (rate, channels) != (self._rate, self._channels):
            raise ValueError(f"it would say {rate} Hz, {channels} channels")
        if frames < self._written:
            raise ValueError(f"only {frames} of {self._written} samples got there")
        if self._format == "AIFF" and frames == self._written + 1 and self._subtype != "IMA_ADPCM":
            libsndfile.unpad(partial)

    @contextmanager
    def _explained(self, cause: BaseException | None = None) -> Iterator[None]:
        try:
            yield
        except libsndfile.ERRORS as error:
            if error is cause:
                raise
            reason = libsndfile.reason(error)
            if "not recognised" in reason:  # of a known format and subtype
                reason = "not so many channels; .wav can"
            raise AudioError(
                f"{self._path}: cannot be written as {self._format} {self._subtype}, {self._rate} Hz, "
                f"{self._channels} channels ({reason})"
            ) from error


def _quantised(samples: Tensor, subtype: str) -> Tensor:
    """To the nearest value the subtype holds: libsndfile itself rounds down, which costs 6 dB."""
    if subtype in FLOATING:
        return samples
    if BITS.get(subtype, 32) >= 32:
        return samples.clamp(-1, 1)
    scale = 1 << (BITS[subtype] - 1)
    return (samples * scale).round().clamp(-scale, scale - 1) / scale


def write(
    path: str | Path,
    waveform: Tensor,
    sample_rate: int,
    *,
    format: str | None = None,
    subtype: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write ``[C, N]`` floats in ±1 as one file; arguments and errors as of :class:`Writer`."""
    channels, frames = waveform.shape
    with Writer(path, sample_rate, channels, format=format, subtype=subtype, tags=tags, frames=frames) as writer:
        writer.write(waveform)
