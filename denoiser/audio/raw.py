"""Headerless PCM: its formats, by the names that ffmpeg and sox users know, and the header that it lacks."""

import io
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from denoiser.audio.formats import BITS
from denoiser.audio.writer import quantised
from denoiser.errors import AudioError, ConfigError

# Name → libsndfile's subtype and order of bytes.
RAW = {
    "s8": ("PCM_S8", "FILE"), "u8": ("PCM_U8", "FILE"), "alaw": ("ALAW", "FILE"), "mulaw": ("ULAW", "FILE"),
    "s16le": ("PCM_16", "LITTLE"), "s24le": ("PCM_24", "LITTLE"), "s32le": ("PCM_32", "LITTLE"),
    "f32le": ("FLOAT", "LITTLE"), "f64le": ("DOUBLE", "LITTLE"),
    "s16be": ("PCM_16", "BIG"), "s24be": ("PCM_24", "BIG"), "s32be": ("PCM_32", "BIG"),
    "f32be": ("FLOAT", "BIG"), "f64be": ("DOUBLE", "BIG"),
}  # fmt: skip
_LARGEST_WAV = 4_000_000_000  # bytes
_STEP = 1 << 16  # samples per channel copied at once


@dataclass(frozen=True)
class Raw:
    """The facts of headerless PCM: a format of RAW, the sample rate in Hz, and the number of interleaved channels."""

    format: str
    rate: int
    channels: int = 1

    def __post_init__(self) -> None:
        if self.format not in RAW:
            raise ConfigError(f"format={self.format}: no format of headerless PCM; there are: {', '.join(RAW)}")

    @property
    def frame(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * BITS.get(RAW[self.format][0], 8) // 8

    def _open(self, file: Path | io.BytesIO, mode: str = "r") -> soundfile.SoundFile:
        subtype, order = RAW[self.format]
        return soundfile.SoundFile(file, mode, self.rate, self.channels, subtype, order, "RAW")

    def decode(self, content: bytes) -> Tensor:
        """Return the samples ``[C, n]`` of whole frames."""
        with self._open(io.BytesIO(content)) as file:
            return torch.from_numpy(file.read(dtype="float32", always_2d=True).T.copy())

    def encode(self, samples: Tensor) -> bytes:
        """Return samples ``[C, n]`` as bytes; values that the format cannot hold are clipped."""
        buffer = io.BytesIO()
        with self._open(buffer, "w") as file:
            file.write(quantised(samples, RAW[self.format][0]).T.numpy())
        return buffer.getvalue()

    def add_header(self, source: Path, target: Path) -> None:
        """Write the samples of ``source``, unchanged, as a WAV file. Raises AudioError if they are not whole frames."""
        subtype, _ = RAW[self.format]
        size = source.stat().st_size
        if size % self.frame:
            given = f"format={self.format} channels={self.channels}"
            raise AudioError(f"{source}: {size} bytes, which {given} does not divide into frames of {self.frame}")
        # libsndfile has signed bytes in no WAV.
        kept = "PCM_16" if subtype == "PCM_S8" else subtype
        kind = "WAV" if size < _LARGEST_WAV else "RF64"
        dtype = "float64" if subtype in ("FLOAT", "DOUBLE") else "int32"
        with (
            self._open(source) as raw,
            soundfile.SoundFile(target, "w", self.rate, self.channels, kept, format=kind) as wav,
        ):
            for block in raw.blocks(_STEP, dtype=dtype):
                wav.write(block)
