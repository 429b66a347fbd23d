"""Standard input to standard output through a causal network, which answers while it reads."""

import os
import stat
from io import BufferedReader

from denoiser.audio import Info, piped
from denoiser.audio.raw import RAW, Raw
from denoiser.audio.reader import LARGEST, peak
from denoiser.errors import AudioError
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.options import Options
from denoiser.inference.pipes import STDIN, STDOUT
from denoiser.inference.recording import Enhanced


def enhance_pipe(
    denoiser: Denoiser, options: Options | None, source: BufferedReader, raw: Raw, size: int | None
) -> Enhanced:
    """Enhance samples as they come, up to ``size`` bytes; writes a WAV to standard output.

    Its header states a length only where standard output is a file. Nothing can be turned down once it is out, so what
    passes full scale is clipped. Raises AudioError for a pipe without samples, and where nobody reads the result.
    """
    samples, wav = piped.Samples(source, raw, size), piped.in_wav(raw)
    stream = denoiser.stream(raw.rate, options=options)
    begin = _place() if _is_file() else None
    written = 0
    for block in samples:
        if not stream.received:
            _write(piped.wav_header(wav))
        if not peak(block) <= LARGEST:
            raise AudioError(f"{STDIN}: holds NaN, infinite or absurd samples (over {LARGEST:g})")
        written += _write(wav.encode(stream.process(block).cpu()))
    if not stream.received:
        raise AudioError(f"{STDIN}: holds no samples")
    written += _write(wav.encode(stream.flush().cpu()))
    if begin is not None:
        _write(bytes(written % 2))  # a WAV has an even number of bytes
        end = _place()
        os.lseek(1, begin, os.SEEK_SET)
        _write(piped.wav_header(wav, written))
        os.lseek(1, end, os.SEEK_SET)
    seconds = stream.received / raw.rate
    info = Info(STDIN, raw.rate, stream.received, raw.channels, "WAV", RAW[raw.format][0], {}, seconds)
    notes = (f"cut off: {samples.missing} bytes are missing at its end",) if samples.missing else ()
    return Enhanced(seconds, 1.0, info, notes)


def _is_file() -> bool:
    """Return True if what was written to standard output can be written anew: not in a pipe, nor after ``>>``."""
    if not stat.S_ISREG(os.fstat(1).st_mode):
        return False
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    return not fcntl.fcntl(1, fcntl.F_GETFL) & os.O_APPEND


def _place() -> int:
    return os.lseek(1, 0, os.SEEK_CUR)


def _write(content: bytes) -> int:
    """Write to standard output, and return the number of bytes."""
    try:
        with open(1, "wb", closefd=False) as out:
            return out.write(content)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise AudioError(f"{STDOUT}: not all of the result could be written ({reason})") from error
