"""Standard input and output, as a shell's user meets them."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

from conftest import ROOT, make_voice
from denoiser import audio
from denoiser.audio.raw import RAW, Raw
from denoiser.errors import AudioError, ConfigError
from denoiser.inference import pipes
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import plan
from untrained import write_voices


def run_infer(*arguments: str, stdin=subprocess.DEVNULL, **environment: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment}
    command = [sys.executable, str(ROOT / "infer.py"), *arguments]
    return subprocess.run(command, stdin=stdin, env=environment, capture_output=True, timeout=240)


def test_a_pipe_carries_the_sound_alone(checkpoint, here):
    write_voices("talk.flac")
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


@pytest.mark.parametrize("output", ["file", "pipe"])
def test_a_pipe_is_a_pipe_under_every_name(denoiser, here, output):
    write_voices("talk.wav")
    content = Path("talk.wav").read_bytes()
    os.mkfifo("in.pipe")
    os.mkfifo("out.pipe")
    writer = threading.Thread(target=Path("in.pipe").write_bytes, args=[content], daemon=True)
    writer.start()
    received: list[bytes] = []
    if output == "pipe":
        reader = threading.Thread(target=lambda: received.append(Path("out.pipe").read_bytes()), daemon=True)
        reader.start()
    enhance_files(denoiser, plan(["in.pipe"], "out.pipe" if output == "pipe" else "out.wav"))
    if output == "pipe":
        reader.join()
        Path("out.wav").write_bytes(received[0])
    enhance_files(denoiser, plan(["talk.wav"], "expected.wav"))
    assert Path("out.wav").read_bytes() == Path("expected.wav").read_bytes()


def test_the_names_of_a_system_for_standard_input_and_output_are_known():
    for name in ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
        assert plan([name], "/dev/stdout") == plan(["-"], "-")


@pytest.mark.parametrize("name", sorted(RAW))
def test_headerless_pcm_is_read_as_its_settings_say(denoiser, here, name):
    subtype, order = RAW[name]
    subtype = "PCM_16" if subtype == "PCM_S8" else subtype
    voice = make_voice(0.2, 24_000).expand(2, -1)
    facts = {"format": "RAW", "subtype": RAW[name][0], "endian": order}
    soundfile.write("talk.raw", voice.T.numpy(), 24_000, **facts)
    samples, _ = soundfile.read("talk.raw", samplerate=24_000, channels=2, always_2d=True, **facts)
    soundfile.write("talk.wav", samples, 24_000, subtype=subtype, format="WAV")
    enhance_files(denoiser, plan(["talk.raw"], "raw.wav"), raw=Raw(name, 24_000, 2))
    enhance_files(denoiser, plan(["talk.wav"], "wav.wav"))
    (raw, rate), (wav, _) = audio.read("raw.wav"), audio.read("wav.wav")
    assert rate == 24_000
    assert soundfile.info("raw.wav").subtype == subtype
    assert torch.allclose(raw, wav, atol=2e-3)


def test_headerless_pcm_that_its_settings_do_not_fit_is_one_line(denoiser, here):
    Path("talk.raw").write_bytes(b"\0" * 1001)
    with pytest.raises(AudioError, match=r"talk.raw: 1001 bytes, which format=s16le channels=2 does not divide"):
        enhance_files(denoiser, plan(["talk.raw"], "out.wav"), raw=Raw("s16le", 16_000, 2))
    with pytest.raises(AudioError, match=r"talk.raw: .*it has no header.*headerless PCM with format="):
        enhance_files(denoiser, plan(["talk.raw"], "out.wav"))
    with pytest.raises(ConfigError, match=r"format=s17: .*s16le"):
        Raw("s17", 16_000)
    assert not Path("out.wav").exists()
