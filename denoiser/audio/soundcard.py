"""Microphones and loudspeakers, through PortAudio."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from denoiser.audio.jitter import JitterBuffer
from denoiser.audio.libsndfile import hushed
from denoiser.errors import DenoiserError

# A block from the microphone ``[n]`` → that for the loudspeaker.
Callback = Callable[[np.ndarray], np.ndarray]
WATCHED_SECONDS = 5  # for which more samples than needed must wait, before they are dropped
MOST_NAMED = 8  # devices in a message


class Device(NamedTuple):
    """A sound device: its number in PortAudio, the system that offers it, its channels, and its usual rate in Hz."""

    number: int
    name: str
    system: str
    inputs: int
    outputs: int
    rate: int


def portaudio() -> ModuleType:
    """Return the package sounddevice; DenoiserError where it is not installed, or finds no PortAudio."""
    try:
        import sounddevice
    except ImportError as error:
        raise DenoiserError('a microphone needs sounddevice: pip install "denoiser[live]"') from error
    except OSError as error:
        raise DenoiserError("a microphone needs PortAudio: apt install libportaudio2 (Debian, Ubuntu)") from error
    return sounddevice


def devices() -> list[Device]:
    """Return all devices."""
    sounddevice = portaudio()
    systems = [system["name"] for system in sounddevice.query_hostapis()]
    return [
        Device(
            number,
            " ".join(device["name"].split()),
            systems[device["hostapi"]],
            device["max_input_channels"],
            device["max_output_channels"],
            round(device["default_samplerate"]),
        )
        for number, device in enumerate(sounddevice.query_devices())
    ]


def find(given: str, kind: str, found: Sequence[Device]) -> Device:
    """Return the device of a number, or of a name or a part of it; the system's default if ``given`` is empty.

    ``kind`` is ``input`` or ``output``. DenoiserError where there is none, or several.
    """
    fitting = [device for device in found if (device.inputs if kind == "input" else device.outputs)]
    if not fitting:
        raise DenoiserError(
            f"no {kind} device: PortAudio finds none on this machine; on Linux, is the sound server running?"
        )
    if not given:
        default = portaudio().default.device[0 if kind == "input" else 1]
        return next((device for device in fitting if device.number == default), fitting[0])
    wanted = given.casefold()
    by_number = [device for device in fitting if str(device.number) == given]
    by_name = [device for device in fitting if device.name.casefold() == wanted]
    by_part = [device for device in fitting if wanted in device.name.casefold()]
    matching = by_number or by_name or by_part
    if len(matching) == 1:
        return matching[0]
    named = [f"{device.number} {device.name} ({device.system})" for device in matching or fitting]
    listed = ", ".join(named[:MOST_NAMED]) + (", ..." if len(named) > MOST_NAMED else "")
    problem = f"{len(matching)} devices have this name; give a number" if matching else "no such device; there are"
    raise DenoiserError(f"{kind}={given}: {problem}: {listed}")


@dataclass
class Duplex:
    """A microphone and a loudspeaker: ``callback`` gets each block ``[n]`` of the first and returns one for the second.

    Each runs by itself: PortAudio abandons a stream of ALSA that both share when a block comes late, and two devices
    have two clocks. ``latency`` are the seconds that each of both buffers, None for what PortAudio calls high. An
    exception of the callback ends the sound, and is kept as ``failure``. DenoiserError where a device cannot be opened.

    In ``with`` the blocks come; until its end, what ALSA and PortAudio print goes nowhere.
    """

    microphone: Device
    loudspeaker: Device
    rate: int
    block: int
    callback: Callback
    latency: float | None = None
    failure: BaseException | None = None

    def __post_init__(self) -> None:
        self._queue = JitterBuffer(self.block, WATCHED_SECONDS * self.rate)
        # Each is written by one of the two callbacks alone, as two threads would lose some of a common count.
        self._heard = self._spoken = self._overflows = self._underflows = self._restarts = 0
        with hushed():
            self._open()

    def _open(self) -> None:
        sounddevice = portaudio()
        latency = "high" if self.latency is None else self.latency
        facts = {"samplerate": self.rate, "blocksize": self.block, "dtype": "float32", "latency": latency}
        device = self.microphone
        try:
            self._input = sounddevice.InputStream(device=device.number, channels=1, callback=self._hear, **facts)
            device = self.loudspeaker
            channels = min(2, device.outputs)
            self._output = sounddevice.OutputStream(
                device=device.number, channels=channels, callback=self._speak, **facts
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise DenoiserError(f"{device.name} at {self.rate} Hz: {_reason(error)}") from error

    @property
    def delay(self) -> float:
        """Seconds from the microphone to the loudspeaker, of which PortAudio states the devices' own part."""
        return float(self._input.latency + self._output.latency + self._queue.least / self.rate)

    @property
    def lost(self) -> int:
        """Number of times that samples were lost, or came too late."""
        return self._overflows + self._underflows + self._restarts + self._queue.lost

    @property
    def blocks(self) -> int:
        """Number of blocks that have come from the microphone and gone to the loudspeaker."""
        return min(self._heard, self._spoken)

    @property
    def is_running(self) -> bool:
        return bool(self._input.active and self._output.active)

    def __enter__(self) -> "Duplex":
        with ExitStack() as stack:
            stack.enter_context(hushed())
            stack.callback(self._close)
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def restart(self) -> None:
        """Open the devices again, after PortAudio has given them up."""
        self._close()
        self._restarts += 1
        self._queue.clear()
        self._open()
        self._start()

    def _start(self) -> None:
        try:
            self._input.start()
            self._output.start()
        except portaudio().PortAudioError as error:
            raise DenoiserError(f"cannot be started: {_reason(error)}") from error

    def _close(self) -> None:
        self._output.close(ignore_errors=True)
        self._input.close(ignore_errors=True)

    def _hear(self, noisy: np.ndarray, frames: int, time: Any, status: Any) -> None:
        self._heard += 1
        self._overflows += bool(status.input_overflow)
        try:
            # A copy: the buffer is PortAudio's.
            self._queue.put(self.callback(noisy[:, 0].copy()))
        except Exception as error:
            self.failure = error
            raise portaudio().CallbackAbort from error

    def _speak(self, out: np.ndarray, frames: int, time: Any, status: Any) -> None:
        self._spoken += 1
        self._underflows += bool(status.output_underflow)
        out[:] = self._queue.take(frames)[:, None]


def _reason(error: Exception) -> str:
    """Return PortAudio's message without its number."""
    return str(error.args[0] if error.args else error).split(" [PaErrorCode")[0]
