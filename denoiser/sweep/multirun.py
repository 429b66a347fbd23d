"""Callback around a multirun of trainings: before its runs start and after the last one."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from denoiser import console, filesystem
from denoiser.errors import DenoiserError
from denoiser.settings import quoted
from denoiser.sweep import naming
from denoiser.sweep.launchers import prepare
from denoiser.training import record
from denoiser.training.layout import LOCK


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
                self.lock = filesystem.lock(self.folder / LOCK, shared=True, wait=True)
        print(f"sweep folder: {os.path.relpath(self.folder)}; the same command continues it; new_sweep=true: anew")

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
