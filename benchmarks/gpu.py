"""Speed of training on a GPU: writes the section GPU of docs/results.md.

    python benchmarks/gpu.py [hours=9.4] [steps=200] [batches=16,64,256] [models=unet10,experiment=best]

Through train.py, on a corpus of noise of VCTK-DEMAND's size that lives in the GPU's memory: audio-seconds per second,
seconds for all of it once, how busy the GPU says it is, and the share of unet10's floor, that of benchmarks/floor.py at
the same batch. Where there is no GPU, what its arithmetic and its memory would allow is worked out from the counted
multiplications and values, for one NVIDIA H200 by its maker's figures.
"""

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from data import SECONDS, machine, write_corpus
from denoiser.inference.denoiser import Denoiser
from floor import FRAMES, PASSES, traffic
from speed import child, markdown, write

PEAK, BANDWIDTH = 989e12 / 2, 4.8e12  # of an H200: bfloat16 multiplications, dense, and bytes a second
RATE = 16_000
GOAL = 600  # seconds, of 100 epochs of 9.4 hours


def expected(hours: float) -> str:
    """Return the table that follows from unet10's counts alone."""
    denoiser = Denoiser.build({"name": "unet"}, {"peak": 5.0})
    with torch.inference_mode():
        macs, values = traffic(denoiser.net, torch.zeros(1, 1, denoiser.spectral.bins, FRAMES))
    audio = FRAMES / denoiser.spectral.frame_rate
    seconds = [PASSES * macs / PEAK / audio, PASSES * values * 2 / BANDWIDTH / audio]
    rows = [
        [f"its {what}", f"{1 / each:,.0f}", f"{each * hours * 3600:.2f}", f"{100 * each * hours * 3600 / GOAL:.1%}"]
        for what, each in zip(("multiplications", "convolutions' inputs and outputs"), seconds, strict=True)
    ]
    header = ["unet10 in bfloat16, no GPU here", "audio-s per s at most", f"s per {hours:g} h", "of 10 min, 100 times"]
    return markdown(header, rows)


@contextmanager
def watched() -> Iterator[list[float]]:
    """Yield percents of time in which a kernel runs, as the driver says; the upper half is of training."""
    busy: list[float] = []
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            done = subprocess.run(query, capture_output=True, text=True, check=False)
            busy.extend([float(done.stdout)] if done.returncode == 0 else [])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield busy
    finally:
        ended.set()
        thread.join()


def measured(hours: float, steps: int, batches: list[int], models: list[str]) -> str:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "corpus", round(hours * 3600 / SECONDS), RATE, SECONDS, distinct=2000)
        for batch in batches:
            floor = child(["benchmarks/floor.py", "bf16", "20", "cuda", str(batch)], 8)
            for model in models:
                data = ["data=folders", f"data.root={corpus}", f"data.batch_size={batch}", "data.frames=256"]
                if model.startswith("experiment"):
                    data = [
                        f"data.speech={corpus}/clean", f"data.noise={corpus}/noisy", f"data.batch_size={batch}",
                        "data.frames=126",
                    ]  # fmt: skip
                command = [
                    "train.py", model if "=" in model else f"model={model}", *data, f"data.cache={folder}/prepared",
                    "trainer.gpus=1", "+callbacks.steps._target_=benchmarks.steps.Steps", "data.val_limit=1",
                    "logger=csv", "test=false", "callbacks=none", f"trainer.max_steps={steps + 2}",
                    "trainer.max_epochs=-1", f"hydra.run.dir={folder}/run{time.monotonic_ns()}",
                ]  # fmt: skip
                with watched() as busy:
                    speed = child(command, 8)["audio_s_per_s"]
                upper = sorted(busy)[len(busy) // 2 :]
                share = speed / floor["audio_s_per_s"] * floor["share_of_floor"] if model == "unet10" else None
                rows.append([
                    model, str(batch), f"{speed:,.0f}", f"{hours * 3600 / speed:.1f}",
                    f"{statistics.median(upper):.0f} %" if upper else "", "" if share is None else f"{share:.0%}",
                ])  # fmt: skip
                print(rows[-1], file=sys.stderr, flush=True)
    header = ["training, one GPU", "batch", "audio-s per s", f"s per {hours:g} h", "GPU busy", "of the floor"]
    return markdown(header, rows)


def main() -> None:
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    hours = float(given.get("hours", 9.4))
    if torch.cuda.is_available():
        batches = [int(size) for size in given.get("batches", "16,64,256").split(",")]
        models = given.get("models", "unet10,experiment=best").split(",")
        table = measured(hours, int(given.get("steps", 200)), batches, models)
    else:
        table = expected(hours)
    command = " ".join(["python benchmarks/gpu.py", *sys.argv[1:]])
    head = f"`{command}`, {time.strftime('%Y-%m-%d')}. {machine()}."
    print(write("GPU", f"{head}\n\n{table}"))


if __name__ == "__main__":
    main()
