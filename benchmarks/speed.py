"""Speed of training and inference beside others, all in one run: writes sections of docs/results.md.

    python benchmarks/speed.py [rounds=3] [minutes=10] [hours=2] [steps=10] [only=training,floor,inference,start,growth]

Each measurement is a process of its own, one at a time; training, inference and start are gone through ``rounds``
times in turns, the others row by row; what takes minutes, hours of audio, is measured once. Shown are the median and,
in brackets, the least and the most. What others install from PyPI runs after ``make peers``.
Ratios hold on a machine where nothing else runs; its load before and after is written down. A call with ``only``
writes those sections anew and leaves the others.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers/bin/python"
RATE = 16_000
STEPS = {"Demucs=48": 3, "DCUNet-20": 1, "spectral mask": 3}  # of others, float32
TRAINED = {  # through train.py
    "unet10": ["model=unet10"],
    "unet10, float32": ["model=unet10", "trainer.precision=32-true"],
    "unet10_small": ["model=unet10_small"],
    "unet10_stem": ["model=unet10_stem"],
    "crn": ["model=crn", "model/head=mask"],
    "dualpath": ["model=dualpath", "model/head=mask"],
    "best (filter, perceptual loss)": ["experiment=best", "data.batch_size=16", "data.frames=126"],
}
ENHANCERS = ["noisereduce, stationary", "noisereduce, non-stationary", "RNNoise", "WebRTC", "log-MMSE", "Demucs=48"]
BRIEF = ["Demucs=48"]  # of these, in the table of ten seconds only: ten minutes would take three
LONG = ["WebRTC"]  # of others, what memory and time allow two hours
# Shipped weights by name, untrained networks with weights that remove nothing; in float32 or bfloat16.
OURS = ["small", "small, 32", "best", "best, 32", "unet10", "unet10, bf16", "unet10_small"]
EXPLAINED = {
    "training": "Median of {rounds} rounds, gone through in turns (least to most); a round is the median of its steps.",
    "floor": "Median of {rounds} runs a row (least to most).",
    "inference": "Median of {rounds} rounds, gone through in turns (least to most); of hours one run. The peak is the "
    "whole process, torch's libraries included where torch is used: with those of CUDA some 500 to 650 MB, as their "
    "pages happen to be mapped. Private is what no other program shares. What stands alone is precision=auto: bf16 of "
    "small and best where the CPU has it, 32 bits of unet10.",
    "start": "Median of {rounds} rounds, gone through in turns (least to most).",
    "growth": "Median of {rounds} runs a row (least to most); of 80 and 120 minutes one.",
}
OURS_LONG = ["small", "best"]


def child(arguments: Sequence[str | Path], threads: int, python: Path | str = sys.executable) -> dict[str, float]:
    """Run a process and return the JSON that it prints last; its wall time from start to end is ``wall``."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    begin = time.perf_counter()
    done = subprocess.run(
        [str(python), *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-500:]}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return {**(json.loads(lines[-1]) if lines else {}), "wall": wall}


def in_turns(jobs: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, list[dict[str, float]]]:
    results: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for turn in range(rounds):
        for name, job in jobs.items():
            try:
                results[name].append(job())
            except RuntimeError as error:
                print(f"{name}: left out, {error}", file=sys.stderr)
                continue
            print(f"round {turn + 1} of {rounds}: {name}: {results[name][-1]}", file=sys.stderr, flush=True)
    return {name: found for name, found in results.items() if found}


def shown(values: Sequence[float], digits: int = 3) -> str:
    low, middle, high = (f"{v:.{digits}g}" for v in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows]) + "\n"


# Training


