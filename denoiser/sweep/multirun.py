"""Callbacks around a multirun of Hydra: before its runs start and after the last one."""

import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from denoiser import console, filesystem
from denoiser.errors import ConfigError, DenoiserError
from denoiser.settings import quoted
from denoiser.sweep import naming
from denoiser.training import record
from denoiser.training.folder import LOCK

# conf/hydra/launcher/ gives the plugins' launchers other defaults. Hydra would warn of it, in every worker again.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


class Sweep(Callback):
    """Callback for a multirun of ``train.py``: names its folders, resumes its study, ranks its runs by ``ranking``."""

    def __init__(self, ranking: bool = True) -> None:
        self.ranking = ranking
        self.lock: int | None = None  # shared by the processes that work on one study

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with console.one_line():
            prepare(config)
            self.folder = Path(str(config.hydra.sweep.dir)).absolute()
            # All swept settings are known here. Runs get the names as overrides, also those on another machine.
            with read_write(config), open_dict(config):
                config.hydra.sweep.dir = str(self.folder)
                overrides = config.hydra.overrides.hydra
                if not any(override.startswith("hydra.sweep.subdir=") for override in overrides):
                    overrides.append(f"hydra.sweep.subdir='${{run_name:{','.join(naming.swept(config))}}}'")
                overrides.append(f"hydra.sweep.dir={quoted(str(self.folder))}")
            self.before = record.find([self.folder])
            if config.hydra.sweeper.get("storage"):
                from denoiser.sweep import study

                # An exclusive lock is only given to the first process that works on this sweep.
                with filesystem.locked(self.folder / LOCK) as alone:
                    study.resume(config, alone)
                self.lock = filesystem.lock(self.folder / LOCK, shared=True)
        print(f"sweep folder: {os.path.relpath(self.folder)}; the same command goes on here, with new_sweep=true anew")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if self.lock is not None:
            os.close(self.lock)
        found = record.find([self.folder])
        counts = Counter(run["status"] for run in found)
        if self.ranking and counts["finished"]:
            from denoiser.ranking.rank import rank

            print()
            try:
                rank([self.folder])
            except DenoiserError as error:
                print(f"no ranking: {error}", file=sys.stderr)
        print(f"\n{len(found)} runs: {', '.join(f'{count} {status}' for status, count in counts.most_common())}")
        # Only runs of this command; times do not tell them, for clocks may be wrong.
        bad = [run for run in found if run["status"] in ("failed", "diverged") and run not in self.before]
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
    """Make this package importable in the launcher's workers; ConfigError for a launcher that cannot work here."""
    module, _, name = str(config.hydra.launcher._target_).rpartition(".")
    try:
        import_module(module)
    except ImportError as error:
        choice = config.hydra.runtime.choices["hydra/launcher"]
        advice = f'pip install "denoiser[{"ray" if choice == "ray" else "sweep"}]"'
        raise ConfigError(f"hydra/launcher={choice} needs a package that is missing: {advice}") from error
    if name == "SlurmLauncher" and shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=submitit_slurm: no sbatch here; start it where SLURM jobs are started")
    # Workers of SLURM and Ray do not start in the folder of train.py.
    root = str(Path(__file__).resolve().parents[2])
    paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([root, *paths]))
