"""The command live between the null sinks of a PulseAudio of its own, in a terminal of its own."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from conftest import ROOT, checkpoint_of, largest_file, recording
from denoiser import Denoiser, audio
from denoiser.audio.lag import find_lag
from denoiser.audio.soundcard import Device, find
from denoiser.cli import live
from denoiser.errors import ConfigError, DenoiserError
from denoiser.evaluation.metrics import si_sdr

NEEDED = ("pulseaudio", "pactl", "parec", "paplay")
LACKING = [name for name in NEEDED if shutil.which(name) is None]
if find_spec("sounddevice") is None:
    LACKING.append("sounddevice")
if find_library("portaudio") is None:
    LACKING.append("portaudio")
if not list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
    LACKING.append("libasound2-plugins")
needs_server = pytest.mark.skipif(bool(LACKING), reason=f"no sound server: {', '.join(LACKING)} missing")

RATE = 48_000
# The sinks "voice" and "clean", which live plays into, are channels of one sink, so that one recording has both.
REMAPPED = "channel_map=mono channels=1 remix=no"
SINKS = f"""
load-module module-native-protocol-unix
load-module module-null-sink sink_name=bus rate=48000 channels=2 channel_map=front-left,rear-center
load-module module-remap-sink sink_name=voice master=bus master_channel_map=rear-center {REMAPPED}
load-module module-remap-sink sink_name=clean master=bus master_channel_map=front-left {REMAPPED}
load-module module-remap-source source_name=microphone master=bus.monitor master_channel_map=rear-center {REMAPPED}
"""
NET = {"name": "crn", "stem": 16, "widths": [4], "hidden": 8, "head": {"name": "mask"}}
SPECTRAL = {"sample_rate": 48_000, "n_fft": 1534, "hop": 767, "level_seconds": 2.0}
DEVICES = [Device(0, "pulse", "ALSA", 32, 32, 44_100), Device(1, "USB Microphone", "ALSA", 1, 0, 48_000),
           Device(2, "USB Headset", "ALSA", 1, 2, 48_000), Device(12, "default", "ALSA", 32, 32, 44_100)]  # fmt: skip


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[subprocess.Popen, dict[str, str]]]:
    """A sound server, and the environment of its clients."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "sinks.pa").write_text(SINKS)
    environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PULSE_SOURCE": "microphone", "PULSE_SINK": "clean", "PULSE_SERVER": f"unix:{home}/pulse/native"}
    command = ["pulseaudio", "-n", "-F", str(home / "sinks.pa"), "--exit-idle-time=-1", "--daemonize=no"]
    with open(home / "log", "w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        while subprocess.run(["pactl", "info"], env=environment, capture_output=True).returncode:
            assert process.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
        yield process, environment
        process.terminate()


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("live") / "m.ckpt"
    torch.save(checkpoint_of(Denoiser.build(NET, {**SPECTRAL, "peak": 5.0}), model=NET, spectral=SPECTRAL), path)
    return path


class Terminal:
    """The command in a terminal: keys in, text out."""

    def __init__(self, environment: dict[str, str], *settings: str) -> None:
        self.text, self.environment = "", environment
        number, self.keys = pty.fork()
        if not number:
            os.chdir(ROOT)
            # Tests that run in the background ignore Ctrl-C, and what they start would, too.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execvpe(sys.executable, [sys.executable, "-m", "denoiser", "live", *settings], environment)
        self.number = number

    def read(self, until: str = "") -> str:
        """Read on until there is such a text, or the end."""
        start, end = len(self.text), time.monotonic() + 120
        while not until or until not in self.text[start:]:
            if time.monotonic() > end or not select.select([self.keys], [], [], 120)[0]:
                os.kill(self.number, signal.SIGKILL)
                pytest.fail(f"no {until!r} in {self.text!r}")
            try:
                self.text += os.read(self.keys, 4096).decode()
            except OSError:  # Linux says so that the other end is closed
                break
        return self.text[start:]

    def end(self) -> int:
        """Read to the end and return the exit code."""
        self.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.number, 0)[1])


