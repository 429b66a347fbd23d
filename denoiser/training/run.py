"""One training run, from a composed configuration to a tested checkpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from denoiser import distributed, models
from denoiser.checkpoint import load_checkpoint
from denoiser.errors import CheckpointError, ConfigError, CorpusError, building
from denoiser.evaluation import tables
from denoiser.evaluation.metrics import check_names, missing_package
from denoiser.inference.denoiser import Denoiser
from denoiser.settings import check_range
from denoiser.training import card, clips, components, history, interruption, record, trainer
from denoiser.training.folder import CHECKPOINTS, SPLIT, alone, differences, resume_from
from denoiser.training.module import DenoisingModule
from denoiser.training.outcome import recorded

say = rank_zero_only(print)


def train(cfg: DictConfig, folder: Path, locked: bool = False) -> float | None:
    """Fit, then test the best checkpoint; returns the best ``monitor``. All that a run leaves lies in ``folder``.

    Where ``cfg.trainer`` asks for several processes, all of them do this, and the first one's ``folder`` holds.
    ``locked`` says that the caller holds the folder's lock. Raises DenoiserError for what a person can mend: settings,
    corpus, checkpoint, device, disk; StopError where a signal ended it.
    """
    with (
        alone(folder, locked) as claim,
        distributed.joined(cfg, folder) as common,
        recorded(cfg, common) as begin,
    ):

        def start() -> None:
            claim()
            begin()

        with interruption.explained(common):
            return _train(cfg, common, start)


def _train(cfg: DictConfig, folder: Path, begin: Callable[[], None]) -> float | None:
    if missing := [key for key in ("root", "speech") if key in cfg.data and cfg.data[key] is None]:
        key = f"data.{missing[0]}"
        raise ConfigError(f"{key} missing; give it as {key}=FOLDER, or data=synthetic, which needs no download")
    _check_settings(cfg)
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    trainer = _trainer(cfg, plain["trainer"], folder)
    settings = {key: plain[key] for key in ("model", "spectral", "loss", "optimizer", "scheduler", "seed")}
    settings["training"] = {key: plain["data"].get(key) for key in ("batch_size", "frames", "shuffle", "seed")}
    settings["training"] |= {key: plain["data"].get(key) for key in ("mix", "rooms")}  # of mixtures
    settings["training"] |= {key: plain["trainer"].get(key) for key in ("gradient_clip_val", "accumulate_grad_batches")}
    settings["training"] |= {"precision": trainer.precision, "augment": plain.get("augment") or None}
    resume = resume_from(cfg.ckpt_path, folder, settings)

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = build_module(plain, settings)
    if cfg.init_from:
        _take_weights(module, str(cfg.init_from))
    changes = components.build_augment(plain.get("augment"), module.denoiser.sample_rate)
    data = _data(plain["data"], spectral=module.denoiser.spectral, augment=changes)

    say(f"run folder: {folder}")
    facts = _cost(module.denoiser)
    say(
        f"{cfg.name}: {facts['parameters']:,} parameters, {facts['macs_per_second'] / 1e9:.2f} GMAC per second of audio"
    )
    say(f"{trainer.strategy.root_device.type}, precision {trainer.precision}")
    with distributed.agreed():  # Lightning would too, but only after it has said much else: mistakes come first
        if trainer.local_rank == 0:
            data.prepare_data()
    with distributed.agreed():
        data.setup()
    say(data.describe())
    if resume and not data.same_split(folder / SPLIT):
        raise CorpusError(
            f"{folder / SPLIT}: this run's corpus had other files; resume with the same, or use init_from="
        )
    with distributed.agreed():
        begin()
    _record(trainer, data, OmegaConf.to_yaml(cfg, resolve=True), facts, folder)

    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except ValueError as error:
        if "val_check_interval" in str(error):
            raise ConfigError(f"trainer: {error}") from error
        raise
    finally:
        module.teardown("fit")  # Lightning does so only where nothing was raised: a sweep goes on after that
    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)
    value = trainer.callback_metrics.get(cfg.monitor) if best is None else best.best_model_score
    result = None if value is None else float(value)
    if cfg.test:
        path = best.best_model_path if best else ""
        if not path:
            last = folder / CHECKPOINTS / "last.ckpt"
            say(f"no validation chose a checkpoint: testing the last weights{f', {last}' if last.is_file() else ''}")
        trainer.test(module, datamodule=data, ckpt_path=path or None, verbose=False, weights_only=True)
    if distributed.rank() == 0:
        found = history.gathered(plain, trainer, module, data, {**facts, "best": result}, folder)
        if cfg.test:
            found["test"] = _scores(found, module, data, folder)
        _log_result(trainer.logger, found)
        card.write(folder, record.write(folder, found))
        clips.write(folder, found, data, cfg.clips)
    if best and best.best_model_path:
        say(f"best checkpoint: {os.path.relpath(best.best_model_path)}")
    say(f"run folder: {folder}")
    return result


def _log_result(logger: Any, found: Mapping[str, Any]) -> None:
    """The settings and what came of them, for TensorBoard's HPARAMS."""
    if isinstance(logger, TensorBoardLogger):
        final = {f"test/{metric}": mean for metric, mean in (found.get("test") or {}).get("enhanced", {}).items()}
        logger.log_hyperparams(_flat(found["config"]), {**final, f"best/{found['monitor']}": found["best"] or 0.0})
        logger.finalize("success")  # its writer is a daemon thread: what is queued dies with the process


