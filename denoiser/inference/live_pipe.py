"""Standard input to standard output through a causal network, which answers while it reads."""

import os
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
    """Enhance samples as they come, up to ``size`` bytes; writes a WAV of no stated length to standard output.

    Nothing can be turned down once it is out, so what passes full scale is clipped. Raises AudioError for a pipe
    without samples, and where nobody reads the result.
    """
    samples, wav = piped.Samples(source, raw, size), piped.in_wav(raw)
    stream = denoiser.stream(raw.rate, options=options)
    for block in samples:
        if not stream.received:
            _write(piped.wav_header(wav))
        if not peak(block) <= LARGEST:
            raise AudioError(f"{STDIN}: holds NaN, infinite or absurd samples (over {LARGEST:g})")
        _write(wav.encode(stream.process(block).cpu()))
    if not stream.received:
        raise AudioError(f"{STDIN}: holds no samples")
    _write(wav.encode(stream.flush().cpu()))
    seconds = stream.received / raw.rate
    info = Info(STDIN, raw.rate, stream.received, raw.channels, "WAV", RAW[raw.format][0], {}, seconds)
    notes = (f"cut off: {samples.missing} bytes are missing at its end",) if samples.missing else ()
    return Enhanced(seconds, 1.0, info, notes)


def _write(content: bytes) -> None:
    try:
        with open(1, "wb", closefd=False) as out:
            out.write(content)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise AudioError(f"{STDOUT}: not all of the result could be written ({reason})") from error
