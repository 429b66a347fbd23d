"""Hostile logs, run records and command lines."""

import contextlib
import copy
import csv
import io
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from denoiser import errors
from denoiser.data.metadata import gather, read_logs
from tests.campaigns.fuzzing.mutation import damaged

ROOT = Path(__file__).parents[3]


def logs(_: Path) -> Callable[[random.Random, Path], None]:
    """Read log files of a corpus: lines without meaning are counted, and nothing is made up."""
    lines = ["p232_001 bus 2.5", "p257_002.wav cafe 17.5", "p1 living -5", "p2 bus nan", "p3 a b c", "", "p4 x 1e400"]
    whole = "\n".join(lines * 20).encode()

    def attempt(rng: random.Random, folder: Path) -> None:
        content = damaged(rng, whole, [rng.randbytes(500), "日本 ü 1\u2028x".encode() * 9])
        for name in rng.sample(["log_testset.txt", "log_trainset_28spk.txt", "logfiles/log_testset.txt"], 2):
            (folder / name).parent.mkdir(exist_ok=True)
            if rng.random() < 0.05:
                (folder / name).symlink_to(rng.choice([name, "/dev/zero", "/etc", "nothing"]))
            elif rng.random() < 0.03:
                os.mkfifo(folder / name)
            else:
                (folder / name).write_bytes(content)
        found = read_logs(folder)
        assert all(math.isfinite(snr) for _, snr in found.values())
        facts = gather([*found, "p1_1", "p1_2"], found)
        assert all(set(fact) <= {"noise_type", "snr_db", "speaker"} for fact in facts.values())
        if not found:
            raise errors.CorpusError("no line says anything")

    return attempt


WORDS = [
    "dry=0.5", "dry=", "max_attenuation_db=12", "phase_iters=2", "full_band=false", "loudness=-20", "overwrite=true",
    "shifts=2", "plot=false", "report=false", "device=cpu", "precision=32", "threads=1", "jobs=1", "shard=0",
    "shards=1", "in.wav", "output=out/x.wav", "input=in.wav", "ckpt=m.ckpt", "--cfg", "job", "--help", "-m", "++x=1",
    "~dry", "+a.b=[1]", "--", "-", "*.wav", "hydra.verbose=true", "dry=range(3)", "dry=${oc.env:HOME}", "dry=1,2",
    "'a b'", "dry={a:1}", "hydra=x", "hydra.job.chdir=1", "dry=???", "dry@x=1", "x/y@z=w", "input=[a,b]",
    "reference=in.wav",
]  # fmt: skip
TRAIN = [
    "model=unet10", "model=crn", "model/head=mask", "loss=sum", "data=mixture", "data.root=x", "optimizer.lr=1e-3",
    "trainer.gpus=0", "seed=3", "augment=full", "callbacks=ema", "~callbacks.clips", "++trainer.x=1", "spectral=48k",
    "model.depth=7", "model.widths=[1,2]", "metrics=[pesq]", "sweep=seeds", "experiment=demo", "debug=fast", "name=a",
    "scheduler=cosine", "logger=null", "ckpt_path=last", "init_from=a.ckpt", "hydra.run.dir=x", "monitor=val/loss",
    "model=${x}", "model@y=crn", "+model=crn", "data.mix.snr=[0,1]", "seed=${name}", "name=${seed}",
]  # fmt: skip
SIGNS = [*"=[]{}(),:'\"\\$~+-@/.*?#% \t\n\0é日\ud800", "${", "}", "null", "inf", "nan", "1e999", "0x1f", "9" * 400]


def word(rng: random.Random, words: list[str]) -> str:
    text = rng.choice(words)
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        place = rng.randrange(len(text) + 1)
        chance = rng.random()
        if chance < 0.6:
            text = text[:place] + rng.choice(SIGNS) + text[place:]
        elif chance < 0.8:
            text = text[:place] + text[place + 1 :]
        else:
            text = text[:place] + rng.choice(words)
    return text.replace("\0", "")  # no system passes one


