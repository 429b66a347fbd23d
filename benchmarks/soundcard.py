"""Half an hour of ``denoiser live`` between the null sinks of a sound server: xruns, memory and delay by the minute.

    python benchmarks/soundcard.py [VOICE.wav] [minutes=30]     # needs PulseAudio, and pip install ".[live]"

The recording is played over and over into one sink. Of each minute, 5 seconds of both sides tell the delay.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before another package that is called denoiser

from denoiser import audio

ROOT = Path(__file__).resolve().parents[1]
RATE = 48_000
SECONDS = 5  # of each minute
LONGEST = RATE  # samples, of a delay
REMAPPED = "channel_map=mono channels=1 remix=no"
# The sinks "voice" and "clean", which live plays into, are channels of one sink, so that one recording has both.
SINKS = f"""
load-module module-native-protocol-unix
load-module module-null-sink sink_name=bus rate={RATE} channels=2 channel_map=front-left,rear-center
load-module module-remap-sink sink_name=voice master=bus master_channel_map=rear-center {REMAPPED}
load-module module-remap-sink sink_name=clean master=bus master_channel_map=front-left {REMAPPED}
load-module module-remap-source source_name=microphone master=bus.monitor master_channel_map=rear-center {REMAPPED}
"""
RECORD = ["parec", "-d", "bus.monitor", "--format=float32le", f"--rate={RATE}", "--channels=2"]
RECORD += ["--channel-map=front-left,rear-center"]


def main(voice: Path, minutes: int) -> None:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        environment = {**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(home), "PYTHONPATH": str(ROOT)}
        environment |= {"PULSE_SOURCE": "microphone", "PULSE_SINK": "clean"}
        environment |= {"PULSE_SERVER": f"unix:{home}/pulse/native"}
        (home / "sinks.pa").write_text(SINKS)
        samples, rate = audio.read(voice)
        looped = audio.resample(samples[:1], rate, RATE)
        # Once for all minutes, and before live: the sound server loses samples of others where a player starts.
        samples_in_all = 60 * RATE * (minutes + 1)
        looped = looped.repeat(1, 1 + samples_in_all // looped.shape[1])
        audio.write(home / "voice.wav", looped[:, :samples_in_all], RATE)

        def start(*command: str, **more: object) -> subprocess.Popen[str]:
            process = subprocess.Popen([*command], env=environment, text=True, **more)  # type: ignore[call-overload]
            stack.callback(process.kill)
            return process

        start("pulseaudio", "-n", "-F", str(home / "sinks.pa"), "--exit-idle-time=-1", stderr=subprocess.DEVNULL)
        time.sleep(3)
        start("paplay", "-d", "voice", str(home / "voice.wav"))
        time.sleep(3)
        live = start(sys.executable, "-m", "denoiser", "live", "input=pulse", "output=pulse", stdout=subprocess.PIPE)
        time.sleep(15)
        print("| minute | delay ms | resident MB |\n|---|---|---|", flush=True)
        for minute in range(minutes):
            time.sleep(20)
            recorder = start(*RECORD, str(home / "both.raw"))
            time.sleep(SECONDS + 1)
            recorder.terminate()
            both = np.fromfile(home / "both.raw", "<f4")
            enhanced, noisy = both[: len(both) // 2 * 2].reshape(-1, 2).T
            print(f"| {minute + 1} | {1000 * delay(noisy, enhanced) / RATE:.1f} | {memory(live.pid):.0f} |", flush=True)
            time.sleep(60 - 20 - SECONDS - 1)
        live.terminate()
        print(live.communicate()[0])


def delay(noisy: np.ndarray, enhanced: np.ndarray) -> int:
    """Return the samples by which ``enhanced`` is later, where both are most alike."""
    part = noisy[: len(noisy) - LONGEST]
    size = len(noisy) + len(part)
    product = np.fft.rfft(enhanced, size) * np.fft.rfft(part, size).conj()
    return int(np.fft.irfft(product)[:LONGEST].argmax())


def memory(number: int) -> float:
    """Return the resident memory of a process, MB."""
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    settings = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    files = [argument for argument in sys.argv[1:] if "=" not in argument]
    default = ROOT / "tests/recordings/voice_kathleen.flac"
    main(Path(files[0]) if files else default, int(settings.get("minutes", 30)))
