"""Names of a multirun's folder and of its runs, and the other values that ``conf/`` computes."""

import hashlib
import re
import time
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from denoiser.settings import mode_of
from denoiser.training.layout import run_folder

LONGEST = 80  # characters of a name
# Settings that do not change the result of a run: a sweep goes on even if they differ.
INCIDENTAL = ("new_sweep", "ckpt_path", "clips", "trainer.gpus", "callbacks.progress")


def swept(config: DictConfig) -> list[str]:
    """Return the settings that differ between the runs of a multirun, sorted."""
    return sorted(key for key, fixed in _settings(config).items() if fixed is None)


def sweep_folder(parent: str, *, _root_: DictConfig) -> str:
    """Return the folder of a multirun under ``parent``: named by the swept settings and a hash of all others.

    So a sweep that is extended by other values keeps its folder; with ``new_sweep=true`` the name has the time, too.
    """
    keys, settings = swept(_root_), _settings(_root_)
    fixed = sorted(f"{k}={v}" for k, v in settings.items() if v is not None and not k.startswith(INCIDENTAL))
    choices = _root_.hydra.runtime.choices
    parts = [choices.get("sweep") or "-".join(key.rpartition(".")[2] for key in keys)]
    if "data" not in keys:
        parts.insert(0, choices.get("data"))
    name = _safe("-".join(str(part) for part in parts if part))
    stamp = time.strftime("_%Y-%m-%d_%H-%M-%S") if _root_.get("new_sweep") is True else ""
    return str(Path(parent, f"{name}-{_digest(*keys, *fixed)}{stamp}"))


def run_name(*keys: str, _root_: DictConfig) -> str:
    """Return the name of a run: its values of the swept ``keys``, by default of all overrides."""
    given = {}
    for override in OverridesParser.create().parse_overrides(list(_root_.hydra.overrides.task)):
        given[override.get_key_element()] = override.get_value_element_as_str()
    names = [name_of(key, given[key]) for key in sorted(keys or given) if key in given]
    return _safe("-".join(names)) or str(_root_.hydra.job.num)


def name_of(key: str, value: str) -> str:
    """Return a setting's part of a name: ``model=unet6`` → ``unet6``, but ``optimizer.lr=1e-3`` → ``lr1e-3``."""
    value = value.strip("'\"")
    option = re.fullmatch(r"[\w/]+", key) and not re.fullmatch(r"null|true|false|[-+.\de]*", value)
    return value if option else f"{re.split('[./]', key)[-1]}{value}"


def _settings(config: DictConfig) -> dict[str, str | None]:
    """Return the sweeper's settings and the overrides with their values; the value is None where it is swept."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    lines = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    return {
        # Parsed values, not the text as typed: 1e-3 is 0.001, and quotes are not part of a name.
        override.get_key_element(): None if override.is_sweep_override() else str(override.value())
        for override in OverridesParser.create().parse_overrides(lines)
    }


def _safe(name: str) -> str:
    """Return ``name`` with characters and a length that every file system has; different names stay different."""
    plain = re.sub(r"[^\w.+-]+", "_", name, flags=re.ASCII)
    return name if plain == name and len(name) <= LONGEST else f"{plain[: LONGEST - 7]}-{_digest(name)}"


def _digest(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:6]


# Registered here and not in train.py, which a worker on another machine does not import.
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
# The folder of a run is named by the time: it is made up once.
OmegaConf.register_new_resolver("run_folder", run_folder, use_cache=True, replace=True)
OmegaConf.register_new_resolver("mode_of", mode_of, replace=True)