def overrides(_: Path) -> Callable[[random.Random, Path], None]:
    """Try command lines of ``infer.py`` and ``train.py``, up to where the work would begin.

    Allowed are exit code 0 and the settings, or exit code 1 or 2 and no traceback.
    """

    def attempt(rng: random.Random, folder: Path) -> None:
        script = rng.choice(["infer", "train"])
        words = WORDS if script == "infer" else TRAIN
        arguments = [word(rng, words) for _ in range(rng.choice([1, 1, 2, 4]))]
        arguments = [argument.encode("utf-8", "replace").decode() for argument in arguments]
        command = [sys.executable, str(ROOT / f"{script}.py"), *arguments, "--cfg", "job"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        assert done.returncode in (0, 1, 2), f"{arguments}: exit code {done.returncode}"
        assert "Traceback" not in done.stderr, f"{arguments}: {done.stderr[-600:]!r}"
        if done.returncode:
            raise errors.ConfigError("refused")

    return attempt


def runs() -> list[dict[str, Any]]:
    """Return records as training writes them."""
    found = []
    for index, (model, seed) in enumerate([("unet6", 0), ("unet6", 1), ("unet10", 0)]):
        scores = {"pesq": 2.0 + index / 10, "stoi": 0.9, "si_sdr": 10.0 + index}
        config = {
            "name": model, "seed": seed, "monitor": "val/si_sdr", "mode": "max", "spectral": {"sample_rate": 16_000},
            "model": {"name": "unet", "depth": 3 + index}, "data": {"root": "gone", "seed": seed}, "loss": {},
        }  # fmt: skip
        found.append({
            "status": "finished", "reason": None, "name": model, "seed": seed, "config": config,
            "overrides": [f"model={model}"], "choices": {"model": model, "data": "synthetic"}, "parameters": 10_000,
            "macs_per_second": 1e9, "fit_seconds": 100.0, "audio_seconds_per_second": 20.0, "real_time_factor": 0.01,
            "monitor": "val/si_sdr", "mode": "max", "best": 10.0 + index, "best_epoch": 2,
            "checkpoint": "checkpoints/best.ckpt", "validation": {"n": 8, **scores}, "device": "cpu",
            "test": {"n": 4, "noisy": {**scores, "pesq": 1.5}, "enhanced": scores, "undefined": {}},
            "curve": [{"epoch": e, "step": 10 * e, "val/si_sdr": 9.0 + e} for e in (1, 2)], "hardware": "a computer",
            "split": {"train": 80, "val": 8, "test": 4, "rule": "by name"}, "versions": {"denoiser": "0.1.0"},
            "ended": f"2026-01-01T0{index}:00:00", "started": "2026-01-01T00:00:00", "precision": "32-true",
        })  # fmt: skip
    return found


def rankings(_: Path) -> Callable[[random.Random, Path], None]:
    """Rank runs of which one has damaged files: it costs only itself."""
    from denoiser.ranking.rank import rank

    whole = runs()
    table = io.StringIO()
    names = [f"{kind}_{m}" for kind in ("noisy", "enhanced") for m in ("pesq", "stoi", "si_sdr")]
    csv.writer(table).writerows([["name", *names], *([f"p{i}", *[1.5 + i] * 6] for i in range(4))])

    def attempt(rng: random.Random, folder: Path) -> None:
        records: list[Any] = copy.deepcopy(whole)
        index = rng.randrange(3)
        for number, record in enumerate(records):
            run = folder / "runs" / str(number)
            run.mkdir(parents=True)
            try:
                text = json.dumps(record).encode()
            except (ValueError, RecursionError, TypeError):
                text = b"[" * 100_000
            (run / "run.json").write_bytes(text[: rng.randrange(len(text))] if number == index else text)
            scores = table.getvalue().encode()
            (run / "scores.csv").write_bytes(damaged(rng, scores) if rng.random() < 0.2 else scores)
            split = json.dumps({"train": ["a"], "val": ["b"], "test": [f"p{i}" for i in range(4)]}).encode()
            (run / "split.json").write_bytes(damaged(rng, split) if rng.random() < 0.1 else split)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ranking = rank([folder / "runs"], folder / "out", base="1" if rng.random() < 0.1 else "")
        places = [run["folder"] for c in ranking.configurations for run in c.runs]
        places += [run["folder"] for run, _ in ranking.unranked]
        others = {str(folder / "runs" / str(n)) for n in range(3) if n != index}
        assert others <= set(places) or ranking.notes, f"{others - set(places)} are gone"

    return attempt
