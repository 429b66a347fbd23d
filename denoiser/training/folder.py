"""The folder of a training run: its lock, its record from begin to end, and the checkpoint it is resumed from."""

import inspect
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from denoiser import distributed, filesystem
from denoiser.checkpoint import load_checkpoint
from denoiser.console import is_of_a_file
from denoiser.errors import CheckpointError, ConfigError, DenoiserError, StopError
from denoiser.settings import in_sweep
from denoiser.spectral import Spectral
from denoiser.training import record
from denoiser.training.layout import CHECKPOINTS, LOCK

# Seconds to wait for a lock: data workers outlive a killed training, and look every 5 s whether it is alive.
PATIENCE = 8.0
# Settings of the data by which the best of unlike validations would be chosen.
OF_VALIDATION = ("val_limit", "corpus_seed")


class RunFolder:
    """The folder of one run; of several processes that train together only process 0 touches it.

    ``claim`` comes before anything is written, ``begin`` once the data is ready. A mistake before ``begin`` leaves no
    trace, except in a sweep, where every run has a record. ``locked`` says that the caller holds the folder's lock.
    """

    def __init__(self, path: Path, cfg: DictConfig, locked: bool = False) -> None:
        self.path = path
        self.cfg = cfg
        self.locked = locked
        self.lock: int | None = None
        self.has_begun = False
        self.last_checkpoint = path / CHECKPOINTS / "last.ckpt"

    def claim(self) -> None:
        """Lock the folder and delete half-written files in it; ConfigError where another process holds the lock."""
        if distributed.rank() != 0 or self.lock is not None:
            return
        if not self.locked:
            end = time.monotonic() + PATIENCE
            while (lock := filesystem.lock(self.path / LOCK)) is None:
                if time.monotonic() > end:
                    raise ConfigError(f"{self.path}: another process trains in this folder; wait until it has ended")
                time.sleep(0.2)
            self.lock = lock
        for partial in [*self.path.glob(".*.partial-*"), *self.path.glob(f"{CHECKPOINTS}/.*.partial-*")]:
            partial.unlink(missing_ok=True)

    def check_unused(self, resume: Path | None) -> None:
        """Raise ConfigError where a run that does not go on from this folder's checkpoints would overwrite them."""
        checkpoints = self.last_checkpoint.parent
        # A sweep looks after its folders itself, and an interrupted run may have a best.ckpt before a last.ckpt.
        begins_anew = in_sweep() or self.cfg.ckpt_path == "last"
        if distributed.rank() != 0 or begins_anew or not any(checkpoints.glob("*.ckpt")):
            return
        if resume is None or not checkpoints.samefile(resume.parent):
            advice = "ckpt_path=last goes on from them; delete them, or name another hydra.run.dir="
            raise ConfigError(f"{checkpoints}: has checkpoints of a run, which this one would overwrite; {advice}")

    def begin(self) -> None:
        """Write the record of a run that is at work."""
        if not self.has_begun:
            self.claim()
            record.write(self.path, {**record.of_settings(self.cfg), "status": "running", "started": record.now()})
            self.has_begun = True

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        """Write to the record how the run failed, give the lock back, and raise what a person can mend as one line."""
        explained = self._explain(error)
        if explained is not None and self.has_begun and distributed.rank() == 0:
            # On a full disk the error itself is what has to be told.
            with suppress(OSError, DenoiserError):
                ended = {**record.outcome(explained), "ended": record.now()}
                record.write(self.path, {**record.read(self.path), **ended})
        if self.lock is not None:
            os.close(self.lock)
        if explained is not None and explained is not error:
            raise explained from error

    def _explain(self, error: BaseException | None) -> BaseException | None:
        """Return a StopError for what a signal ended, a DenoiserError for a disk's failure; else the error itself."""
        # Lightning turns KeyboardInterrupt into SystemExit.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if isinstance(cause, StopError) and str(cause):
            return cause
        if isinstance(cause, KeyboardInterrupt):
            return StopError(f"{self.path}: interrupted; {self.how_to_go_on()}", getattr(cause, "code", 130))
        # TensorBoard's logger raises a ValueError in place of a disk error, whose file name is bytes.
        failure = error.__cause__ if isinstance(error, ValueError) else error
        if isinstance(failure, OSError) and is_of_a_file(failure):
            name = failure.filename or self.path
            place = os.fsdecode(name) if isinstance(name, bytes) else name
            return DenoiserError(f"{place}: {failure.strerror}; {self.how_to_go_on()}")
        return error

    def how_to_go_on(self) -> str:
        """Return what to do after the run was ended."""
        if not self.last_checkpoint.is_file():
            return "it had no checkpoint yet"
        return f"{how_to_resume()} goes on from {self.last_checkpoint}"


def resume_from(ckpt_path: str | None, folder: Path, settings: Mapping[str, Any]) -> Path | None:
    """Return the checkpoint to resume, for ``last`` the folder's own; None for a fresh start, as where it has none yet.

    A run's folder means its newest checkpoint.
    Raises CheckpointError for one that is missing, unusable or of other settings.
    """
    if not ckpt_path:
        return None
    path = Path(str(ckpt_path))
    if ckpt_path == "last":
        path = folder / CHECKPOINTS / "last.ckpt"
        if not path.is_file():
            distributed.say(f"ckpt_path=last: no earlier checkpoint under {folder.parent}, starting anew")
            return None
    elif path.is_dir():
        path = path / CHECKPOINTS / "last.ckpt"
    checkpoint = load_checkpoint(path)
    if "loops" not in checkpoint:
        raise CheckpointError(f"{path}: cannot be resumed, it holds weights only; use init_from=")
    stored = checkpoint["hyper_parameters"]
    before, now = ({**record.as_now(found), "spectral": of_spectra(found)} for found in (stored, settings))
    before["training"] = _of_training(checkpoint, now["training"])
    if changes := differences(before, now):
        advice = "give the same, or init_from= to take the weights alone"
        raise CheckpointError(f"{path}: cannot be resumed, its settings differ: {', '.join(changes)}; {advice}")
    return path


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a phrase for each of the ``asked`` settings that is not the stored one."""
    found = []
    for key in sorted({*asked, *(stored if prefix else ())}):
        old, new = stored.get(key), asked.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old}, is {new}")
    return found


def of_spectra(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the spectra, with the usual values of those that an older version did not know."""
    usual = {name: setting.default for name, setting in inspect.signature(Spectral).parameters.items()}
    return {**usual, **settings["spectral"]}


def _of_training(checkpoint: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    """Return the ``training`` settings of a checkpoint; those that an older version did not know are as ``asked``.

    Among them is the decay of its average, but the average itself shows in any checkpoint.
    """
    stored = checkpoint["hyper_parameters"].get("training")
    if not isinstance(stored, Mapping):
        return stored
    stored = {**{key: asked[key] for key in OF_VALIDATION}, **stored}
    if "ema" in stored:
        return stored
    if "averaging_state" not in checkpoint:
        return {**stored, "ema": None}
    return {**stored, "ema": "on" if asked["ema"] is None else asked["ema"]}


def how_to_resume() -> str:
    """Return the command that resumes: that of a sweep by itself, that of a run with its checkpoint."""
    return "the same command" if in_sweep() else "the same command with ckpt_path=last"
