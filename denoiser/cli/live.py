"""``python -m denoiser live``: from the microphone to the loudspeaker, without the noise."""

import gc
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from denoiser import console, settings
from denoiser.cli import keys
from denoiser.cli.arguments import choice, key_values, number, whole
from denoiser.errors import AudioError, DenoiserError, shown

if TYPE_CHECKING:
    from denoiser.audio import Writer
    from denoiser.audio.soundcard import Device, Duplex
    from denoiser.inference.live import Live

USAGE = """Enhance the sound of a microphone while it comes in: python -m denoiser live

  ckpt=      live, which comes with the package; or a causal network of yours (trained with model=crn): its checkpoint,
             or the folder of its run (live)
  list=      true: only list the devices (false)
  input=     the microphone: its number, its name, or a part of its name (the system's default)
  output=    the loudspeaker, likewise (the system's default)
  rate=      sample rate of both devices, Hz (that of the model)
  block=     sound that is processed at once, ms (10)
  latency=   buffer of each device, ms; a longer one makes fewer gaps on a busy machine (PortAudio's safe value)
  dry=       share of the input in the output, 0 to 1 (0)
  max_attenuation_db=   limit on how far any frequency is turned down, dB (no limit)
  shifts=    enhance so many times, 1 to 16, with frames that begin at other samples, and average the results: fewer
             errors, for so many times the work (that of the model)
  record=    a folder in which the sound is kept: TIME_noisy.flac and TIME_enhanced.flac (none)

The key b switches to the unchanged sound and back; q or Ctrl-C ends. Loudspeakers beside a microphone howl: use
headphones, or an output that other programs use as a microphone (docs/inference.md)."""

DEFAULTS = {
    "ckpt": "live", "list": "false", "input": "", "output": "", "rate": "", "block": "10", "latency": "", "dry": "0",
    "max_attenuation_db": "", "shifts": "", "record": "",
}  # fmt: skip
SHOWN_SECONDS = 0.1  # between two looks at keys, levels and the device
GONE_SECONDS = 2.0  # without a block, beyond the delay of the devices
MOST_RESTARTS = 5  # of the devices, without a block in between
BAR, LOWEST = 6, -60.0  # characters of a level, and the dB at which it begins


