"""The command ``denoiser train``: runs as the settings of ``conf/train.yaml`` ask for."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from denoiser import console, distributed, startup
from denoiser.cli.arguments import as_typed
from denoiser.settings import CONF, in_sweep
from denoiser.sweep import multirun  # noqa: F401 - registers the resolvers of conf/

NAMES = (  # settings that are meant letter for letter
    "data.root", "data.speech", "data.noise", "data.rooms", "data.test_root", "data.cache", "ckpt_path", "init_from",
    "data.pair", "data.speaker", "data.recording",
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    sys.argv[1:] = arguments
    application = hydra.main(version_base="1.3", config_path=CONF, config_name="train")(run)
    console.run(application, lambda typed: distributed.arguments(as_typed(typed, NAMES)))


def run(cfg: DictConfig) -> float | None:
    """Train once, as a run of a sweep if it is one; return the best ``monitor``."""
    if in_sweep():
        from denoiser.sweep import job

        os.chdir(HydraConfig.get().runtime.cwd)  # Ray starts its workers elsewhere
        return job.run(cfg, _folder())
    with console.one_line():
        with startup.importing():
            from denoiser.training.run import train

        # Lightning starts the other processes of this training with these arguments, which lack the command.
        sys.argv.insert(1, "--config-name=train")
        return train(cfg, _folder())


def _folder() -> Path:
    return Path(os.path.relpath(HydraConfig.get().runtime.output_dir))