def write_corpus(root: Path) -> Path:
    """Write an hour of noise as pairs at 16 kHz, split by name."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    for index in range(720):
        clean, noise = 0.05 * rng.standard_normal((2, 5 * RATE))
        for side, x in (("clean", clean), ("noisy", clean + noise)):
            path = root / side / f"u{index:04d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, x, RATE, subtype="PCM_16")
    return root


def through_train(corpus: Path, folder: Path, overrides: Sequence[str], steps: int) -> dict[str, float]:
    """Audio-seconds per second of the median step after the first two, data included."""
    mixture = any("experiment" in override for override in overrides)
    data = [f"data.speech={corpus}/clean", f"data.noise={corpus}/noisy", "data.rooms=null"]
    where = data if mixture else ["data=folders", f"data.root={corpus}", "data.batch_size=16", "data.frames=256"]
    overrides = [*where, *overrides]
    run = folder / f"run{time.monotonic_ns()}"
    return child(
        ["train.py", *overrides, "trainer.gpus=0", "+callbacks.steps._target_=benchmarks.steps.Steps",
         f"data.cache={folder}/prepared", "data.val_limit=1", "logger=csv",
         "test=false", "callbacks=none", f"trainer.max_steps={steps + 2}", "trainer.max_epochs=-1",
         f"hydra.run.dir={run}"],
        threads=2,
    )  # fmt: skip


def training(rounds: int, steps: int) -> str:
    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)
        corpus = write_corpus(folder / "corpus")
        jobs: dict[str, Callable[[], dict[str, float]]] = {
            "unet10, a plain Lightning loop, STFT by item": lambda: child(["benchmarks/plain.py", corpus, steps], 2)
        }
        for name, overrides in TRAINED.items():
            jobs[f"{name}, train.py"] = lambda o=overrides: through_train(corpus, folder, o, steps)  # type: ignore[misc]
        jobs["unet10, bare step"] = lambda: child(["benchmarks/floor.py", "bf16", steps], 2)
        if PEERS.exists():
            for name, count in STEPS.items():
                jobs[f"{name}, bare step"] = lambda n=name, c=count: child(
                    ["benchmarks/peers.py", "step", n, c], 2, PEERS
                )  # type: ignore[misc]
        found = in_turns(jobs, rounds)
    first = statistics.median(run["audio_s_per_s"] for run in next(iter(found.values())))
    rows = []
    for name, runs in found.items():
        speeds = [run["audio_s_per_s"] for run in runs]
        rows.append([name, shown(speeds), f"{statistics.median(speeds) / first:.2g}"])
    return markdown(["training, 2 threads, batches of 16 x 2 s", "audio-s per s", "times the first"], rows)


def floor(rounds: int) -> str:
    """Return the table of one step of unet10 beside the limits of the machine's arithmetic and memory."""
    rows = []
    for precision in ("bf16", "float32"):
        runs = [child(["benchmarks/floor.py", precision, 6], 2) for _ in range(rounds)]
        keys = ("step_s", "arithmetic_s", "memory_s", "share_of_floor", "gmacs_per_second", "gb_per_second")
        rows.append([precision, *(shown([run[key] for run in runs]) for key in keys)])
        print(rows[-1], file=sys.stderr, flush=True)
    header = ["unet10, 16 x 2 s", "step, s", "its products, s", "its traffic, s", "floor / step", "GMAC/s", "GB/s"]
    return markdown([*header[:-2], "GMAC/s of a product", "GB/s of a copy"], rows)


# Inference


def write_noise(path: Path, seconds: float) -> None:
    import numpy as np
    import soundfile

    block = (0.05 * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.float32)
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for start in range(0, round(seconds * RATE), len(block)):
            file.write(block[: round(seconds * RATE) - start])


def prepare(folder: Path) -> None:
    """Write checkpoints of the untrained networks of OURS."""
    import torch

    from denoiser import Denoiser

    for name, width in (("unet10", {}), ("unet10_small", {"width": 8, "max_width": 128})):
        model, spectral = {"name": "unet", **width}, {"sample_rate": RATE, "n_fft": 510, "hop": 128, "power": 0.3}
        denoiser = Denoiser.build(model, {**spectral, "peak": 5.0})
        # It takes no noise away: what random weights make would pass full scale, and a file then be done twice.
        denoiser.net.get_parameter("head.weight").data.zero_()
        weights = {f"denoiser.{key}": value for key, value in denoiser.state_dict().items()}
        settings = {"model": model, "spectral": spectral, "loss": {"name": "huber"}, "seed": 0}
        torch.save({"hyper_parameters": settings, "state_dict": weights}, folder / f"{name}.ckpt")


