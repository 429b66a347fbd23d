"""One training run, from a composed configuration to a tested checkpoint."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from denoiser import distributed, models
from denoiser.distributed import say
from denoiser.errors import ConfigError, CorpusError, DenoiserError, brief, building
from denoiser.evaluation import tables
from denoiser.evaluation.metrics import check_names, missing_package
from denoiser.inference.denoiser import Denoiser
from denoiser.settings import check_range, in_sweep
from denoiser.training import card, clips, components, history, launch, record
from denoiser.training.callbacks import EMA
from denoiser.training.folder import OF_VALIDATION, RunFolder, resume_from
from denoiser.training.interruption import Interruption, Resumption
from denoiser.training.layout import CHECKPOINTS, SPLIT, run_folder
from denoiser.training.module import DenoisingModule
from denoiser.training.trainer import batches_per_epoch, build_trainer, check_test, check_validation


def train(cfg: DictConfig, folder: Path, locked: bool = False) -> float | None:
    """Fit, then test the best checkpoint; return the best ``monitor``. All that a run leaves lies in ``folder``.

    ``locked`` says that the caller holds the folder's lock. Raises DenoiserError for what a person can mend: settings,
    corpus, checkpoint, device, disk; StopError where a signal ended it.
    """
    # Under torchrun and srun the other processes have no folder of their own.
    if folder == Path("."):
        folder = Path(run_folder(f"runs/{cfg.name}", cfg.ckpt_path, cfg.seed))
    with RunFolder(folder, cfg, locked) as run:
        if folder.is_dir():
            run.claim()
        if in_sweep():
            run.begin()
        return _train(cfg, run)


def _train(cfg: DictConfig, run: RunFolder) -> float | None:
    folder = run.path
    _check_settings(cfg)
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    trainer = _trainer(cfg, plain["trainer"], run)
    settings = _settings(plain, trainer)
    resume = resume_from(cfg.ckpt_path, folder, settings)
    run.check_unused(resume)

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module = build_module(plain, settings)
    if cfg.init_from:
        module.init_from(str(cfg.init_from))
    augment = components.build_augment(plain.get("augment"))
    net, spectral = module.denoiser.net, module.denoiser.spectral
    data = _data(plain["data"], spectral=spectral, augment=augment)
    macs = spectral.shifts * models.count_macs(net, spectral.bins, spectral.frame_rate, module.denoiser.inputs)
    cost = {"parameters": models.count_parameters(net), "macs_per_second": macs}

    say(f"run folder: {folder}")
    say(f"{cfg.name}: {cost['parameters']:,} parameters, {macs / 1e9:.2f} GMAC per second of audio")
    say(f"{trainer.strategy.root_device.type}, precision {trainer.precision}")
    if distributed.rank() == 0:
        _prepare(data, trainer, folder, resume)
        if cfg.test:
            check_test(trainer, len(data.test_dataloader()))
        run.begin()
        data.write_split(folder / SPLIT)
        if isinstance(trainer.logger, TensorBoardLogger):
            trainer.logger.experiment.add_text("config", f"```yaml\n{OmegaConf.to_yaml(cfg, resolve=True)}```")
        if trainer.logger:
            trainer.logger.log_metrics({f"cost/{key}": value for key, value in cost.items()}, step=0)

    try:
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except MisconfigurationException as error:
        # Of numbers that only the corpus makes wrong, such as a share of its batches that is less than one.
        raise ConfigError(f"trainer: {brief(error)}") from error
    except (RuntimeError, ConnectionError) as error:
        launch.raise_if_one_died(error, trainer, run.how_to_go_on())
        raise
    finally:
        # Lightning does so only where nothing was raised, and a sweep goes on after that.
        module.teardown("fit")
    return _finish(run, trainer, module, data, cost)


def _finish(
    run: RunFolder, trainer: pl.Trainer, module: DenoisingModule, data: Any, cost: Mapping[str, Any]
) -> float | None:
    """Test the best checkpoint, write the record and the card; return the best ``monitor``."""
    cfg, folder = run.cfg, run.path
    best = next((c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor), None)
    best_path = best.best_model_path if best else ""
    value = best.best_model_score if best else trainer.callback_metrics.get(cfg.monitor)
    result = None if value is None else float(value)
    if cfg.test:
        if not best_path:
            say("no validation chose a checkpoint: testing the last weights")
        trainer.test(module, datamodule=data, ckpt_path=best_path or None, verbose=False, weights_only=True)
    if distributed.rank() == 0:
        found = {**history.finished(cfg, trainer, module, data, folder, best_path, result), **cost}
        if cfg.test:
            found["test"] = _write_scores(found, module, data, folder)
        else:
            tables.delete_scores(folder)  # Those of an earlier end are of another checkpoint.
        card.write(folder, record.write(folder, found))
        try:
            clips.write(folder, found, data, cfg.clips)
        except (DenoiserError, OSError) as error:
            say(f"no clips to listen to: {error}")  # The run itself has finished.
    if best_path:
        say(f"best checkpoint: {os.path.relpath(best_path)}")
    say(f"run folder: {folder}")
    return result


def build_module(plain: Mapping[str, Any], settings: Mapping[str, Any]) -> DenoisingModule:
    """Return the module of a configuration; every mistake in it raises ConfigError before any data is read."""
    optimizer = components.build_optimizer(plain["optimizer"])
    denoiser = Denoiser.build(plain["model"], plain["spectral"])
    loss = components.build_loss(plain["loss"], denoiser.head)
    scheduler = components.build_scheduler(plain["scheduler"], optimizer)
    more = {key: plain[key] for key in ("metrics", "seed", "metric_workers")}
    return DenoisingModule(denoiser, loss, optimizer, scheduler, settings=settings, **more)


def _settings(plain: Mapping[str, Any], trainer: pl.Trainer) -> dict[str, Any]:
    """Return the settings that a checkpoint carries, and that a resumed run has to agree with."""
    data, options = plain["data"], plain["trainer"]
    # mix and rooms are those of mixtures.
    training = {
        key: data.get(key) for key in ("batch_size", "frames", "shuffle", "seed", "mix", "rooms", *OF_VALIDATION)
    }
    training |= {key: options.get(key) for key in ("gradient_clip_val", "accumulate_grad_batches")}
    training |= {"precision": trainer.precision, "augment": plain.get("augment") or None}
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    training["ema"] = next((callback.decay for callback in callbacks if isinstance(callback, EMA)), None)
    kept = {key: plain[key] for key in ("model", "spectral", "loss", "optimizer", "scheduler", "seed")}
    return {**kept, "training": training}


def _check_settings(cfg: DictConfig) -> None:
    for key in ("root", "speech"):
        if key in cfg.data and cfg.data[key] is None:
            raise ConfigError(f"data.{key} missing; give data.{key}=FOLDER, or data=synthetic, which needs no download")
    for key in ("seed", "metric_workers", "clips"):
        check_range(cfg, key, 0)
    if not isinstance(cfg.data.get("shuffle"), bool):
        raise ConfigError(f"data.shuffle={cfg.data.get('shuffle')}: expected true or false")
    check_names(cfg.metrics)
    allowed = ["val/loss", *(f"val/{name}" for name in cfg.metrics)]
    if cfg.monitor not in allowed:
        raise ConfigError(f"monitor={cfg.monitor}: only validation chooses a checkpoint; expected {', '.join(allowed)}")
    if package := missing_package(cfg.monitor.removeprefix("val/")):
        raise ConfigError(f'monitor={cfg.monitor} needs the package {package}: pip install "denoiser[metrics]"')


def _trainer(cfg: DictConfig, options: dict[str, Any], run: RunFolder) -> pl.Trainer:
    logger = instantiate(cfg.logger, save_dir=str(run.path)) if cfg.get("logger") else False
    callbacks = [instantiate(callback) for callback in (cfg.get("callbacks") or {}).values() if callback]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None) or ""
        if monitor.startswith("test"):
            raise ConfigError(f"{type(callback).__name__} with monitor={monitor}: only validation chooses, by val/...")
        if isinstance(callback, ModelCheckpoint):
            callback.dirpath = str(run.path.absolute() / CHECKPOINTS)
    if not logger:
        callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
    keeps = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    # History comes after the callbacks whose numbers it keeps; Lightning puts checkpoints, which keep it, last.
    callbacks += [launch.DataWorkers(), Resumption(), Interruption(run), history.History()]
    trainer = build_trainer(run.path, **options, logger=logger, callbacks=callbacks, enable_checkpointing=keeps)
    size, processes = cfg.data.batch_size, trainer.num_devices * trainer.num_nodes
    # The class of the data refuses a batch size that is no number.
    if isinstance(size, int) and size < processes:
        raise ConfigError(f"data.batch_size={size}: expected at least one for each of {processes} processes")
    return trainer


def _data(settings: Mapping[str, Any], **more: Any) -> Any:
    """Return the data module; instantiate() would look for interpolations again in a folder that is called ``${x}``."""
    arguments = {key: value for key, value in settings.items() if key not in ("_target_", "_convert_")}
    target = str(settings.get("_target_"))
    module, _, name = target.rpartition(".")
    try:
        # Hydra's get_class() would print lines of its own.
        kind = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        advice = "expected the name of a class, as in conf/data"
        raise ConfigError(f"data._target_={target}: {brief(error)}; {advice}") from error
    with building("data", {target: kind}, target, {}) as build:
        return build(**arguments, **more)


def _prepare(data: Any, trainer: pl.Trainer, folder: Path, resume: Path | None) -> None:
    """Prepare the corpus and check what depends on it, before Lightning starts other processes and says much else."""
    data.prepare_data()
    data.setup()
    say(data.describe())
    if resume and not data.same_split(folder / SPLIT):
        raise CorpusError(f"{folder / SPLIT}: this run had other files, or divided them otherwise; use init_from=")
    check_validation(trainer, batches_per_epoch(trainer, data))


def _write_scores(found: Mapping[str, Any], module: DenoisingModule, data: Any, folder: Path) -> dict[str, Any]:
    rows = [{**row, **data.facts(row["name"])} for row in module.rows]
    facts = {key: found[key] for key in ("checkpoint", "seed", "parameters", "macs_per_second", "fit_seconds")}
    checkpoint = found["checkpoint"] and os.path.relpath(folder / found["checkpoint"])
    summary = tables.write_scores(rows, folder, **{**facts, "checkpoint": checkpoint, "monitor": found["best"]})
    say(f"\n{tables.scores_table(summary)}\n")
    return {key: summary[key] for key in ("n", "noisy", "enhanced", "undefined")}
