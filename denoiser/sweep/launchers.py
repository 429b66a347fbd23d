"""Launchers of a multirun: the numbers in ``conf/hydra/launcher/``, and workers that find this package."""

import os
import shutil
import warnings
from importlib import import_module
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from denoiser.errors import ConfigError

# conf/hydra/launcher/ gives the plugins' launchers other defaults. Hydra would warn of it, in every worker again.
warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")


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


def _gpus() -> int:
    # Imported here: a single run needs none of these numbers, and torch takes seconds.
    import torch

    return torch.cuda.device_count()


def _at_once() -> int:
    """Return the number of runs at once on this machine: one per GPU, or one per four cores, at least two."""
    return _gpus() or max(2, (os.cpu_count() or 1) // 4)


OmegaConf.register_new_resolver("gpus", _gpus, replace=True)
OmegaConf.register_new_resolver("gpu_each", lambda: min(1, _gpus()), replace=True)
OmegaConf.register_new_resolver("at_once", _at_once, replace=True)