def ours(name: str, source: Path, target: Path) -> None:
    """Enhance one file by one of OURS in this process; prints seconds and peak MB as peers.py does."""
    import io
    from contextlib import redirect_stdout

    from denoiser import Denoiser, startup
    from denoiser.checkpoint import SHIPPED
    from denoiser.inference.batch import enhance_files
    from denoiser.inference.jobs import Job
    from resident import watched

    startup.keep_freed_memory()  # as infer.py does
    base, _, kind = name.partition(", ")
    source_of_weights = base if base in SHIPPED else target.with_name(f"{base}.ckpt")
    denoiser = Denoiser.from_checkpoint(source_of_weights, "cpu", kind or "auto")
    warm = target.with_name("warm.wav")
    write_noise(warm, 1)
    denoiser.enhance_file(warm, target)
    found: dict[str, float] = {}
    with watched(found), redirect_stdout(io.StringIO()):
        begin = time.perf_counter()
        enhance_files(denoiser, [Job(source, target)])
        found["seconds"] = time.perf_counter() - begin
    print(json.dumps(found))


def inference(rounds: int, minutes: float, hours: float) -> str:
    text = ""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        target = Path(folder) / "out.wav"
        child(["benchmarks/speed.py", "--prepare", folder], 2)
        for length, seconds in (("10 s", 10), (f"{minutes:g} min", 60 * minutes), (f"{hours:g} h", 3600 * hours)):
            source = Path(folder) / "in.wav"
            write_noise(source, seconds)
            jobs: dict[str, Callable[[], dict[str, float]]] = {}
            for threads in (1, 2) if seconds == 60 * minutes else (1,):
                for name in OURS if seconds <= 60 * minutes else OURS_LONG:
                    command = ["benchmarks/speed.py", "--ours", name, source, target]
                    jobs[f"denoiser {name} | {threads}"] = lambda c=command, t=threads: child(c, t)  # type: ignore[misc]
                if PEERS.exists() and threads == 1:
                    longer = [other for other in ENHANCERS if other not in BRIEF] if seconds <= 60 * minutes else LONG
                    for name in ENHANCERS if seconds <= 10 else longer:
                        command = ["benchmarks/peers.py", "file", name, source, target]
                        jobs[f"{name} | {threads}"] = lambda c=command, t=threads: child(c, t, PEERS)  # type: ignore[misc]
            found = in_turns(jobs, rounds if seconds <= 60 * minutes else 1)
            rows = []
            for name, runs in found.items():
                factors, cold = ([run[key] / seconds for run in runs] for key in ("seconds", "wall"))
                peaks = [f"{statistics.median(run[key] for run in runs):.0f}" for key in ("peak_mb", "private_mb")]
                rows.append([*name.split(" | "), shown(factors), f"{statistics.median(cold):.3g}", *peaks])
            header = [f"inference, {length}, file to file", "threads", "real-time factor", "with the start"]
            header += ["peak MB", "of it private"]
            text += markdown(header, rows) + "\n"
    return text


