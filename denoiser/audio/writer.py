"""Sound files out, and sound for the players of a web page."""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from denoiser.audio import chunks, libsndfile
from denoiser.audio.blocks import resampling
from denoiser.audio.formats import (
    BITS,
    FAMILIES,
    FLOATING,
    MASKED,
    MASKS,
    UNHELD,
    VORBIS,
    Extras,
    encoding,
    lost,
    resampled,
    select_tags,
    writable_rate,
)
from denoiser.audio.metadata import speakers, write_extras
from denoiser.audio.resampling import resample
from denoiser.errors import AudioError
from denoiser.filesystem import atomic_write

MAX_BYTES = (1 << 32) - (1 << 20)  # of samples, with room for headers: the most that a 32 bit length can state
_LIMITED = ("WAV", "WAVEX", "AIFF", "AU")  # formats with lengths of 32 bits
_TOO_LONG = "it would pass 4 GB; .w64, .caf and .flac can"
# Samples encoded at once: minutes of Vorbis in one call overflow libsndfile's stack.
_STEP = 1 << 14


class Writer:
    """A sound file written block by block; it gets its name only once all of it is on disk.

    ``format`` (``WAV``, ...) and ``subtype`` (``PCM_16``, ...) go through :func:`~.formats.encoding`. ``frames`` is the
    number of samples to come, 0 if unknown: WAV becomes RF64 beyond 4 GB. A format leaves out ``tags`` it cannot hold;
    if it cannot keep ``extras``, a ``mask`` of speakers or the sample rate, ``notes`` say so.

    Raises AudioError if the format cannot hold the sound or the file cannot be written. Then, and if the ``with`` block
    raises, nothing new is left and an older file stays. A file ``in_place`` has its name from the start, and keeps what
    was written.
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
        frames: int = 0,
        mask: int | None = None,
        extras: Extras = Extras(),  # noqa: B008
        in_place: bool = False,
    ) -> None:
        self._in_place = in_place
        self._path, self._rate, self._channels = Path(path), sample_rate, channels
        self._format, self._subtype = encoding(self._path, format, subtype)
        if self._format == "WAV" and mask is not None and channels > 2:
            self._format, self._subtype = encoding(self._path, "WAVEX", self._subtype)
        rate = writable_rate(self._subtype, sample_rate)
        self._resampling = resampling(sample_rate, rate)
        self._rate, self._expected = rate, frames * rate // sample_rate
        self._extras_size = sum(len(content) + 32 for _, content in extras.parts)
        if self._format in ("WAV", "WAVEX") and self._is_too_long(frames):
            self._format, self._subtype = encoding(self._path, "RF64", self._subtype)
        is_reordered = self._format == "OGG" and channels in VORBIS
        self._order = torch.tensor(VORBIS[channels], device="cpu").argsort() if is_reordered else None
        self._keep(mask, extras, select_tags(tags or {}))
        if rate != sample_rate:
            self.notes.append(resampled({"OPUS": "Opus"}.get(self._subtype, "MP3"), sample_rate, rate))
        self._pending = torch.empty(channels, 0, dtype=torch.float32, device="cpu")
        self._written = 0

    def _keep(self, mask: int | None, extras: Extras, tags: dict[str, str]) -> None:
        """Choose the parts of a mask, of extras and of tags that the format can hold, and note the others."""
        self.notes: list[str] = []
        is_alike = FAMILIES.get(self._format) == extras.family
        self._extras = extras if is_alike else Extras()
        self._tags = {} if self._extras.has_texts else tags
        missed = [] if is_alike else extras.names
        missed += [name for name in self._tags if name in UNHELD.get(self._format, ())]
        if self._format == "MP3":
            # libsndfile 1.2.2 passes UTF-8 to LAME as Latin-1: Müller would become MÃ¼ller.
            missed += [name for name, text in self._tags.items() if not text.isascii()]
        self._tags = {name: text for name, text in self._tags.items() if name not in missed}
        if missed:
            self.notes.append(lost(missed, self._format))
        self._mask = mask if self._format in MASKED else None
        implied = MASKS.get(self._channels) if self._format in ("FLAC", "OGG") else None
        if mask and self._channels > 2 and mask not in (self._mask, implied, speakers(self._extras)):
            self.notes.append(f"not kept, as {self._format} has no place for it: the layout of the speakers")

    @property
    def has_headroom(self) -> bool:
        """True if values beyond full scale can be written."""
        return self._subtype in FLOATING

    def __enter__(self) -> "Writer":
        with self._explained(), ExitStack() as stack:
            if self._path.exists() and not self._path.is_file():
                raise ValueError("there is something of this name that is not a file")
            if self._format == "OGG" and self._channels > 255:
                # libsndfile 1.2.2 crashes instead of refusing.
                raise ValueError("at most 255 channels")
            if self._is_too_long(self._expected):
                raise ValueError(_TOO_LONG)
            self._partial = self._path if self._in_place else stack.enter_context(atomic_write(self._path))
            sound = libsndfile.Sound(self._partial, "w", self._rate, self._channels, self._subtype, format=self._format)
            self._sound = stack.enter_context(sound)
            for name, text in self._tags.items():
                # A format need not hold it.
                with suppress(*libsndfile.ERRORS):
                    setattr(self._sound, name, text)
            self._stack = stack.pop_all()
        return self

    def write(self, block: Tensor) -> None:
        """Append ``[C, n]`` floats in ±1; values beyond are clipped unless the subtype is a floating one."""
        for samples in self._resampling.push(block.detach().cpu().float()):
            self._append(samples)

    def _append(self, samples: Tensor) -> None:
        self._pending = torch.cat([self._pending, samples], dim=1)
        with self._explained():
            # Equal steps, whatever the blocks: the result of a codec depends on them.
            while self._pending.shape[1] >= _STEP:
                self._encode(self._pending[:, :_STEP])
                self._pending = self._pending[:, _STEP:]

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            # A second error, of closing what is thrown away, must not hide the first.
            with suppress(*libsndfile.ERRORS):
                self._stack.__exit__(kind, *error)
            return
        with self._explained(), self._stack:
            for samples in self._resampling.flush():
                self._append(samples)
            if self._pending.numel():
                self._encode(self._pending)
            self._sound.close()
            if self._extras.parts and self._extras.family in ("FLAC", "OGG", "MP3"):
                write_extras(self._partial, self._extras)
            elif self._extras.parts or self._mask is not None:
                chunks.complete(self._partial, self._extras, self._mask)
            self._check_end()

    def _check_end(self) -> None:
        """Raise an error if the end of what was written is not there: some codecs do not report a full disk."""
        with libsndfile.hushed(), libsndfile.Sound(self._partial) as sound:
            if sound.frames < self._written:
                raise ValueError(f"only {sound.frames} of {self._written} samples got there")
            if not self._written or self._format not in ("FLAC", "MP3"):
                return
            # Their headers state the samples that were to come.
            with suppress(soundfile.SoundFileError):
                sound.seek(self._written - 1)
                if len(sound.read(1)):
                    return
            raise ValueError("its last samples did not get there; is the disk full?")

    def _encode(self, samples: Tensor) -> None:
        self._written += samples.shape[1]
        if self._is_too_long(self._written):
            raise ValueError(_TOO_LONG)
        ordered = samples if self._order is None else samples[self._order]
        self._sound.write(quantised(ordered, self._subtype).T.numpy())

    def _is_too_long(self, frames: int) -> bool:
        size = frames * self._channels * BITS.get(self._subtype, 8) // 8 + self._extras_size
        return self._format in _LIMITED and size > MAX_BYTES

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of libsndfile or the system into an AudioError of one line."""
        try:
            yield
        except libsndfile.ERRORS as error:
            sound = f"{self._format} {self._subtype}, {self._rate} Hz, {self._channels} channels"
            why = libsndfile.reason(error)
            raise AudioError(f"{self._path}: cannot be written as {sound} ({why})") from error


