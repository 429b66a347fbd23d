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

    Its header states a length only where standard output is a file that is not appended to. Nothing can be turned down
    once it is out, so what passes full scale is clipped. Raises AudioError for a pipe without samples, and where nobody
    reads the result.
    """
    samples, wav = piped.Samples(source, raw, size), piped.in_wav(raw)
    stream = denoiser.stream(raw.rate, options=options)
    begin = _place_in_file()
    written = 0
    try:
        for block in samples:
            if not stream.received:
                _write(piped.wav_header(wav))
            if not peak(block) <= LARGEST:
                raise AudioError(f"{STDIN}: holds NaN, infinite or absurd samples (over {LARGEST:g})")
            written += _write(wav.encode(stream.process(block).cpu()))
        if not stream.received:
            raise AudioError(f"{STDIN}: holds no samples")
        written += _write(wav.encode(stream.flush().cpu()))
    finally:
        # Ctrl-C is how most of these recordings end.
        if begin is not None and written:
            # A WAV has an even number of bytes.
            _write(bytes(written % 2))
            _write(piped.wav_header(wav, written), begin)
    seconds = stream.received / raw.rate
    info = Info(STDIN, raw.rate, stream.received, raw.channels, "WAV", RAW[raw.format][0], {}, seconds)
    lacking = "1 byte is" if samples.missing == 1 else f"{samples.missing} bytes are"
    notes = (f"cut off: {lacking} missing at its end",) if samples.missing else ()
    return Enhanced(seconds, 1.0, info, notes)


def _place_in_file() -> int | None:
    """Return the place of standard output in its file; None in a pipe and after ``>>``, where nothing is replaced."""
    try:
        import fcntl

        is_file = stat.S_ISREG(os.fstat(1).st_mode)
        is_appended_to = fcntl.fcntl(1, fcntl.F_GETFL) & os.O_APPEND
    except (ImportError, OSError):
        # Windows has no fcntl. That standard output is closed, the first block will tell.
        return None
    return os.lseek(1, 0, os.SEEK_CUR) if is_file and not is_appended_to else None


def _write(content: bytes, place: int | None = None) -> int:
    """Write to standard output, or over what stands at a place in its file; returns the number of bytes."""
    try:
        if place is not None:
            return os.pwrite(1, content, place)
        with open(1, "wb", closefd=False) as out:
            return out.write(content)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise AudioError(f"{STDOUT}: not all of the result could be written ({reason})") from error