def start(rounds: int) -> str:
    """Measure the time from the command to the file, and its parts."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        source, target = Path(folder) / "in.wav", Path(folder) / "out.wav"
        write_noise(source, 5)
        jobs = {
            "import torch, nothing else": lambda: child(["-c", "import torch"], 2),
            "infer.py --help": lambda: child(["infer.py", "--help"], 2),
            "infer.py, 5 s": lambda: child(
                ["infer.py", "ckpt=small", f"input={source}", f"output={target}", "device=cpu"], 2
            ),
            "train.py --help": lambda: child(["train.py", "--help"], 2),
        }
        found = in_turns(jobs, rounds)
    rows = [[name, shown([run["wall"] for run in runs])] for name, runs in found.items()]
    return markdown(["from the command to its end", "seconds"], rows)


def growth(rounds: int) -> str:
    """Measure seconds over length, files and files at once; audio-seconds per second over batch, depth and workers."""
    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)
        return "\n".join([over_length(folder, rounds), over_files(folder, rounds), over_training(folder, rounds)])


def over_length(folder: Path, rounds: int) -> str:
    rows = []
    for minutes in (5, 10, 20, 40, 80, 120):
        source = folder / "in.wav"
        write_noise(source, 60 * minutes)
        command = ["benchmarks/speed.py", "--ours", "small", source, folder / "out.wav"]
        runs = [child(command, 1) for _ in range(rounds if minutes < 80 else 1)]
        seconds = statistics.median(run["seconds"] for run in runs)
        rows.append([f"{minutes} min", f"{seconds:.1f}", f"{1000 * seconds / minutes / 60:.3g}"])
        print(rows[-1], file=sys.stderr, flush=True)
    return markdown(["length, small, 1 thread", "seconds", "ms per second of audio"], rows)


def over_files(folder: Path, rounds: int) -> str:
    """Measure a folder through infer.py: 10 s each, its own start included."""
    rows = []
    for count, jobs in ((1, 1), (30, 1), (120, 1), (120, 2)):
        source = folder / f"files{count}"
        source.mkdir(exist_ok=True)
        for index in range(count):
            write_noise(source / f"{index}.wav", 10)
        command = [
            "infer.py",
            "ckpt=small",
            f"input={source}",
            f"output={folder}/out{count}",
            f"jobs={jobs}",
            "device=cpu",
        ]
        runs = [child([*command, "overwrite=true"], 1)["wall"] for _ in range(rounds)]
        rows.append([str(count), str(jobs), shown(runs)])
        print(rows[-1], file=sys.stderr, flush=True)
    return markdown(["files of 10 s, small", "at once", "seconds from the command to its end"], rows)


def over_training(folder: Path, rounds: int, steps: int = 8) -> str:
    corpus, rows = write_corpus(folder / "corpus"), []
    cases = [[f"data.batch_size={size}"] for size in (2, 4, 8, 16, 32)]
    cases += [[f"model={model}"] for model in ("unet6", "unet8", "unet10", "unet14")]
    cases += [[f"data.workers={workers}"] for workers in (0, 1, 2)]
    for overrides in cases:
        speeds = [through_train(corpus, folder, overrides, steps)["audio_s_per_s"] for _ in range(rounds)]
        rows.append([*overrides, shown(speeds)])
        print(rows[-1], file=sys.stderr, flush=True)
    return markdown(["training, unet10 and batches of 16 x 2 s but for", "audio-s per s"], rows)


def machine() -> str:
    from data import machine as described

    return described()


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        sys.path.insert(0, str(ROOT))
        ours(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return
    if sys.argv[1:2] == ["--prepare"]:
        sys.path.insert(0, str(ROOT))
        prepare(Path(sys.argv[2]))
        return
    given = dict(re.match(r"(\w+)=(.*)", argument).groups() for argument in sys.argv[1:])  # type: ignore[union-attr]
    rounds, steps = int(given.get("rounds", 3)), int(given.get("steps", 10))
    parts: dict[str, Callable[[], str]] = {
        "training": lambda: training(rounds, steps),
        "floor": lambda: floor(rounds),
        "inference": lambda: inference(rounds, float(given.get("minutes", 10)), float(given.get("hours", 2))),
        "start": lambda: start(rounds),
        "growth": lambda: growth(rounds),
    }
    chosen = given.get("only", ",".join(parts)).split(",")
    given.pop("only", None)
    for name in chosen:
        before, table = machine(), parts[name]()
        load = f"{os.getloadavg()[0]:.1f} after" if hasattr(os, "getloadavg") else ""
        options = " ".join([f"only={name}", *(f"{key}={value}" for key, value in given.items())])
        head = f"`python benchmarks/speed.py {options}`, {time.strftime('%Y-%m-%d')}. {before}; load {load}.\n"
        head += f"{EXPLAINED[name].format(rounds=rounds)}\n"
        print(write(name, f"{head}\n{table}"))


def write(part: str, text: str) -> str:
    """Replace the text of the section ``Speed: <part>`` of docs/results.md, or add the section at the end."""
    path = ROOT / "docs/results.md"
    title = f"## Speed: {part}"
    before, found, rest = path.read_text(encoding="utf-8").partition(f"\n{title}\n")
    _, next_title, after = rest.partition("\n## ")
    if not found:
        before = f"{before.rstrip()}\n"
    path.write_text(f"{before}\n{title}\n\n{text.strip()}\n{next_title}{after}", encoding="utf-8")
    return text


if __name__ == "__main__":
    main()