def main(arguments: Sequence[str]) -> None:
    """Run until a key or a signal ends it."""
    given = key_values(DEFAULTS, USAGE, arguments)
    block_ms = whole(given, "block", 1, 1000)
    rate = whole(given, "rate", 8_000, 192_000) if given["rate"] else None
    latency = number(given, "latency", 0, 10_000) / 1000 if given["latency"] else None
    dry = number(given, "dry", 0, 1)
    limit = number(given, "max_attenuation_db", 0, 200) if given["max_attenuation_db"] else None
    shifts = whole(given, "shifts", 1, 16) if given["shifts"] else None
    shows = choice(given, "list", "true", "false") == "true"
    # Imported here: torch takes seconds, which a mistyped setting should not wait for.
    from denoiser.audio import soundcard

    found = soundcard.devices()
    if shows:
        _show(found, soundcard.portaudio().default.device)
        return
    microphone, loudspeaker = (soundcard.find(given[kind], kind, found) for kind in ("input", "output"))
    settings.require(given, "ckpt")

    import torch

    from denoiser.inference.denoiser import Denoiser
    from denoiser.inference.live import Live
    from denoiser.inference.options import Options

    # Blocks are too short for a second thread to help.
    torch.set_num_threads(1)
    denoiser = Denoiser.from_checkpoint(given["ckpt"], "cpu", precision="32")
    rate = rate or denoiser.sample_rate
    options = Options(dry, limit, shifts=shifts)
    live = Live(denoiser, rate, max(1, rate * block_ms // 1000), options, keeps=bool(given["record"]))
    # All that was loaded stays: looking through it for garbage would take longer than a block.
    gc.freeze()
    duplex = soundcard.Duplex(microphone, loudspeaker, rate, live.block, live, latency)
    _run(live, duplex, Path(given["record"]) if given["record"] else None)


def _run(live: "Live", duplex: "Duplex", record: Path | None) -> None:
    """Run until the end, with a line of levels on a terminal and a summary; DenoiserError for a device that is gone."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, console.stop)
    failure: DenoiserError | None = None
    with ExitStack() as stack:
        writers = _writers(stack, record, live.rate) if record else []
        print(f"{live.rate} Hz, delay {1000 * live.delay:.0f} ms of the network", end=" ")
        print(f"and {1000 * duplex.delay:.0f} ms of the devices; b: bypass, q: end", flush=True)
        try:
            with keys.pressed() as key, duplex:
                failure = _watch(live, duplex, writers, stack, key)
        except KeyboardInterrupt:
            pass
        if not live.blocks:  # FLAC has no empty files
            live.process(live.silence)
        if sys.stdout.isatty():
            print()
        _keep(live, writers)
    seconds = live.blocks * live.block / live.rate
    print(f"{seconds:.1f} s, {duplex.lost} xruns, load {live.load:.0%} of a core, worst block {live.worst_load:.0%}")
    if failure is not None:
        raise failure
    if record and not live.keeps:
        sys.exit(2)


def _watch(
    live: "Live", duplex: "Duplex", writers: list["Writer"], closing: ExitStack, key: keys.Wait
) -> DenoiserError | None:
    """Show levels and heed keys until q is pressed; returns the reason where the sound ended by itself.

    The writers, which ``closing`` closes, are given up where they fail: a call goes on though a disk is full.
    """
    blocks, since, restarts = -1, time.monotonic(), 0
    while (pressed := key(SHOWN_SECONDS)) != "q":
        if pressed == "b":
            live.bypass = not live.bypass
        try:
            _keep(live, writers)
        except AudioError as error:
            live.keeps = False
            writers.clear()
            closing.__exit__(AudioError, error, None)
            # Not to standard error, which leads nowhere now.
            print("\n" * sys.stdout.isatty() + shown(f"{error}; the sound goes on without the recording"), flush=True)
        if duplex.failure is not None:
            return DenoiserError(f"the sound ended: {duplex.failure}")
        if duplex.is_running and duplex.blocks != blocks:
            blocks, since, restarts = duplex.blocks, time.monotonic(), 0
        elif not duplex.is_running or time.monotonic() - since > GONE_SECONDS + duplex.delay:
            gone = DenoiserError("the sound device is gone: it was unplugged, or its sound server ended")
            if restarts == MOST_RESTARTS:
                return gone
            try:
                duplex.restart()
            except DenoiserError:
                return gone
            since, restarts = time.monotonic(), restarts + 1
        if sys.stdout.isatty():
            # A longer line would go on in the next row, and leave this one.
            width = shutil.get_terminal_size().columns - 1
            print("\r" + _line(live, duplex)[:width], end="", flush=True)
    return None


def _line(live: "Live", duplex: "Duplex") -> str:
    before, after = (f"{level:3.0f} dB {_bar(level)}" for level in live.levels())
    sound = f"BYPASS {before:18}" if live.bypass else f"in {before} out {after}"
    delay = 1000 * (live.delay + duplex.delay)
    return f"{sound} load {live.load:3.0%} worst {live.worst_load:4.0%} delay {delay:3.0f} ms xruns {duplex.lost} "


def _bar(level: float) -> str:
    filled = round(BAR * min(1.0, max(0.0, 1 - level / LOWEST)))
    return "#" * filled + "." * (BAR - filled)


def _writers(stack: ExitStack, folder: Path, rate: int) -> list["Writer"]:
    from denoiser.audio import Writer

    now = time.strftime("%Y-%m-%d_%H-%M-%S")
    paths = [folder / f"{now}_{side}.flac" for side in ("noisy", "enhanced")]
    folder.mkdir(parents=True, exist_ok=True)
    # A recording cannot be made again: a kill or a full disk must leave what there is of it.
    return [stack.enter_context(Writer(path, rate, 1, in_place=True)) for path in paths]


def _keep(live: "Live", writers: list["Writer"]) -> None:
    for block in live.kept():
        for writer, side in zip(writers, block, strict=False):
            writer.write(side[None])


def _show(found: Sequence["Device"], default: Sequence[int]) -> None:
    """Print the devices, those that are taken by default with a mark."""
    for device in found:
        marks = "".join(mark for mark, place in zip("io", default, strict=True) if place == device.number)
        channels = f"{device.inputs:3} in {device.outputs:3} out"
        print(f"{marks:2} {device.number:3}  {channels}  {device.rate:6} Hz  {shown(device.name)} ({device.system})")
    print("i, o: input and output by default" if found else "no devices; on Linux, is the sound server running?")
