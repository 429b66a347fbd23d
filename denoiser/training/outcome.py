"""How a training run ended, in its ``run.json``: however it ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.utilities import rank_zero_only

from denoiser.errors import DenoiserError, DivergedError, PrunedError
from denoiser.evaluation.metrics import mode_of
from denoiser.training import history, record


@contextmanager
def recorded(cfg: DictConfig, folder: Path) -> Iterator[Callable[[], None]]:
    """Around a training: yields what writes the record of a run that has begun; how it fails is then recorded too.

    A run of a sweep has begun at once; any other leaves nothing where a mistake stopped it before its data was ready.
    """
    begun = False

    def begin() -> None:
        nonlocal begun
        if not begun:
            record.write(folder, {**_known(cfg), "status": "running", "started": record.now()})
        begun = True

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        begin()
    try:
        yield begin
    except BaseException as error:
        if begun:
            with suppress(OSError, DenoiserError):  # of a full disk: what ended the run is what has to be said
                _end(folder, error)
        raise


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
        **{key: cfg.get(key) for key in ("name", "seed", "monitor")},
        "mode": mode_of(cfg.monitor),
        **history.chosen(),
        "config": plain(cfg),
    }


@rank_zero_only
def _end(folder: Path, error: BaseException) -> None:
    ended = {"status": status(error), "reason": reason(error), "ended": record.now()}
    record.write(folder, {**record.read(folder), **ended})
