"""Speed of the data path, beside a common loader and beside training steps on fixed data.

    python benchmarks/data.py [--files 824] [--steps 8] [--rounds 5] [--hours 9.4] [--folder data]

On a corpus of noise made for it, deleted at the end, and in this one run:

- loading as it is common (read a 48 kHz WAV, resample, crop, STFT, item by item, in two DataLoader workers) and
  loading from the prepared store, in seconds of audio per second;
- steps of a training on that corpus beside steps on one batch that is always the same;
- preparing a test split of 48 kHz files;
- the peak of anonymous memory (pages of the mapped store aside) in preparing and training on ten minutes and on
  ``--hours``; 0 leaves that out.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads

from functools import partial

import numpy as np
import soundfile
import torch
import torchaudio
from lightning_fabric.utilities import move_data_to_device
from pytorch_lightning import Callback, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from denoiser import audio
from denoiser.audio.resampling import match_length
from denoiser.data import pairs
from denoiser.data.datamodule import PairedData
from denoiser.data.preparation import prepare
from denoiser.data.store import Resident
from denoiser.inference.denoiser import Denoiser
from denoiser.losses import Huber
from denoiser.spectral import Spectral
from denoiser.training.module import DenoisingModule
from denoiser.training.trainer import build_trainer
from resident import watched

BATCH, FRAMES = 16, 256  # 16 patches of 2 s
WORKERS = 2  # of the common way
SECONDS = 2.93  # mean length of an utterance: 9.4 hours are 11 572 of them, as in VCTK-DEMAND
DISTINCT = 24  # pairs of the large corpus that differ; the others are links to them


def write_corpus(root: Path, count: int, rate: int, seconds: float, distinct: int | None = None) -> Path:
    """Write ``count`` pairs of noise, 16 bit, of ``seconds`` on average; beyond ``distinct``, links to them."""
    rng = np.random.default_rng(0)
    sound = torch.from_numpy(0.05 * rng.standard_normal((2, 30 * rate))).float()
    for index in range(min(count, distinct or count)):
        length = round(seconds * rate * rng.uniform(0.5, 1.5))
        start = rng.integers(sound.shape[1] - length)
        clean = sound[:1, start : start + length]
        noisy = clean + sound[1:, start : start + length]
        for side, waveform in (("clean", clean), ("noisy", noisy)):
            audio.write(root / side / f"u{index:05d}.wav", waveform, rate, subtype="PCM_16")
    for index in range(distinct or count, count):
        for side in ("clean", "noisy"):
            source = root / side / f"u{index % (distinct or count):05d}.wav"
            try:
                os.link(source, root / side / f"u{index:05d}.wav")
            except OSError:  # a file system without links
                shutil.copy(source, root / side / f"u{index:05d}.wav")
    return root


def open_data(root: Path, cache: Path) -> PairedData:
    data = PairedData(Spectral(), str(root), "folders", cache=str(cache), batch_size=BATCH, frames=FRAMES, val_limit=2)
    data.prepare_data()
    data.setup()
    data.spectral.fit(data.calibration(64))
    return data


class Common(Dataset[tuple[Tensor, Tensor]]):
    """Common data path of the field: read, resample, crop and transform each item in each epoch."""

    def __init__(self, data: PairedData, transform: bool) -> None:
        matched = pairs.match(data.root / "noisy", data.root / "clean")[0]
        files = dict(zip(matched.names, matched.files, strict=True))
        self.files = [files[name] for name in data.names["train"]]
        self.rate, self.length = data.spectral.sample_rate, data.spectral.samples(FRAMES)
        self.stft = torchaudio.transforms.Spectrogram(data.spectral.n_fft, hop_length=data.spectral.hop, power=1)
        self.resample = torchaudio.transforms.Resample(48_000, self.rate)  # its filter made once, and short
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        both = torch.stack([torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in self.files[index]])
        both = match_length(self.resample(both), max(self.length, both.shape[1] // 3))
        start = int(torch.randint(both.shape[1] - self.length + 1, ()))
        crop = both[:, start : start + self.length]
        noisy, clean = self.stft(crop) if self.transform else crop
        return noisy, clean


def audio_seconds() -> float:
    return FRAMES / Spectral().frame_rate


def speed(batches: Callable[[], Any], seconds: float, skip: int) -> float:
    """Audio-seconds per second of the median epoch, after ``skip`` batches that were made while workers started."""
    speeds: list[float] = []
    begin = time.perf_counter()
    while len(speeds) < 3 or time.perf_counter() - begin < seconds:
        count, start = 0, time.perf_counter()
        for index, _ in enumerate(batches()):
            if index == skip - 1:
                start = time.perf_counter()
            count += index >= skip
        synchronise()
        speeds.append(count * BATCH * audio_seconds() / (time.perf_counter() - start))
    return statistics.median(speeds)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def loading(data: PairedData, seconds: float) -> list[list[str]]:
    """Return a row for each way: who, what is done, workers, audio-seconds per second, times the first."""

    def common(transform: bool) -> Iterator[Any]:
        return iter(DataLoader(Common(data, transform), BATCH, shuffle=True, drop_last=True, num_workers=WORKERS))

    def crops() -> Iterator[Any]:
        return (batch for batch in data.train_dataloader() if len(batch["level"]) == BATCH)

    def waveforms() -> Iterator[Any]:
        return map(data.waveforms, crops())

    def patches() -> Iterator[Any]:
        return map(data.patches, waveforms())

    def on_gpu() -> Iterator[Any]:
        return map(data.patches, map(data.waveforms, (move_data_to_device(batch, "cuda") for batch in crops())))

    ways = [
        ("common", "48 kHz WAV, resample, crop, STFT", lambda: common(True)),
        ("common", "the same without the STFT", lambda: common(False)),
        ("denoiser", "crops from the memory map, as a GPU is sent them", crops),
        ("denoiser", "crops from the memory map, in float32", waveforms),
        ("denoiser", "crops from the memory map, STFT, scaling", patches),
    ]
    if torch.cuda.is_available():
        ways.append(("denoiser", "crops from the GPU's memory, STFT, scaling, there", on_gpu))
    speeds = []
    for who, _, batches in ways:
        data.resident = Resident([data.store], torch.device("cuda")) if batches is on_gpu else None
        data.spectral.to("cuda" if batches is on_gpu else "cpu")
        # Batches that workers have ready when the first one arrives are not counted.
        speeds.append(speed(batches, seconds, skip=3 * WORKERS if who == "common" else 0))
    data.resident = None
    data.spectral.cpu()
    return [
        [who, what, str(WORKERS if who == "common" else 0), f"{value:,.0f}", f"{value / speeds[0]:.1f}"]
        for (who, what, _), value in zip(ways, speeds, strict=True)
    ]


class Clock(Callback):
    """Seconds per step, from the end of the second on."""

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in (2, trainer.max_steps):
            synchronise()
            now = time.perf_counter()
            if trainer.global_step == 2:
                self.begin = now
            else:
                self.seconds = (now - self.begin) / (trainer.max_steps - 2)


def fit(data: PairedData, steps: int, constant: dict[str, Tensor] | None = None) -> tuple[float, str]:
    """Return the seconds per step of unet10, through the loop that train.py uses, and the place that it ran on."""
    clock = Clock()
    fitting = build_trainer(
        Path(tempfile.gettempdir()), max_steps=steps + 2, max_epochs=-1, gradient_clip_val=0.02, callbacks=[clock],
        limit_val_batches=0, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    denoiser = Denoiser.build({"name": "unet"}, {"peak": float(data.spectral.peak)})
    module = DenoisingModule(denoiser, Huber(), partial(torch.optim.Adam, lr=1e-3))
    if constant is None:
        fitting.fit(module, datamodule=data)
    else:
        device = fitting.strategy.root_device
        batch = {key: value.to(device) for key, value in constant.items()}
        fitting.fit(module, DataLoader([batch] * (steps + 2), batch_size=None))
    return clock.seconds, f"{fitting.strategy.root_device.type}, {fitting.precision}"


def training(data: PairedData, steps: int, rounds: int) -> tuple[list[list[str]], str]:
    """Return rows of real and constant batches, in turns, and the place that they ran on."""
    batch = data.patches(data.waveforms(next(iter(data.train_dataloader()))))
    times: dict[str, list[float]] = {"one batch, always the same": [], "the corpus": []}
    for _ in range(rounds):
        for name, constant in zip(times, (batch, None), strict=True):
            seconds, where = fit(data, steps, constant)
            times[name].append(seconds)
            print(f"{name}: {1e3 * seconds:.1f} ms a step", file=sys.stderr, flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    shares = [100 * one / real for one, real in zip(*times.values(), strict=True)]
    share = [f"{statistics.median(shares):.1f} % ({min(shares):.1f} to {max(shares):.1f})", "100 %"]
    rows = []
    for name, seconds in medians.items():
        rate = BATCH * audio_seconds() / seconds
        rows.append([name, f"{1e3 * seconds:.1f}", f"{rate:,.0f}", f"{9.4 * 3600 / rate:,.0f}", share.pop()])
    return rows, where


@contextmanager
def peak_of(stages: dict[str, float], stage: str) -> Iterator[None]:
    """Record the most anonymous memory of this process, in MB."""
    found: dict[str, float] = {}
    with watched(found):
        yield
    stages[stage] = found["private_mb"]


def child(root: Path, cache: Path) -> None:
    """Prepare, read an epoch of patches, train two steps, in a process of its own; prints its peaks as JSON."""
    stages: dict[str, float] = {}
    with peak_of(stages, "preparing"):
        data = open_data(root, cache)
    with peak_of(stages, "an epoch of patches"):
        for batch in data.train_dataloader():
            data.patches(data.waveforms(batch))
    with peak_of(stages, "training"):
        fit(data, 2)
    print(
        json.dumps(
            {**stages, "hours": data.store.lengths.sum() / data.store.sample_rate / 3600, "gb": data.store.size / 1e9}
        )
    )


def memory(folder: Path, hours: float) -> list[list[str]]:
    rows, peaks = [], []
    for name, length in (("small", 1 / 6), ("large", hours)):
        root = write_corpus(folder / name, round(length * 3600 / SECONDS), 16_000, SECONDS, DISTINCT)
        command = [sys.executable, __file__, "--child", str(root), str(folder / "prepared")]
        print(f"memory: {length:.2g} hours ...", file=sys.stderr, flush=True)
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.strip().splitlines()[-1])
        peaks.append(found)
        rows.append(
            [f"{found.pop('hours'):.2f} h, {found.pop('gb'):.2f} GB prepared", *map("{:,.0f}".format, found.values())]
        )
        shutil.rmtree(folder / "prepared")
    growth = ["growth", *(f"{peaks[1][stage] - peaks[0][stage]:+,.0f}" for stage in peaks[0])]
    return [*rows, growth]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def machine() -> str:
    model, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    packages = ("torch", "torchaudio", "pytorch-lightning", "soundfile", "numpy")
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch, {gpu}; load {load()} before; "
        f"Python {platform.python_version()}, {', '.join(f'{package} {version(package)}' for package in packages)}"
    )


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--files", type=int, default=824, help="pairs at 48 kHz, 200 or more; VCTK-DEMAND has 824 to test on"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="at least, for each way of loading")
    parser.add_argument("--steps", type=int, default=8, help="of training in a round, after two")
    parser.add_argument("--rounds", type=int, default=5, help="of training, real and constant batches in turns")
    parser.add_argument("--hours", type=float, default=9.4, help="of the large corpus; 0: none")
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where the corpora are written, 5 GB")
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    if options.files < 200:
        parser.error("--files: at least 200, to have more batches than workers hold ready")
    print(machine(), end="\n\n", flush=True)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as name:
        folder = Path(name)
        root = write_corpus(folder / "corpus", options.files, 48_000, 2.5)
        matched = pairs.match(root / "noisy", root / "clean")[0]
        begin = time.perf_counter()
        (store,) = prepare([matched], 16_000, folder / "test")
        seconds = time.perf_counter() - begin
        sound = store.lengths.sum() / store.sample_rate
        print(f"Preparing {len(matched.names)} pairs, {sound:,.0f} s, 48 to 16 kHz, just written: {seconds:.1f} s, "
              f"{sound / seconds:,.0f} times real time\n", flush=True)  # fmt: skip
        data = open_data(root, folder / "prepared")
        header = ["loading", "what is done", "workers", "audio-s/s", "times the first"]
        print(markdown(header, loading(data, options.seconds)), flush=True)
        rows, where = training(data, options.steps, options.rounds)
        header = [f"training unet10, {BATCH} x 2 s, {where}", "ms a step", "audio-s/s", "s an epoch of 9.4 h", "speed"]
        print(markdown(header, rows), flush=True)
        if options.hours:
            rows = memory(folder, options.hours)
            print(markdown(["peak anonymous MB", "preparing", "an epoch of patches", "training"], rows), flush=True)
    print(f"Load {load()} after.")


if __name__ == "__main__":
    main()
