"""Callbacks around a multirun of Hydra: before its runs start and after the last one."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

from denoiser import console, filesystem
from denoiser.errors import ConfigError, DenoiserError
from denoiser.settings import quoted
from denoiser.sweep import naming
from denoiser.training.folder import LOCK

# conf/hydra/launcher/ gives the plugins' launchers other defaults. Hydra would warn of it, in every worker again.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

_PACKAGES = {"JoblibLauncher": "joblib", "LocalLauncher": "submitit", "SlurmLauncher": "submitit", "RayLauncher": "ray"}


class Sweep(Callback):
    """Callback for a multirun of ``train.py``: names its folders, resumes its study, ranks its runs.

    Args:
        ranking: rank the runs at the end; otherwise ``python -m denoiser rank`` does so later.
    """

    def __init__(self, ranking: bool = True) -> None:
        self.ranking = ranking

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with console.one_line():
            prepare(config)
            self.folder = Path(str(config.hydra.sweep.dir)).absolute()
            typed = [str(override) for override in config.hydra.overrides.hydra]
            with read_write(config), open_dict(config):
                # All swept settings are known here. Runs get the names as overrides: a worker on another machine then
                # uses the same ones.
                config.hydra.sweep.dir = str(self.folder)
                config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(self.folder))}")
                if not any(override.startswith("hydra.sweep.subdir=") for override in typed):
                    name = f"'${{run_name:{','.join(naming.swept(config))}}}'"
                    config.hydra.overrides.hydra.append(f"hydra.sweep.subdir={name}")
            self.before = self._ends()
            # An exclusive lock is only given to the first process that works on this sweep.
            alone = filesystem.lock(self.folder / LOCK)
            if config.hydra.sweeper.get("storage"):
                from denoiser.sweep import study

                study.resume(config, alone=alone is not None)
            if alone is not None:
                os.close(alone)
            self.lock = filesystem.lock(self.folder / LOCK, shared=True)
        print(f"sweep folder: {os.path.relpath(self.folder)}; the same command goes on here, with new_sweep=true anew")

    def _ends(self) -> set[tuple[str, ...]]:
        """Return the state of all runs. Comparing states tells which runs ended since; clocks may be wrong."""
        from denoiser.training import record

        return {self._end(run) for run in record.find([self.folder])} if self.folder.is_dir() else set()

    @staticmethod
    def _end(run: Mapping[str, Any]) -> tuple[str, ...]:
        return str(run["folder"]), str(run["status"]), str(run["started"]), str(run["ended"])

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from denoiser.training import record

        if self.lock is not None:
            os.close(self.lock)
        found = record.find([self.folder])
        if self.ranking and any(run["status"] == "finished" for run in found):
            from denoiser.ranking.rank import rank

            print()
            try:
                rank([self.folder])
            except DenoiserError as error:
                print(f"no ranking: {error}", file=sys.stderr)
        counts = ", ".join(f"{count} {status}" for status, count in Counter(r["status"] for r in found).most_common())
        print(f"\n{len(found)} runs: {counts}")
        # Only runs of this command: an earlier failure that was asked for again has been started again.
        bad = [r for r in found if r["status"] in ("failed", "diverged") and self._end(r) not in self.before]
        for run in bad:
            print(f"{os.path.relpath(run['folder'])}: {run['status']}: {run['reason']}", file=sys.stderr)
        print(f"sweep folder: {os.path.relpath(self.folder)}")
        if bad:
            sys.exit(2)


class InferenceSweep(Callback):
    """Callback for a multirun of ``infer.py``: Hydra's files go to a temporary folder, only the outputs stay."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with console.one_line():
            prepare(config)
        self.folder = tempfile.TemporaryDirectory()
        with read_write(config), open_dict(config):
            if "submitit_folder" in config.hydra.launcher:
                # All machines must see this one.
                config.hydra.launcher.submitit_folder = ".submitit/%j"
            config.hydra.sweep.dir = self.folder.name


def prepare(config: DictConfig) -> None:
    """Check the launcher and make this package importable in its workers. Raises ConfigError if it cannot work."""
    module, _, name = str(config.hydra.launcher._target_).rpartition(".")
    packages = [module.rpartition(".")[0], *filter(None, [_PACKAGES.get(name)])]
    if not all(_is_there(package) for package in packages):
        choice = config.hydra.runtime.choices["hydra/launcher"]
        extra = "ray" if choice == "ray" else "sweep"
        raise ConfigError(f'hydra/launcher={choice} needs a package that is missing: pip install "denoiser[{extra}]"')
    if name == "SlurmLauncher" and shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=submitit_slurm: no sbatch here; start it where SLURM jobs are started")
    # Workers of SLURM and Ray do not start in the folder of train.py.
    root = str(Path(__file__).resolve().parents[2])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, *paths]))


def in_multirun() -> bool:
    """Return True in a run that Hydra started as one of several."""
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        # Its parent package is missing.
        return False
