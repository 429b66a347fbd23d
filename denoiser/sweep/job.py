"""One run of a sweep: started, resumed, or skipped because it is done. Its errors end only itself."""

import math
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from denoiser import filesystem
from denoiser.errors import DenoiserError, PrunedError
from denoiser.sweep.naming import INCIDENTAL
from denoiser.training import record
from denoiser.training.folder import differences
from denoiser.training.layout import CHECKPOINTS, LOCK
from denoiser.training.run import train

LOG = "log.txt"  # the output of a run that is one of several at once


def run(cfg: DictConfig, folder: Path) -> float | None:
    """Train unless it is done, and return the best ``monitor`` of this run, or None if it has none.

    A run that finished is not repeated, one that was interrupted or failed goes on from its last checkpoint, one that
    diverged or had other settings begins anew. An error is a line on stderr: only Ctrl-C ends more than this run.
    """
    # A search may propose the same settings several times; it already knows that they diverge.
    searching = HydraConfig.get().runtime.choices["hydra/sweeper"] != "basic"
    with filesystem.locked(folder / LOCK) as free:
        if free:
            return _run(cfg, folder, searching)
    if not searching:
        print(f"{folder.name}: another process works on it")
        return None
    # Such as a worker whose command was killed. Without its value, the search would count the trial as failed.
    print(f"{folder.name}: waits for the process that works on it", flush=True)
    with filesystem.locked(folder / LOCK, wait=True) as free:
        return _run(cfg, folder, searching) if free else None


def _run(cfg: DictConfig, folder: Path, searching: bool) -> float | None:
    before: dict[str, Any] = {}
    with suppress(DenoiserError):
        before = record.read(folder)
    status = before.get("status")
    changes = _changes(before, cfg) if before else []
    if not changes and (status in ("finished", "pruned") or (status == "diverged" and searching)):
        when, value = before["ended"] or "before", before["best"]
        print(f"{folder.name}: {status} {when}, {cfg.monitor} {value}: not run again")
        return value
    if changes or status == "diverged":
        kept = _set_aside(folder)
        print(f"{folder.name}: run anew, the old run is in {kept}: {', '.join(changes) or before['reason']}")
    elif (folder / CHECKPOINTS / "last.ckpt").is_file():
        print(f"{folder.name}: goes on from its last checkpoint")
        cfg.ckpt_path = "last"
    with _gpu(cfg, folder.parent):
        return _trained(cfg, folder)


def _trained(cfg: DictConfig, folder: Path) -> float | None:
    try:
        if HydraConfig.get().runtime.choices["hydra/launcher"] == "basic":
            value = train(cfg, folder, locked=True)
        else:
            # Several runs at once would mix their lines on one terminal.
            print(f"{folder.name}: started; its messages go to {folder / LOG}", flush=True)
            with open(folder / LOG, "a", encoding="utf-8", errors="backslashreplace") as log, redirect_stdout(log):
                value = train(cfg, folder, locked=True)
    except PrunedError as error:
        print(f"{folder.name}: pruned: {error}", flush=True)
        return error.best
    except BrokenPipeError:
        # Nobody reads the sweep any more: all of it ends.
        raise
    except Exception as error:
        if not isinstance(error, DenoiserError):
            traceback.print_exc()
        ended = record.outcome(error)
        print(f"{folder.name}: {ended['status']}: {ended['reason']}", file=sys.stderr, flush=True)
        return None
    print(f"{folder.name}: finished, {cfg.monitor} {value}", flush=True)
    return value if value is not None and math.isfinite(value) else None


def _changes(before: Mapping[str, Any], cfg: DictConfig) -> list[str]:
    """Return a phrase for each setting that decides a run's result and differs from the earlier start."""
    asked = record.configuration(cfg)
    # The training raises the error of a configuration that cannot be resolved.
    if asked is None:
        return []
    if before["config"] is None:
        return ["its settings are not known"]
    changes = differences(record.as_now(before["config"]), record.as_now(asked))
    return [change for change in changes if not change.startswith(INCIDENTAL)]


def _set_aside(folder: Path) -> Path:
    """Move the files of an earlier start into the sweep's folder ``replaced`` and return their new place."""
    places = (folder.parent / "replaced" / f"{folder.name}-{number}" for number in count(1))
    kept = next(place for place in places if not place.exists())
    kept.mkdir(parents=True)
    for path in folder.iterdir():
        if path.name not in (LOCK, ".hydra"):
            # Under another name the record is not found as a run any more.
            path.rename(kept / ("run.replaced.json" if path.name == record.RECORD else path.name))
    return kept


@contextmanager
def _gpu(cfg: DictConfig, shared: Path) -> Iterator[None]:
    """Give this run one of several GPUs, a free one: no other run of the sweep on this machine holds its lock."""
    gpus = torch.cuda.device_count()
    for index in range(gpus if gpus > 1 and cfg.trainer.gpus is None else 0):
        with filesystem.locked(shared / f".gpu{index}-{socket.gethostname()}") as free:
            if free:
                cfg.trainer.gpus = [index]
                yield
                return
    # There are more runs than GPUs, or no choice: Lightning chooses.
    yield
