"""Standard input and output, as a shell's user meets them."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile

from conftest import ROOT, make_noise, make_voice
from denoiser import audio
from denoiser.errors import AudioError
from denoiser.inference import pipes
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import plan


def run_infer(*arguments: str, stdin=subprocess.DEVNULL, **environment: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    command = [sys.executable, str(ROOT / "infer.py"), *arguments]
    return subprocess.run(command, stdin=stdin, env=environment, capture_output=True, timeout=240)


def test_a_pipe_carries_the_sound_alone(checkpoint, here):
    voice = make_voice(0.2, 16_000) + make_noise(0.2, 16_000)
    audio.write("talk.flac", voice, 16_000, format="FLAC")
    private = here / "private"
    private.mkdir()
    with open("talk.flac", "rb") as sound:
        result = run_infer(f"ckpt={checkpoint}", "input=-", "output=-", stdin=sound, TMPDIR=str(private))
    assert result.returncode == 0
    Path("out.wav").write_bytes(result.stdout)
    assert soundfile.info("out.wav").format == "WAV"
    assert soundfile.info("out.wav").subtype == soundfile.info("talk.flac").subtype
    assert run_infer(f"ckpt={checkpoint}", "talk.flac", "output=file.wav").returncode == 0
    assert Path("file.wav").read_bytes() == result.stdout
    assert b"standard input -> standard output" in result.stderr
    assert not list(private.iterdir())


@pytest.mark.parametrize("content", [b"", b"garbage " * 100])
def test_a_bad_pipe_leaves_nothing(denoiser, here, monkeypatch, capfdbinary, content):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False))
    monkeypatch.setattr("tempfile.tempdir", str(here))
    with pytest.raises(AudioError, match=r"^standard input: "):
        enhance_files(denoiser, plan(["-"]))
    assert capfdbinary.readouterr().out == b""
    assert not list(here.iterdir())


def test_pipes_that_are_not_there_are_refused(here, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    out = Path("out.wav")
    with pytest.raises(AudioError, match="standard input holds no sound"), pipes.as_files(pipes.STDIN, out):
        pass
    reading, writing = os.pipe()
    os.close(reading)
    kept = os.dup(1)
    try:
        os.dup2(writing, 1)
        with pytest.raises(AudioError, match="not all of the result"), pipes.as_files(out, pipes.STDOUT) as paths:
            paths[1].write_bytes(b"RIFF")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writing)
