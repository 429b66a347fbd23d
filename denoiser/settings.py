"""Types of the settings, checks of their ranges, and file names as values that Hydra reads letter for letter."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from denoiser.errors import ConfigError

# The folder of the settings: in the package where it was installed, beside it in a checkout.
_INSTALLED = Path(__file__).resolve().parent / "conf"
CONF = str(_INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parents[1] / "conf")
LOWER_IS_BETTER = ("loss", "llr", "wss", "lsd")  # of what validation measures


@dataclass
class TrainerSettings:
    """Types of ``conf/trainer``: ``gpus`` and ``processes`` are this program's, the others Lightning's own."""

    gpus: Any = None
    processes: int | None = None
    precision: str | None = None
    strategy: str | None = None
    max_epochs: int | None = None
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: Any = None
    num_nodes: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    accumulate_grad_batches: int = 1
    check_val_every_n_epoch: int | None = 1
    val_check_interval: int | float | None = None
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    overfit_batches: int | float | None = None
    log_every_n_steps: int | None = None
    num_sanity_val_steps: int | None = None
    deterministic: bool | None = None
    benchmark: bool | None = None
    inference_mode: bool | None = None
    sync_batchnorm: bool | None = None
    profiler: Any = None
    fast_dev_run: Any = None
    detect_anomaly: bool | None = None
    barebones: bool | None = None
    enable_progress_bar: bool | None = None
    enable_model_summary: bool | None = None


@dataclass
class TrainSettings:
    """Types of ``conf/train.yaml``; its groups, but for ``trainer``, are checked by the classes they build."""

    name: str = ""
    seed: int = 0
    metrics: list[str] = field(default_factory=list)
    metric_workers: int | None = None
    monitor: str = ""
    ckpt_path: str | None = None
    init_from: str | None = None
    deterministic: bool = False
    new_sweep: bool = False
    test: bool = True
    clips: int = 4
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    spectral: Any = None
    model: Any = None
    data: Any = None
    augment: Any = None
    loss: Any = None
    optimizer: Any = None
    scheduler: Any = None
    callbacks: Any = None
    logger: Any = None


@dataclass
class InferSettings:
    """Types of ``conf/infer.yaml``."""

    ckpt: str = ""
    input: Any = None
    output: str | None = None
    format: str | None = None
    rate: int | None = None
    channels: int = 1
    dry: float = 0.0
    max_attenuation_db: float | None = None
    phase_iters: int = 0
    full_band: bool = True
    shifts: int | None = None
    loudness: float | None = None
    track: int | None = None
    overwrite: bool = False
    plot: bool = False
    report: bool = False
    reference: str | None = None
    align: bool = False
    shards: int = 1
    shard: int | None = None
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    jobs: int | str = "auto"


# The names that conf/train.yaml and conf/infer.yaml begin with.
ConfigStore.instance().store(name="train_settings", node=TrainSettings)
ConfigStore.instance().store(name="infer_settings", node=InferSettings)


def in_sweep() -> bool:
    """Return True if Hydra started this run as one of several."""
    return bool(HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN)


def check_range(cfg: DictConfig, key: str, low: float, high: float = math.inf) -> None:
    """Raise ConfigError where this setting is a number outside ``low`` to ``high``; None passes."""
    value = OmegaConf.select(cfg, key)
    if isinstance(value, str) or (value is not None and not low <= value <= high):
        expected = f"{low:g} or more" if high == math.inf else f"a number from {low:g} to {high:g}"
        raise ConfigError(f"{key}={value}: expected {expected}")


def check_shard(cfg: DictConfig) -> None:
    """Raise ConfigError unless ``shards`` is 1 or more, and ``shard`` names one of several."""
    check_range(cfg, "shards", 1)
    shards = cfg.shards
    if shards > 1 and cfg.shard is None:
        raise ConfigError(f"shards={shards}: which part? shard=0 to {shards - 1}, or all: -m 'shard=range({shards})'")
    if shards == 1 and cfg.shard not in (None, 0):
        raise ConfigError(f"shard={cfg.shard}: of how many? Give it with shards=")
    check_range(cfg, "shard", 0, shards - 1)


def mode_of(monitor: str) -> str:
    """Return ``min`` where a lower value of a monitor such as ``val/loss`` is better, else ``max``."""
    return "min" if monitor.rpartition("/")[2] in LOWER_IS_BETTER else "max"


def require(cfg: Any, *keys: str) -> None:
    """Raise ConfigError for the first of these settings that was not given."""
    for key in keys:
        if cfg.get(key) in (None, ""):
            raise ConfigError(f"{key} missing; give it as {key}=...")


def quoted(text: str) -> str:
    """Return ``text`` as a value that Hydra and OmegaConf read as exactly that: ``it's`` → ``'it\\'s'``."""
    # OmegaConf resolves ${ even in quotes.
    return QuotedString(text.replace("${", "\\${"), Quote.single).with_quotes()


def expanded(name: str) -> str:
    """Return ``~/talk.wav`` with the home folder in place of ``~``, unless there is a file of that very name."""
    return name if os.path.lexists(name) else os.path.expanduser(name)


def unquoted(value: str) -> str:
    """Return ``"my talk.wav"`` as ``my talk.wav``, as Hydra reads it, unless a file has the quotes in its name."""
    if value[:1] not in ("'", '"') or value[-1] != value[0] or os.path.lexists(value):
        return value
    try:
        parsed = str(OverridesParser.create().parse_override(f"x={value}").value())
    except HydraException:
        return value
    # As quoted() makes it: under DDP the script runs again on its own arguments.
    return parsed.replace("\\${", "${")
