"""How a training run ended, in its ``run.json``: however it ended."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only

from denoiser import history, record
from denoiser.errors import DenoiserError, DivergedError, PrunedError

Training = Callable[[DictConfig, Path], "float | None"]


def recorded(train: Training) -> Training:
    """``train``, with a record of it in its folder: "running" from the start, at the end what became of it.

    What ``train`` itself recorded of a finished run stays.
    """

    @functools.wraps(train)
    def wrapper(cfg: DictConfig, folder: Path) -> float | None:
        record.write(folder, {**_known(cfg), "status": "running", "started": record.now()})
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
    """The whole configuration as a record has it; None where it cannot be resolved, which the training says."""
    try:
        return dict(record.relative(OmegaConf.to_container(cfg, resolve=True)))
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
    return {
        **{key: cfg.get(key) for key in ("name", "seed", "monitor", "mode")},
        **history.chosen(),
        "config": plain(cfg),
    }


@rank_zero_only
def _end(folder: Path, unless_ended: bool = False, **facts: Any) -> None:
    content = record.read(folder)
    if not unless_ended or content["status"] == "running":
        record.write(folder, {**content, "ended": record.now(), **facts})
