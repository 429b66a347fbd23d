"""One training run, from a composed configuration to a tested checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from denoiser import models, report, runs
from denoiser.enhance import Denoiser, load_checkpoint
from denoiser.errors import ConfigError, require
from denoiser.metrics import missing_package
from denoiser.module import DenoisingModule

say = rank_zero_only(print)


def train(cfg: DictConfig, folder: Path) -> float | None:
    """Fit, then test the best checkpoint; returns the best ``monitor``. All that a run leaves lies in ``folder``.

    Raises DenoiserError for what a person can mend: settings, corpus, checkpoint, device.
    """
    require(cfg.data, "root", prefix="data.")
    _check_monitor(cfg.monitor, cfg.metrics)
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = {key: plain[key] for key in ("model", "spectral", "loss", "optimizer", "scheduler", "seed")}
    resume = runs.resume_from(cfg.ckpt_path, folder, settings)
    trainer = _trainer(cfg, plain["trainer"], folder)

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = DenoisingModule(**settings, metrics=plain["metrics"])
    if cfg.init_from:
        module.denoiser.load_weights(load_checkpoint(cfg.init_from), cfg.init_from)
    data = instantiate(cfg.data, spectral=module.denoiser.spectral)

    say(f"run folder: {folder}")
    facts = _cost(module.denoiser)
    say(
        f"{cfg.name}: {facts['parameters']:,} parameters, {facts['macs_per_second'] / 1e9:.2f} GMAC per second of audio"
    )
    say(f"{trainer.strategy.root_device.type}, precision {trainer.precision}")
    data.prepare_data()  # Lightning would too, but only after it has said much else: mistakes come first
    data.setup()
    say(data.describe())
    _record(trainer, data, plain, facts, folder)

    begin = time.perf_counter()
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    facts["fit_seconds"] = round(time.perf_counter() - begin, 1)
    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)
    value = trainer.callback_metrics.get(cfg.monitor) if best is None else best.best_model_score
    result = None if value is None else float(value)
    if cfg.test:
        path = best.best_model_path if best else ""
        trainer.test(module, datamodule=data, ckpt_path=path or None, verbose=False, weights_only=True)
        summary = report.write_scores(module.rows, folder, checkpoint=path, seed=cfg.seed, monitor=result, **facts)
        say(f"\n{report.scores_table(summary)}\n")
        if isinstance(trainer.logger, TensorBoardLogger):
            final = {f"test/{metric}": mean for metric, mean in summary["enhanced"].items()}
            trainer.logger.log_hyperparams(_flat(plain), {**final, f"best/{cfg.monitor}": result or 0.0})
    if best and best.best_model_path:
        say(f"best checkpoint: {best.best_model_path}")
    say(f"run folder: {folder}")
    return result


def _check_monitor(monitor: str, metric_names: list[str]) -> None:
    allowed = ["val/loss", *(f"val/{name}" for name in metric_names)]
    if monitor not in allowed:
        raise ConfigError(f"monitor={monitor}: only validation chooses a checkpoint; expected {', '.join(allowed)}")
    if package := missing_package(monitor.removeprefix("val/")):
        raise ConfigError(f'monitor={monitor} needs the package {package}: pip install "denoiser[metrics]"')


def _trainer(cfg: DictConfig, options: dict[str, Any], folder: Path) -> pl.Trainer:
    logger = instantiate(cfg.logger, save_dir=str(folder)) if cfg.logger else False
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback]
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint):
            callback.dirpath = str(folder / runs.CHECKPOINTS)
    if not logger:
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    return runs.build_trainer(folder, **options, logger=logger, callbacks=callbacks)


def _cost(denoiser: Denoiser) -> dict[str, Any]:
    net, spectral = denoiser.net, denoiser.spectral
    macs = models.count_macs(net, spectral.bins, spectral.frame_rate)
    return {"parameters": models.count_parameters(net), "macs_per_second": macs}


@rank_zero_only
def _record(trainer: pl.Trainer, data: Any, plain: Mapping[str, Any], facts: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data.write_split(folder / "split.json")
    if isinstance(trainer.logger, TensorBoardLogger):
        text = OmegaConf.to_yaml(OmegaConf.create(dict(plain)))
        trainer.logger.experiment.add_text("config", f"```yaml\n{text}```")
    if trainer.logger:
        trainer.logger.log_metrics({f"cost/{key}": value for key, value in facts.items()}, step=0)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
