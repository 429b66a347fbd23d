"""Campaign of kill -9 at random moments. The command is started again, and the result compared with that of an
uninterrupted run.

    python -m tests.campaigns kills [kills=50] [seed=0] [folder=FOLDER]

A moment is a place (data preparation, a training step, ...) and a time in it, both drawn from the seed: functions of
the program under test note that they run, and the signal goes to the process group. After every kill each file under
its final name is read; at the end weights and sounds are compared. The program is started as a fork of this process,
which has imported the libraries already.
"""

import functools
import importlib
import json
import mmap
import os
import random
import re
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import torch

from denoiser import audio
from denoiser.cli.arguments import key_values, whole
from denoiser.data.store import Store

ROOT = Path(__file__).resolve().parents[2]
PLACES = ["elsewhere", "preparation", "a step", "checkpoint write", "validation", "sweep", "folder inference"]
# Module, class, function and the number of the place where it runs.
MARKED = [
    ("denoiser.data.datamodule", "PairedData", "prepare_data", 1),
    ("denoiser.training.module", "DenoisingModule", "training_step", 2),
    ("pytorch_lightning.plugins.io", "TorchCheckpointIO", "save_checkpoint", 3),
    ("denoiser.training.module", "DenoisingModule", "validation_step", 4),
    ("denoiser.inference.denoiser", "Denoiser", "enhance_file", 6),
]
OF = {"train": PLACES[1:5], "sweep": [PLACES[5]], "infer": [PLACES[6]]}
TINY = ["model.depth=2", "model.width=8", "model.dropout=0.1", "data.frames=32", "data.batch_size=4",
        "data.val_limit=4", "metrics=[si_sdr]", "callbacks.clips.clips=1", "trainer.gpus=0",
        "trainer.precision=32-true"]  # fmt: skip
TOLERANCE = 1e-6  # between weights


def mark(owner: object, name: str, code: int, board: mmap.mmap) -> None:
    """Wrap a function so that it notes on the board, a mapped file that outlives the process, that it runs."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def marked(*arguments: object, **settings: object) -> object:
        before, board[0] = board[0], code
        try:
            return function(*arguments, **settings)
        finally:
            board[0] = before

    setattr(owner, name, marked)


def program(board: Path, script: str, arguments: list[str], cwd: Path, log: Path) -> None:
    """Run a script to its end, in a process group of its own."""
    os.setsid()
    os.chdir(cwd)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = [str(ROOT / script), *arguments]
    with open(board, "r+b") as file:
        shared = mmap.mmap(file.fileno(), 1)
    for module, kind, name, place in MARKED:
        mark(getattr(importlib.import_module(module), kind), name, place, shared)
    runpy.run_path(sys.argv[0], run_name="__main__")


class Runs:
    """Starter and killer of the program."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.board = folder / "board"
        self.board.write_bytes(b"\0")
        self.usual: dict[str, float] = {}  # seconds that an uninterrupted run is there

    def run(
        self, kind: str, arguments: list[str], cwd: Path, log: Path, target: str = "", after: float = 0.0
    ) -> tuple[int | None, dict[str, float]]:
        """Run the program to its end, or kill it when it has been at ``target`` for ``after`` seconds.

        Returns its exit code, or None where it was killed, and the seconds it was at each place; the last entry is the
        place where it was at the end.
        """
        script = "infer.py" if kind == "infer" else "train.py"
        self.board.write_bytes(b"\0")
        cwd.mkdir(parents=True, exist_ok=True)
        process = get_context("fork").Process(target=program, args=(self.board, script, arguments, cwd, log))
        process.start()
        seconds: dict[str, float] = {}
        last = time.perf_counter()
        with self.board.open("rb") as board:
            while process.is_alive():
                board.seek(0)
                place = PLACES[board.read(1)[0]]
                if kind == "sweep" and place != PLACES[0]:
                    place = PLACES[5]
                now = time.perf_counter()
                seconds[place] = seconds.pop(place, 0.0) + now - last
                last = now
                if place == target and seconds[place] >= after:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.join()
                    board.seek(0)
                    return None, {**seconds, "": board.read(1)[0]}
                time.sleep(0.0005)
        return process.exitcode, seconds


