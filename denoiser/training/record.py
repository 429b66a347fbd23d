"""The record of a run, ``run.json``: its settings, how it went and how it ended. Rankings and model cards read it."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from denoiser import distributed
from denoiser.errors import DenoiserError, DivergedError, PrunedError
from denoiser.filesystem import read_text, write_text
from denoiser.settings import mode_of

RECORD = "run.json"
KEYS = (
    "status reason name seed overrides choices config parameters macs_per_second device processes precision "
    "batch_audio_seconds fit_seconds audio_seconds_per_second real_time_factor monitor mode best best_epoch checkpoint "
    "validation test curve split versions hardware started ended"
).split()
# The default scheduler, and what it was before it had a function of its own.
CONSTANT = {"_target_": "denoiser.training.schedules.constant"}
OLD_CONSTANT = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0}
STATUSES = ("finished", "failed", "diverged", "pruned", "interrupted", "running")


def write(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``run.json``, in process 0 alone; return its content: all of KEYS, null for those that are not known."""
    content: dict[str, Any] = _plain({**dict.fromkeys(KEYS), **record})
    if distributed.rank() == 0:
        write_text(folder / RECORD, json.dumps(content, indent=1) + "\n")
    return content


def read(folder: Path) -> dict[str, Any]:
    """Return the record of the run in ``folder``; DenoiserError where there is none that can be read."""
    path = Path(folder, RECORD)
    try:
        record = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DenoiserError(f"{path}: cannot be read as a run's record ({error})") from error
    if not isinstance(record, dict) or record.get("status") not in STATUSES:
        raise DenoiserError(f"{path}: no run's record: expected an object whose status is one of {', '.join(STATUSES)}")
    return {**dict.fromkeys(KEYS), **record}


def find(parents: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Return every record below these folders once, by path, each with its ``folder``.

    One that cannot be read is ``{"status": "damaged", "reason": ..., "folder": ...}``.
    """
    found: dict[Path, dict[str, Any]] = {}
    for parent in parents:
        for path in sorted(Path(parent).rglob(RECORD)):
            try:
                record = read(path.parent)
            except DenoiserError as error:
                record = {"status": "damaged", "reason": str(error)}
            found.setdefault(path.resolve(), {**record, "folder": str(path.parent)})
    return list(found.values())


def of_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the part of a record that is known before anything is built."""
    known = {key: cfg.get(key) for key in ("name", "seed", "monitor")}
    known |= {"mode": mode_of(cfg.monitor), "config": configuration(cfg)}
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        choices = {key: value for key, value in hydra.runtime.choices.items() if value and not key.startswith("hydra/")}
        known |= {"overrides": list(hydra.overrides.task), "choices": choices}
    return known


def configuration(cfg: DictConfig) -> dict[str, Any] | None:
    """Return the configuration as a record holds it: plain, absolute paths as seen from the launch folder.

    None where it cannot be resolved, which the training then says.
    """
    try:
        return dict(_plain(_relative(OmegaConf.to_container(cfg, resolve=True))))
    except OmegaConfBaseException:
        return None


def as_now(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run or a checkpoint, with the present names where an older version had others."""
    is_old = settings.get("scheduler") == OLD_CONSTANT
    return {**settings, "scheduler": CONSTANT} if is_old else dict(settings)


def outcome(error: BaseException) -> dict[str, Any]:
    """Return the status of a run that this error ended, the reason in one line, and what a pruned one had reached."""
    if not isinstance(error, Exception):
        return {"status": "interrupted", "reason": "interrupted"}
    text = " ".join(str(error).split())
    reason = text if isinstance(error, DenoiserError) else f"{type(error).__name__}: {text}"
    statuses: dict[type, str] = {DivergedError: "diverged", PrunedError: "pruned"}
    reached = {"best": error.best} if isinstance(error, PrunedError) else {}
    return {"status": statuses.get(type(error), "failed"), "reason": reason, **reached}


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity become null, paths and other objects text."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)


def _relative(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _relative(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_relative(item) for item in value]
    return os.path.relpath(value) if isinstance(value, str) and os.path.isabs(value) else value