@needs_server
def test_a_voice_comes_through_enhanced_after_a_steady_delay(server, ckpt, tmp_path):
    _, environment = server
    voice = audio.resample(recording("voice_kathleen"), 16_000, RATE)[:, : 5 * RATE]
    audio.write(tmp_path / "voice.wav", voice, RATE)
    terminal = Terminal(environment, f"ckpt={ckpt}", f"record={tmp_path / 'kept'}", "block=20", "latency=80")
    terminal.read("load")
    raw = tmp_path / "both.raw"
    format = ["--format=float32le", f"--rate={RATE}", "--channels=2", "--channel-map=front-left,rear-center"]
    with subprocess.Popen(["parec", "-d", "bus.monitor", *format, str(raw)], env=environment) as recorder:
        time.sleep(1)
        subprocess.run(["paplay", "-d", "voice", str(tmp_path / "voice.wav")], env=environment, check=True)
        time.sleep(1)
        recorder.terminate()
    os.write(terminal.keys, b"b")
    terminal.read("BYPASS")
    os.write(terminal.keys, b"\x03")
    assert terminal.end() == 0
    assert "xruns" in terminal.text.splitlines()[-1]
    assert "Traceback" not in terminal.text

    samples = np.fromfile(raw, "<f4")
    enhanced, noisy = torch.from_numpy(samples[: len(samples) // 2 * 2].reshape(-1, 2).T.copy())
    expected = Denoiser.from_checkpoint(ckpt, "cpu").enhance(noisy, RATE)
    delays, quality = [], []
    step, longest = RATE // 2, RATE
    for start in range(0, len(noisy) - longest - step, step):
        part, answer = expected[start : start + step], enhanced[start : start + step + longest]
        if part.abs().max() > 0.05:
            delays.append(max(0, -round(find_lag(part, answer, longest).samples)))
            quality.append(si_sdr(part, answer[delays[-1] :][:step], RATE))
    # On a busy machine some of the parts may have a gap.
    assert len(delays) >= 6
    delay = float(np.median(delays))
    assert 0.032 < delay / RATE < 0.5
    assert sum(abs(other - delay) < 0.001 * RATE for other in delays) > len(delays) / 2
    assert np.median(quality) > 15
    files = sorted((tmp_path / "kept").iterdir())
    assert [file.name.rpartition("_")[2] for file in files] == ["enhanced.flac", "noisy.flac"]
    (enhanced, _), (noisy, _) = map(audio.read, files)
    assert enhanced.shape == noisy.shape
    assert noisy.abs().max() == pytest.approx(float(voice.abs().max()), rel=0.1)


@needs_server
def test_a_device_that_is_gone_is_one_line_and_what_was_recorded_stays(server, ckpt, tmp_path):
    process, environment = server
    terminal = Terminal(environment, f"ckpt={ckpt}", f"record={tmp_path / 'kept'}", "block=20")
    for _ in range(5):
        terminal.read("load")
    process.terminate()
    assert terminal.end() == 2
    assert terminal.text.count("error: the sound device is gone") == 1
    assert "Traceback" not in terminal.text
    assert all(soundfile.info(file).frames > 0 for file in (tmp_path / "kept").iterdir())
    assert len(list((tmp_path / "kept").iterdir())) == 2


@needs_server
@pytest.mark.parametrize(("largest", "ends"), [(100_000, 2), (1 << 30, -signal.SIGKILL)])
def test_a_full_disk_or_a_kill_leaves_what_was_recorded(server, ckpt, tmp_path, largest, ends):
    _, environment = server
    torch.manual_seed(0)
    audio.write(tmp_path / "noise.wav", 0.1 * torch.randn(1, 3 * RATE), RATE)
    with largest_file(largest):
        terminal = Terminal(environment, f"ckpt={ckpt}", f"record={tmp_path / 'kept'}", "block=20")
    terminal.read("load")
    subprocess.run(["paplay", "-d", "voice", str(tmp_path / "noise.wav")], env=environment, check=True)
    if ends < 0:
        os.kill(terminal.number, -ends)
    else:
        terminal.read("the sound goes on without the recording")
        terminal.read("load")
        os.write(terminal.keys, b"q")
    assert terminal.end() == ends
    assert terminal.text.count("cannot be written") == (ends > 0)
    files = list((tmp_path / "kept").glob("*_*.flac"))
    assert len(files) == 2
    for file in files:
        with audio.Reader(file) as reader:
            assert reader.read(10 * RATE).shape[1] > RATE / 2


@needs_server
def test_devices_that_buffer_seconds_are_not_taken_for_gone(server, ckpt):
    _, environment = server
    terminal = Terminal(environment, f"ckpt={ckpt}", "latency=10000")
    # Ten looks at the device a second.
    for _ in range(30):
        terminal.read("xruns")
    os.write(terminal.keys, b"q")
    assert terminal.end() == 0
    # A restart of the devices counts as one.
    assert ", 0 xruns," in terminal.text


@needs_server
def test_devices_are_listed_and_a_wrong_one_is_one_line(server):
    _, environment = server
    terminal = Terminal(environment, "list=true")
    assert terminal.end() == 0
    assert "pulse (ALSA)" in terminal.text
    terminal = Terminal(environment, "input=nowhere")
    assert terminal.end() == 2
    assert "error: input=nowhere: no such device; there are: " in terminal.text
    assert len(terminal.text.splitlines()) == 1


def test_a_device_is_found_by_number_name_or_a_part_of_it():
    assert find("2", "output", DEVICES).name == "USB Headset"
    assert find("PULSE", "input", DEVICES).number == 0
    assert find("micro", "input", DEVICES).number == 1
    with pytest.raises(DenoiserError, match=r"input=usb: 2 devices have this name; give a number: 1 USB Mic.*, 2 USB"):
        find("usb", "input", DEVICES)
    assert find("usb", "output", DEVICES).number == 2
    with pytest.raises(DenoiserError, match=r"output=1: no such device; there are: 0 pulse"):
        find("1", "output", DEVICES)
    with pytest.raises(DenoiserError, match="no output device"):
        find("", "output", [DEVICES[1]])


@pytest.mark.parametrize(
    "given", ["block=0", "dry=2", "dry=nan", "max_attenuation_db=loud", "shifts=0", "rate=1", "latency=-1"]
)
def test_a_setting_out_of_range_is_refused_before_a_device_is_opened(given):
    with pytest.raises(ConfigError, match=f"^{given}: expected a"):
        live.main([given])