def write_corpus(folder: Path, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        part, speaker = ("testset", "p232") if index < 2 else ("trainset_28spk", f"p{(225, 226, 287, 288)[index % 4]}")
        length = 48_000 + 4_000 * (index % 4)
        clean = 0.3 * torch.sin(torch.arange(length) * (0.01 + 0.001 * (index % 7)))[None]
        noisy = clean + 0.05 * torch.randn(1, length, generator=generator)
        for side, sound in (("clean", clean), ("noisy", noisy)):
            audio.write(folder / f"{side}_{part}_wav/{speaker}_{index:03d}.wav", sound, 48_000)


def partial(path: Path) -> bool:
    """Return whether the name says that the file is not whole."""
    return any(".partial-" in part for part in path.parts)


def unreadable(folder: Path) -> Iterator[str]:
    """Yield a line for each file under a final name that cannot be read to its end."""

    def sound(path: Path) -> None:
        assert audio.read(path)[0].shape[-1] == audio.probe(path).frames

    def store(path: Path) -> None:
        opened = Store(path.parent)
        assert sum(map(len, opened.maps)) * 2 == opened.size

    readers: dict[str, Callable[[Path], object]] = {
        ".ckpt": lambda path: torch.load(path, weights_only=True), ".wav": sound,
        ".json": lambda path: store(path) if path.name == "index.json" else json.loads(path.read_text()),
    }  # fmt: skip
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix in readers and not partial(path):
            try:
                readers[path.suffix](path)
            except Exception as error:
                yield f"{path}: {error!r}"


def differences(one: Path, two: Path, kind: str) -> Iterator[str]:
    """Yield a line for each result that a killed run lacks, or that differs from that of an uninterrupted one."""

    def made(folder: Path) -> dict[str, Path]:
        runs = {path.parent for path in folder.rglob("run.json")}
        if kind == "train":
            (run,) = (path for path in runs if json.loads((path / "run.json").read_text())["status"] == "finished")
            runs = {run}
        names = [path for run in runs for path in run.rglob("*.ckpt")] + list((folder / "out").rglob("*.wav"))
        return {str(path.relative_to(next(iter(runs)) if kind == "train" else folder)): path for path in names}

    first, second = made(one), made(two)
    if first.keys() != second.keys() or not first:
        yield f"{two}: has {sorted(second)}, expected {sorted(first)}"
    for name in first.keys() & second.keys():
        if name.endswith(".wav"):
            a, b = {"": audio.read(first[name])[0]}, {"": audio.read(second[name])[0]}
        else:
            a, b = (torch.load(found[name], weights_only=True)["state_dict"] for found in (first, second))
        if off := max(float((a[key] - b[key]).abs().max()) for key in a):
            yield from [f"{two}: {name} differs by {off:g}"] if not off <= TOLERANCE else []
    yield from (f"{path}: left over" for path in two.rglob("*") if partial(path))


def epochs(log: Path) -> list[int]:
    return [int(number) for number in re.findall(r"^epoch (\d+)/", log.read_text(errors="replace"), re.MULTILINE)]


def trial(runs: Runs, kind: str, arguments: list[str], cwd: Path, targets: list[str]) -> tuple[list[str], list[str]]:
    """Kill at each of the targets in turn and start again; returns the places of the kills, and a line per fault."""
    places, wrong = [], []
    saved, log = 0, cwd.with_suffix(".log")
    for target in [*targets, ""]:
        after = runs.draw.uniform(0, runs.usual.get(target, 0.0) / 2)
        code, seconds = runs.run(kind, arguments, cwd, log, target, after)
        if kind == "train" and (said := epochs(log)) and said[0] <= saved:
            wrong.append(f"{cwd}: epoch {said[0]} was done again, after a checkpoint of epoch {saved}")
        if code is None:
            at = PLACES[5] if kind == "sweep" else PLACES[int(seconds[""])]
            places.append(at)
            print(f"  {cwd.name}: killed in {at}, {1000 * after:.0f} ms into {target}", flush=True)
            wrong += unreadable(cwd)
            if kind == "train":
                found = [torch.load(path, weights_only=True) for path in cwd.rglob("last.ckpt")]
                saved = max((checkpoint["epoch"] + 1 for checkpoint in found), default=0)
            continue
        if code:
            return places, [*wrong, f"{cwd}: exit code {code}: {log.read_text(errors='replace')[-600:]}"]
        break
    return places, wrong + list(unreadable(cwd)) + list(differences(runs.folder / kind, cwd, kind))


def main(arguments: list[str]) -> int:
    given = key_values({"kills": "50", "seed": "0", "folder": ""}, str(__doc__), arguments)
    kills, seed = whole(given, "kills", 1, 10**6), whole(given, "seed", 0, 10**9)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HYDRA_FULL_ERROR": "0"}
    torch.set_num_threads(1)
    for module, *_ in MARKED:
        importlib.import_module(module)
    folder = Path(tempfile.mkdtemp(prefix="kills-", dir=given["folder"] or None)).resolve()
    runs, begin = Runs(folder, seed), time.perf_counter()
    print(f"seed={seed} kills={kills} in {folder}", flush=True)
    write_corpus(folder / "corpus", 50)
    data = [f"data.root={folder}/corpus", "data.cache=cache", *TINY]
    commands = {
        "train": [*data, "trainer.max_epochs=6", "ckpt_path=last"],
        "sweep": ["-m", *data, "trainer.max_epochs=2", "optimizer.lr=1e-3,2e-3", f"data.cache={folder}/shared"],
        "infer": [f"ckpt={folder}/m.ckpt", f"input={folder}/corpus/noisy_trainset_28spk_wav", "output=out"],
    }
    tried: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    wrong: list[str] = []
    share = {"train": 4, "sweep": 1, "infer": 1}
    for kind, arguments in commands.items():
        wanted = kills * sum(list(share.values())[: list(share).index(kind) + 1]) // 6 - tried.total()
        if not wanted:
            continue
        log = folder / f"{kind}.log"
        code, runs_seconds = runs.run(kind, arguments, folder / kind, log)
        if code:
            raise SystemExit(f"{kind}: exit code {code} without a kill: {log.read_text()[-2000:]}")
        runs.usual |= runs_seconds
        if kind == "train":
            shutil.copy(next((folder / "train").rglob("best.ckpt")), folder / "m.ckpt")
        number = 0
        while wanted > 0:
            order = OF[kind] * (1 if kind == "train" else 3)
            runs.draw.shuffle(order)
            order = sorted(order, key=lambda place: place != PLACES[1])[:wanted]  # once prepared, always prepared
            number += 1
            places, found = trial(runs, kind, arguments, folder / f"{kind}-{number}", order)
            wanted -= len(places)
            wrong += found
            for place in places:
                tried[place] += 1
                survived[place] += not found
            if found and not places:
                # It does not even start.
                raise SystemExit("\n".join(found))
            print(f"{tried.total()} of {kills} kills, {len(wrong)} faults", *found, sep="\n  ! ", flush=True)
    print(f"\n{'killed in':<20}{'tried':>7}{'survived':>10}")
    for place in [*PLACES[1:], PLACES[0]]:
        if tried[place]:
            print(f"{place:<20}{tried[place]:>7}{survived[place]:>10}")
    print(f"{'all':<20}{tried.total():>7}{survived.total():>10}    seed {seed}, ", end="")
    print(f"{time.perf_counter() - begin:.0f} s, imports apart")
    if not wrong and not given["folder"]:
        shutil.rmtree(folder)
    return 1 if wrong else 0
