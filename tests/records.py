"""Records of runs, as training leaves them, without the training."""

import json
from pathlib import Path

from denoiser.evaluation import tables

MODELS = {"unet6": (3, 0.4e9, 11.0), "unet8": (4, 0.8e9, 12.0), "unet10": (5, 1.5e9, 13.0)}
FILES = [(f"p{(232, 257)[i % 2]}_{i:03d}", ("bus", "babble", "fan")[i % 3], (2.5, 17.5)[i % 2]) for i in range(12)]


def record(model="unet10", loss="huber", seed=0, **changes):
    """Return the record of a run: better with more levels, a little better with l1 and with a higher seed."""
    depth, macs, quality = MODELS[model]
    quality += 0.3 * (loss == "l1") + 0.1 * seed
    config = {
        "name": f"synthetic-{model}-{loss}", "seed": seed, "monitor": "val/si_sdr", "mode": "max",
        "model": {"name": "unet", "depth": depth, "context": 2**depth}, "loss": {"name": loss},
        "data": {"root": "gone", "seed": seed, "cache": f"cache{seed}"}, "optimizer": {"lr": 1e-3},
        "spectral": {"sample_rate": 16_000},
    }  # fmt: skip
    scores = {"pesq": quality / 6, "stoi": 0.9, "si_sdr": quality}
    return {
        "status": "finished", "reason": None, "name": config["name"], "seed": seed, "config": config,
        "overrides": [f"model={model}", f"loss={loss}", f"seed={seed}"],
        "choices": {"model": model, "loss": loss, "data": "synthetic", "sweep": "architectures"},
        "parameters": depth * 1000, "macs_per_second": macs, "fit_seconds": 100.0, "audio_seconds_per_second": 20.0,
        "real_time_factor": 0.01, "monitor": "val/si_sdr", "mode": "max", "best": quality, "best_epoch": 2,
        "checkpoint": "checkpoints/best.ckpt", "validation": {"n": 8, **scores},
        "test": {"n": 12, "noisy": {"pesq": 1.5, "stoi": 0.8, "si_sdr": 5.0}, "enhanced": scores, "undefined": {}},
        "curve": [{"epoch": e, "step": 10 * e, "val/si_sdr": quality - 1 / e} for e in (1, 2)],
        "split": {"train": 80, "val": 8, "test": 12, "rule": "by name"},
        "versions": {"denoiser": "0.1.0", "pesq": "0.0.4", "pystoi": "0.4.1"}, "ended": f"2026-01-01T0{seed}:00:00",
        "folder": f"runs/{model}-{loss}-{seed}", **changes,
    }  # fmt: skip


def write(folder: Path, run: dict) -> Path:
    """Write a run's folder as training leaves it, with scores of its files around their mean."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({k: v for k, v in run.items() if k != "folder"}))
    if run["test"]:
        rows = []
        for index, (name, noise, snr) in enumerate(FILES):
            row = {"name": name, "noise_type": noise, "snr_db": snr}
            for kind in ("noisy", "enhanced"):
                row[kind] = {m: v + (index - 5.5) / 10 for m, v in run["test"][kind].items()}
            rows.append(row)
        tables.write_scores(rows, folder)
    return folder


def write_sweep(folder: Path) -> Path:
    """Write twelve runs, two of which did not finish, and a damaged record."""
    for model in MODELS:
        for loss in ("huber", "l1"):
            for seed in (0, 1):
                run = record(model, loss, seed)
                if (model, loss, seed) == ("unet6", "l1", 1):
                    run |= {"status": "diverged", "reason": "train/loss is nan <at step 7>", "best": None, "test": None}
                if (model, loss, seed) == ("unet8", "l1", 0):
                    run |= {"status": "failed", "reason": "RuntimeError: out\nof memory", "best": None, "test": None}
                write(folder / f"{model}-{loss}-{seed}", run)
    (folder / "torn").mkdir()
    (folder / "torn/run.json").write_text('{"status": "fini')
    return folder