def _scores(found: Mapping[str, Any], module: Any, data: Any, folder: Path) -> dict[str, Any]:
    """Write and show what the test gave; returns the means."""
    rows = [{**row, **data.facts(row["name"])} for row in module.rows]
    facts = {key: found[key] for key in ("checkpoint", "seed", "parameters", "macs_per_second", "fit_seconds")}
    checkpoint = found["checkpoint"] and os.path.relpath(folder / found["checkpoint"])
    summary = tables.write_scores(rows, folder, **{**facts, "checkpoint": checkpoint, "monitor": found["best"]})
    say(f"\n{tables.scores_table(summary)}\n")
    return {key: summary[key] for key in ("n", "noisy", "enhanced", "undefined")}


def _data(settings: Mapping[str, Any], **more: Any) -> Any:
    """The datamodule; instantiate() would look for interpolations in a folder's name, which may be ``${x}``, again."""
    target = settings["_target_"]
    arguments = {key: value for key, value in settings.items() if key not in ("_target_", "_convert_")}
    with building("data", {target: get_class(target)}, target, {}) as build:
        return build(**arguments, **more)


def build_module(plain: Mapping[str, Any], settings: Mapping[str, Any]) -> DenoisingModule:
    """Return the module of a configuration; every mistake in it raises ConfigError before any data is read."""
    optimizer = components.build_optimizer(plain["optimizer"])
    denoiser = Denoiser.build(plain["model"], plain["spectral"])
    return DenoisingModule(
        denoiser,
        loss=components.build_loss(plain["loss"], denoiser.head),
        optimizer=optimizer,
        scheduler=components.build_scheduler(plain["scheduler"]),
        metrics=plain["metrics"],
        seed=plain["seed"],
        metric_workers=plain["metric_workers"],
        settings=settings,
    )


def _check_settings(cfg: DictConfig) -> None:
    check_range(cfg, "seed", 0)
    check_range(cfg, "metric_workers", 0)
    check_range(cfg, "clips", 0)
    check_names(cfg.metrics)
    allowed = ["val/loss", *(f"val/{name}" for name in cfg.metrics)]
    if cfg.monitor not in allowed:
        raise ConfigError(f"monitor={cfg.monitor}: only validation chooses a checkpoint; expected {', '.join(allowed)}")
    if package := missing_package(cfg.monitor.removeprefix("val/")):
        raise ConfigError(f'monitor={cfg.monitor} needs the package {package}: pip install "denoiser[metrics]"')


def _take_weights(module: DenoisingModule, path: str) -> None:
    checkpoint = load_checkpoint(path)
    # The scale belongs to the weights, and to these settings.
    asked = {"spectral": module.hparams["spectral"]}
    if changes := differences(checkpoint["hyper_parameters"], asked):
        raise CheckpointError(f"init_from={path}: was trained on other spectra: {', '.join(changes)}")
    trained, model = checkpoint["hyper_parameters"]["model"], module.hparams["model"]
    if {**trained, "head": None} == {**model, "head": None}:  # a head that takes and gives more than that one
        _grow(checkpoint["state_dict"], module.state_dict())
    try:
        module.denoiser.load_weights(checkpoint, path)
    except CheckpointError as error:
        changes = differences(checkpoint["hyper_parameters"], {"model": module.hparams["model"]})
        if not changes:
            raise
        raise CheckpointError(f"init_from={path}: its weights are of another network: {', '.join(changes)}") from error


def _grow(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Zeros where a network has more channels than its weights are of: at first it does what that one did."""
    for name, value in weights.items():
        sizes = own[name].shape if name in own else value.shape
        if (
            value.shape != sizes
            and value.ndim == len(sizes)
            and all(a <= b for a, b in zip(value.shape, sizes, strict=True))
        ):
            weights[name] = torch.zeros(sizes)
            weights[name][tuple(slice(size) for size in value.shape)] = value


def _trainer(cfg: DictConfig, options: dict[str, Any], folder: Path) -> pl.Trainer:
    logger = instantiate(cfg.logger, save_dir=str(folder)) if cfg.get("logger") else False
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values() if callback]
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint):
            callback.dirpath = str(folder.absolute() / CHECKPOINTS)
    for callback in callbacks:
        if str(getattr(callback, "monitor", "")).startswith("test"):
            raise ConfigError(
                f"{type(callback).__name__} with monitor={callback.monitor}: only validation chooses, by val/..."
            )
    if not logger:
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    callbacks.append(interruption.Interruption(folder))
    callbacks.append(history.History())  # after those whose numbers it keeps, before the checkpoints, which keep it
    return trainer.build_trainer(folder, **options, logger=logger, callbacks=callbacks, enable_checkpointing=keeps)


def _cost(denoiser: Denoiser) -> dict[str, Any]:
    net, spectral = denoiser.net, denoiser.spectral
    macs = models.count_macs(net, spectral.bins, spectral.frame_rate, denoiser.head.inputs)
    return {"parameters": models.count_parameters(net), "macs_per_second": macs}


@rank_zero_only
def _record(trainer: pl.Trainer, data: Any, config: str, facts: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data.write_split(folder / SPLIT)
    if isinstance(trainer.logger, TensorBoardLogger):
        trainer.logger.experiment.add_text("config", f"```yaml\n{config}```")
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
