"""How a training run ended, in its ``run.json``: however it ended."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only

from denoiser import record
from denoiser.errors import DenoiserError, DivergedError, PrunedError

KEYS = (  # of a record: what is not known is null, never missing
    "status reason name seed overrides choices config parameters macs_per_second device precision batch_audio_seconds "
    "fit_seconds audio_seconds_per_second real_time_factor monitor mode best best_epoch checkpoint validation test "
    "curve split versions hardware started ended"
).split()
Training = Callable[[DictConfig, Path], "float | None"]


def recorded(train: Training) -> Training:
    """``train``, with a record of it in its folder: "running" from the start, at the end what became of it.

    What ``train`` itself recorded of a finished run stays.
    """

    @functools.wraps(train)
    def wrapper(cfg: DictConfig, folder: Path) -> float | None:
        _write(folder, {**dict.fromkeys(KEYS), **_known(cfg), "status": "running", "started": _now()})
        try:
            value = train(cfg, folder)
        except BaseException as error:
            _end(folder, status=status(error), reason=reason(error))
            raise
        _end(folder, unless_ended=True, status="finished", best=value)
        return value

    return wrapper


def reason(error: BaseException) -> str:
    """One line for what ended a run."""
    text = " ".join(str(error).split())
    if isinstance(error, DenoiserError):
        return text
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted"
    return f"{type(error).__name__}: {text}"


def plain(cfg: DictConfig) -> dict[str, Any] | None:
    """The whole configuration, resolved; None where it cannot be, which is said when the training meets it."""
    try:
        return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException:
        return None


def status(error: BaseException) -> str:
    """What a record says of a run that this ended."""
    if isinstance(error, DivergedError):
        return "diverged"
    if isinstance(error, PrunedError):
        return "pruned"
    return "failed" if isinstance(error, Exception) else "interrupted"


def _known(cfg: DictConfig) -> dict[str, Any]:
    """What can be told before anything is built."""
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    known: dict[str, Any] = {key: cfg.get(key) for key in ("name", "seed", "monitor", "mode")}
    known["config"] = plain(cfg)
    if hydra is not None:
        known["overrides"] = list(hydra.overrides.task)
        known["choices"] = {key: choice for key, choice in hydra.runtime.choices.items() if "hydra/" not in str(key)}
    return known


@rank_zero_only
def _write(folder: Path, content: dict[str, Any]) -> None:
    record.write(folder, content)


@rank_zero_only
def _end(folder: Path, unless_ended: bool = False, **facts: Any) -> None:
    content = record.read(folder)
    if not unless_ended or content["status"] == "running":
        record.write(folder, {**content, "ended": _now(), **facts})


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")
