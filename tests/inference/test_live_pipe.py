"""Standard input to standard output through a causal network, as a shell's user meets it."""

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import soundfile
import torch

from conftest import ROOT
from denoiser import Denoiser, audio
from denoiser.audio import piped
from denoiser.audio.raw import RAW, Raw
from denoiser.errors import AudioError
from denoiser.inference.live_pipe import enhance_pipe
from untrained import noisy_voice

CRN = ROOT / "tests/reference/crn.ckpt"
RATE = 16_000


def command(*arguments: str, stdout: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    program = [sys.executable, str(ROOT / "infer.py"), "-", f"ckpt={CRN}", "device=cpu", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.Popen(program, env=environment, **pipes)


@pytest.mark.parametrize("settings", [[], ["format=s16le", f"rate={RATE}", "channels=1"]], ids=["WAV", "raw"])
def test_the_answer_comes_while_the_input_is_open(settings, here):
    raw = Raw("s16le", RATE)
    sound = raw.encode(noisy_voice(2.0, RATE))
    begin = b"" if settings else piped.wav_header(raw)
    stream = Denoiser.from_checkpoint(CRN, "cpu").stream(RATE)
    delay = round(2 * RATE * stream.latency)
    with command(*settings) as process:
        process.stdin.write(begin + sound[: len(sound) // 2])
        process.stdin.flush()
        # Ends the program, and with it the reading, if no answer comes.
        alarm = threading.Timer(240, process.kill)
        alarm.start()
        answer = process.stdout.read(44 + len(sound) // 2 - delay)
        assert process.poll() is None
        process.stdin.write(sound[len(sound) // 2 :])
        process.stdin.close()
        rest, errors = process.stdout.read(), process.stderr.read()
        alarm.cancel()
    assert process.returncode == 0, errors
    assert b"standard input -> standard output" in errors
    Path("out.wav").write_bytes(answer + rest)
    enhanced, rate = audio.read("out.wav")
    assert rate == RATE
    block = raw.decode(sound)
    expected = torch.cat([stream.process(block), stream.flush()], dim=-1)
    assert enhanced.shape == expected.shape
    # The level so far, which this checkpoint has, depends a little on the pieces in which a pipe hands sound on.
    assert (enhanced - expected).square().mean() < 1e-3 * expected.square().mean()


@pytest.mark.parametrize(
    ("before", "format", "left_out"), [(b"", "s16le", 0), (b"RIFF", "s16le", 0), (b"", "u8", 1)],
    ids=["at its beginning", "after other bytes", "an odd number of bytes"],
)  # fmt: skip
def test_a_file_gets_its_length_in_the_header_though_it_was_written_live(before, format, left_out, here):
    raw = Raw(format, RATE)
    sound = raw.encode(noisy_voice(0.5, RATE))
    with open("out.wav", "wb") as out:
        out.write(before)
        out.flush()
        with command(stdout=out) as process:
            process.communicate(piped.wav_header(raw) + sound[: len(sound) - left_out])
    assert process.returncode == 0
    written = Path("out.wav").read_bytes()[len(before) :]
    size = len(sound) - left_out
    assert struct.unpack_from("<I", written, 40)[0] == size
    assert struct.unpack_from("<I", written, 4)[0] == len(written) - 8 == 36 + size + left_out


def test_a_recording_that_a_signal_ends_states_the_length_that_it_has(here):
    raw = Raw("s16le", RATE)
    with open("out.wav", "wb") as out, command(stdout=out) as process:
        process.stdin.write(piped.wav_header(raw) + raw.encode(noisy_voice(2.0, RATE)))
        process.stdin.flush()
        while Path("out.wav").stat().st_size < RATE:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    written = Path("out.wav").read_bytes()
    assert struct.unpack_from("<I", written, 40)[0] == len(written) - 44


def test_a_file_that_the_sound_is_appended_to_keeps_its_beginning(here):
    raw = Raw("s16le", RATE)
    Path("out.wav").write_bytes(b"before")
    with open("out.wav", "ab") as out, command(stdout=out) as process:
        process.communicate(piped.wav_header(raw) + raw.encode(noisy_voice(0.5, RATE)))
    assert process.returncode == 0
    assert Path("out.wav").read_bytes().startswith(b"before" + piped.wav_header(raw))


def test_what_is_no_plain_wav_is_read_to_its_end_as_before(here):
    audio.write("talk.flac", noisy_voice(0.5, RATE), RATE)
    with command() as process:
        out, errors = process.communicate(Path("talk.flac").read_bytes())
    assert process.returncode == 0, errors
    assert soundfile.info(io.BytesIO(out)).frames == RATE // 2
    soundfile.write("talk.wav", noisy_voice(0.5, RATE).T.numpy(), RATE, subtype="IMA_ADPCM")
    for name in ("talk.flac", "talk.wav"):
        assert started(Path(name).read_bytes())[0].raw is None


@pytest.mark.parametrize(
    ("content", "line"), [(b"", "holds no samples"), (100 * struct.pack("<f", np.nan), "holds NaN, infinite or absurd")]
)
def test_a_pipe_without_sound_is_one_line(content, line, capfdbinary):
    pipe = io.BufferedReader(io.BytesIO(content))
    with pytest.raises(AudioError, match=f"^standard input: {line}"):
        enhance_pipe(Denoiser.from_checkpoint(CRN, "cpu"), None, pipe, Raw("f32le", RATE), None)


@pytest.mark.parametrize(("lacking", "line"), [(1, "1 byte is"), (3, "3 bytes are")])
def test_a_pipe_that_ends_within_a_frame_says_how_much_is_missing(lacking, line, capfdbinary):
    pipe = io.BufferedReader(io.BytesIO(bytes(4 * RATE - lacking)))
    done = enhance_pipe(Denoiser.from_checkpoint(CRN, "cpu"), None, pipe, Raw("f32le", RATE), None)
    assert done.notes == (f"cut off: {line} missing at its end",)


def started(content: bytes) -> tuple[piped.Start, torch.Tensor | None]:
    """Return the start of a pipe with this content, and its samples."""
    pipe = io.BufferedReader(io.BytesIO(content))
    start = piped.read_start(pipe)
    if start.raw is None:
        return start, None
    return start, torch.cat(list(piped.Samples(pipe, start.raw, start.size)), dim=-1)


@pytest.mark.parametrize("format", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAW", "ULAW"])
def test_a_wav_in_a_pipe_has_the_samples_of_the_file(tmp_path, format, subtype):
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, (1001, 2)), 44_100, subtype, format=format)
    # A chunk behind the samples is no sound.
    content = path.read_bytes() + struct.pack("<4sI", b"LIST", 4) + b"INFO"
    start, samples = started(content)
    assert (start.raw.rate, start.raw.channels) == (44_100, 2)
    assert torch.allclose(samples, audio.read(path)[0], atol=1e-6)


@pytest.mark.parametrize("name", sorted(RAW))
def test_what_a_pipe_writes_is_the_wav_that_programs_read(tmp_path, name):
    raw = piped.in_wav(Raw(name, 48_000, 2))
    sound = torch.rand(2, 500) - 0.5
    (tmp_path / "out.wav").write_bytes(piped.wav_header(raw) + raw.encode(sound))
    read, rate = audio.read(tmp_path / "out.wav")
    assert rate == 48_000
    assert read.shape == sound.shape
    assert (read - sound).abs().max() < 0.03
    _, piped_on = started((tmp_path / "out.wav").read_bytes())
    assert torch.allclose(piped_on, read, atol=1e-6)


def test_bytes_that_make_no_whole_frame_are_missed(tmp_path):
    pipe = io.BufferedReader(io.BytesIO(bytes(10)))
    samples = piped.Samples(pipe, Raw("s16le", RATE, 2))
    assert sum(block.shape[-1] for block in samples) == 2
    assert samples.missing == 2
