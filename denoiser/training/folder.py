"""A training run on disk: its folder, its checkpoints, and how it goes on after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.utilities import rank_zero_only

from denoiser import filesystem, ranks
from denoiser.checkpoint import load_checkpoint
from denoiser.errors import CheckpointError, ConfigError

CHECKPOINTS = "checkpoints"
SPLIT = "split.json"  # in a run's folder: who trains, who validates, who tests
PATIENCE = 8.0  # s for that lock; a worker of torch's looks every 5 s whether its parent is alive
MARK = "interrupted"  # in a checkpoint of a run that was asked to stop: exact, though its epoch had not ended


def run_folder(parent: str, ckpt_path: str | None, seed: int | None = None) -> str:
    """The folder of a run under ``parent``: that of the checkpoint it resumes, else a new one: time and seed.

    ``last`` means the run that was last at work, even if it was stopped before its first checkpoint; a start that
    failed before it had its data (it wrote no split) does not count.
    """
    if ckpt_path == "last":
        signs = [sign for name in (f"{CHECKPOINTS}/last.ckpt", SPLIT) for sign in Path(parent).glob(f"*/{name}")]
        if signs:
            return str(Path(parent, max(signs, key=lambda sign: sign.stat().st_mtime).relative_to(parent).parts[0]))
    elif ckpt_path and (folder := Path(str(ckpt_path)).parent).name == CHECKPOINTS:
        return str(folder.parent)
    stamp = Path(parent, time.strftime("%Y-%m-%d_%H-%M-%S") + ("" if seed is None else f"_seed{seed}"))
    number, folder = 1, stamp
    while folder.exists():
        number += 1
        folder = stamp.with_name(f"{stamp.name}_{number}")
    return str(folder)


def resume_from(ckpt_path: str | None, folder: Path, settings: Mapping[str, Any]) -> Path | None:
    """The checkpoint to resume, or None for a fresh start.

    ``last`` is the run folder's own; a run killed before its first checkpoint starts over. Raises
    CheckpointError where the checkpoint is missing, unusable, or of other settings.
    """
    if not ckpt_path:
        return None
    path = folder / CHECKPOINTS / "last.ckpt" if ckpt_path == "last" else Path(str(ckpt_path))
    if ckpt_path == "last" and not path.is_file():
        rank_zero_only(print)(f"ckpt_path=last: no earlier checkpoint under {folder.parent}, starting anew")
        return None
    checkpoint = load_checkpoint(path)
    try:
        whole_epoch = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    except (KeyError, TypeError):
        raise CheckpointError(f"{path}: cannot be resumed, it holds weights only; use init_from=") from None
    if not whole_epoch and MARK not in checkpoint:
        raise CheckpointError(
            f"{path}: was written by a validation in the middle of an epoch, which cannot be gone on with exactly; "
            "resume from last.ckpt, or use init_from= to take the weights alone"
        )
    if changes := differences(checkpoint["hyper_parameters"], settings):
        raise CheckpointError(
            f"{path}: cannot be resumed, this run's settings differ: {', '.join(changes)}; "
            "give the same settings, or init_from= to take the weights alone"
        )
    return path


@contextmanager
def alone(folder: Path, locked: bool = False) -> Iterator[Callable[[], None]]:
    """Yields what claims the folder for this process, to be called before anything is written there.

    Then what a killed process left half-written there is cleared away. ``locked`` says that the caller has the lock.
    Raises ConfigError where another process is at work there. Of several processes the first one claims.
    """
    with ExitStack() as stack:
        claimed = False

        def claim() -> None:
            nonlocal claimed
            if claimed or ranks.place().rank:
                return
            if not locked and not stack.enter_context(_patiently(folder / LOCK)):
                raise ConfigError(
                    f"{folder}: another process trains in this folder; wait until it has ended, or start a run of its "
                    "own, without ckpt_path=last and hydra.run.dir="
                )
            claimed = True
            for partial in [*folder.glob(".*.partial-*"), *(folder / CHECKPOINTS).glob(".*.partial-*")]:
                partial.unlink(missing_ok=True)

        if folder.is_dir():
            claim()
        yield claim


@contextmanager
def _patiently(lock: Path) -> Iterator[bool]:
    """Hold the lock; wait a little where another has it: what read data for a process that was killed outlives it."""
    end = time.monotonic() + PATIENCE
    while True:
        with filesystem.locked(lock) as free:
            if free or time.monotonic() >= end:
                yield free
                return
        time.sleep(0.2)


def how_to_resume() -> str:
    """The command that does: of a sweep the same, of a run it names the checkpoint."""
    sweeps = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return "the same command" if sweeps else "the same command with ckpt_path=last"


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A phrase for each of the ``asked`` settings that is not the stored one."""
    found = []
    for key in sorted({*asked, *(stored if prefix else ())}):
        old, new = stored.get(key), asked.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old}, is {new}")
    return found


LOCK = ".lock"  # in the folder of a sweep and in that of a run: who works there holds it