def quantised(samples: Tensor, subtype: str) -> Tensor:
    """Round to the nearest value the subtype holds: libsndfile itself rounds down, which costs 6 dB."""
    if subtype in FLOATING:
        return samples
    if BITS.get(subtype, 32) >= 32:
        return samples.clamp(-1, 1)
    scale = 1 << (BITS[subtype] - 1)
    return (samples * scale).round().clamp(-scale, scale - 1) / scale


def write(path: str | Path, waveform: Tensor, sample_rate: int, **options: Any) -> None:
    """Write ``[C, N]`` floats in ±1 as one file; ``format``, ``subtype``, ``tags`` and errors as of :class:`Writer`."""
    channels, frames = waveform.shape
    with Writer(path, sample_rate, channels, frames=frames, **options) as writer:
        writer.write(waveform)


def mp3(waveform: Tensor, sample_rate: int) -> bytes:
    """Encode the first two channels of ``[C, N]`` in ±1 as MP3, at the same rate or the next one that MP3 knows.

    Raises AudioError if this libsndfile has no encoder.
    """
    # MP3 knows rates below 16 kHz too, but they sound muffled.
    target = writable_rate("MPEG_LAYER_III", max(sample_rate, 16_000))
    samples = resample(waveform[:2], sample_rate, target).clamp(-1, 1).numpy().T
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, target, format="MP3")
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(f"players need an MP3 encoder, which libsndfile lacks here: {error}") from error
    return buffer.getvalue()
