"""Memory and time of one file over its length.

    python benchmarks/length.py [minutes ...] [ckpt=... | width=8 depth=5] [channels=2] [rate=48000] [plot=length.png]

Each length is written as noise over tones (WAV, beyond 4 GB RF64), enhanced by ``Denoiser.enhance_file`` in a process
of its own, and deleted. Memory is what the process holds of its own (anonymous pages: not the libraries' files),
sampled every half second; "first minute" and "peak" tell whether it grows.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from denoiser import Denoiser, audio, models, startup
from denoiser.evaluation.tables import table
from denoiser.spectral import Spectral


def anonymous() -> float:
    """Return the MB of this process that no file stands behind."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def write_noise(path: Path, minutes: float, channels: int, rate: int) -> None:
    rng = np.random.default_rng(0)
    block = torch.from_numpy(0.05 * rng.standard_normal((channels, 10 * rate)).astype(np.float32))
    block += 0.2 * torch.sin(2 * torch.pi * 200 * torch.arange(10 * rate) / rate)
    frames = round(minutes * 60 * rate)
    with audio.Writer(path, rate, channels, subtype="PCM_16", frames=frames) as writer:
        for start in range(0, frames, 10 * rate):
            writer.write(block[:, : frames - start])


def measure(source: Path, target: Path, checkpoint: str, width: int, depth: int) -> dict[str, object]:
    startup.keep_freed_memory()  # as infer.py does
    torch.manual_seed(0)
    if checkpoint:
        denoiser = Denoiser.from_checkpoint(checkpoint, "cpu")
    else:
        denoiser = Denoiser(models.build("unet", width=width, depth=depth), Spectral(peak=5.0)).eval()
    curve: list[tuple[float, float]] = []
    stop, begin = threading.Event(), time.perf_counter()

    def watch() -> None:
        while not stop.wait(0.5):
            curve.append((time.perf_counter() - begin, anonymous()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        done = denoiser.enhance_file(source, target)
    finally:
        stop.set()
        thread.join()
    return {"seconds": done.seconds, "took": time.perf_counter() - begin, "curve": curve}


def main() -> None:
    if sys.argv[1] == "--measure":
        print(json.dumps(measure(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], *map(int, sys.argv[5:]))))
        return
    settings = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    lengths = [float(argument) for argument in sys.argv[1:] if "=" not in argument] or [1, 10, 60]
    channels, rate = int(settings.get("channels", 2)), int(settings.get("rate", 48_000))
    net = [settings.get("width", "8"), settings.get("depth", "5")]  # not trained: time and memory are the same
    rows, curves = [], {}
    for minutes in lengths:
        with tempfile.TemporaryDirectory(dir=settings.get("folder", ".")) as folder:
            source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
            write_noise(source, minutes, channels, rate)
            command = [sys.executable, __file__, "--measure", str(source), str(target), settings.get("ckpt", ""), *net]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            assert audio.probe(target).frames == audio.probe(source).frames
            size = source.stat().st_size / 1e9
        startup = [megabytes for _, megabytes in result["curve"]]
        early = [megabytes for seconds, megabytes in result["curve"] if seconds < 60]
        curves[minutes] = result["curve"]
        rows.append(
            [f"{minutes:g} min", f"{size:.2f}", f"{result['took'] / result['seconds']:.4f}",
             *(f"{megabytes:.0f}" for megabytes in (max(early), max(startup), startup[-1]))]
        )  # fmt: skip
        print(rows[-1], flush=True)
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, ", end="")
    print(f"{rate} Hz, {channels} channels, {settings.get('ckpt') or f'unet of width {net[0]}, depth {net[1]}'}\n")
    print(table(["length", "GB", "real-time factor", "MB first minute", "MB peak", "MB at the end"], rows))
    if name := settings.get("plot"):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        for minutes, curve in curves.items():
            axes.plot([s / 60 for s, _ in curve], [m for _, m in curve], label=f"{minutes:g} min of audio")
        axes.set(xlabel="minutes of work", ylabel="MB", ylim=(0, None))
        axes.legend()
        figure.savefig(name, dpi=90)


if __name__ == "__main__":
    main()
