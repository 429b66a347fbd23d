"""The command ``denoiser infer``: files enhanced as the settings of ``conf/infer.yaml`` ask for."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from denoiser import console, settings, startup
from denoiser.cli.arguments import as_typed
from denoiser.errors import ConfigError, UnfinishedError, shown
from denoiser.sweep import launchers  # noqa: F401 - silences a warning of Hydra, in workers too

NAMES = ("ckpt", "input", "output", "reference")  # settings that hold file names


def main(arguments: Sequence[str]) -> None:
    sys.argv[1:] = arguments
    application = hydra.main(version_base="1.3", config_path=settings.CONF, config_name="infer")(start)
    console.run(application, lambda typed: as_typed(typed, NAMES, inputs="input"))


def start(cfg: DictConfig) -> None:
    """Enhance as asked, in one of the runs of a multirun if it is one."""
    if settings.in_sweep():
        os.chdir(HydraConfig.get().runtime.cwd)  # Ray starts its workers elsewhere
        run(cfg, in_multirun=True)  # the parent reports an error once all shards have ended
        return
    with console.one_line():
        run(cfg)


def run(cfg: DictConfig, in_multirun: bool = False) -> None:
    """Enhance the files of ``cfg.input``, and score and show them where asked; DenoiserError for a person's mistake.

    Exits with 1 where a file could not be enhanced or scored, and raises UnfinishedError instead ``in_multirun``.
    """
    _check(cfg)
    with startup.importing():  # torch takes seconds, which a mistyped setting should not wait for
        import torch

        from denoiser.audio.raw import Raw
        from denoiser.inference.batch import enhance_files
        from denoiser.inference.denoiser import Denoiser
        from denoiser.inference.jobs import left_aside, plan
        from denoiser.inference.options import Options
        from denoiser.inference.pipes import is_pipe

    options = Options(cfg.dry, cfg.max_attenuation_db, cfg.phase_iters, cfg.full_band, cfg.shifts)
    sources = [str(name) for name in cfg.input] if OmegaConf.is_list(cfg.input) else [str(cfg.input)]
    is_one_file = len(sources) == 1 and (is_pipe(sources[0]) or Path(sources[0]).is_file())
    all_jobs = plan(sources, str(cfg.output) if cfg.output else None)
    is_scored = bool(cfg.report or cfg.reference)
    piped = any(is_pipe(job.target) for job in all_jobs)
    if piped and (cfg.plot or is_scored or cfg.shards > 1):
        raise ConfigError("output=-: carries the sound alone; plot, report, reference and shards need files")
    raw = Raw(cfg.format, cfg.rate, cfg.channels) if cfg.format else None
    if raw and (is_scored or any(Path(source).is_dir() for source in sources)):
        advice = "for named files or a pattern, 'FOLDER/*.raw', and no report or reference"
        raise ConfigError(f"format={cfg.format}: {advice}")
    jobs, folder = all_jobs, None
    if cfg.shards > 1:
        from denoiser.evaluation.files import folder_of

        # As long as the files are the same, every process divides them alike.
        jobs = all_jobs[cfg.shard :: cfg.shards]
        folder = folder_of(all_jobs) / f"shard-{cfg.shard}-of-{cfg.shards}"
        print(f"shard {cfg.shard} of {cfg.shards}: {len(jobs)} of {len(all_jobs)} files")
    device, gpus = str(cfg.device), torch.cuda.device_count()
    if device == "auto" and in_multirun and gpus > 1 and cfg.shard is not None:
        # The shards of one machine get a GPU each, in turn.
        device = f"cuda:{cfg.shard % gpus}"
    # Standard output carries the sound, so that what is printed goes to standard error.
    with redirect_stdout(sys.stderr if piped else sys.stdout):
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        denoiser = Denoiser.from_checkpoint(str(cfg.ckpt), device, str(cfg.precision))
        # The page states the number that was used.
        options = dataclasses.replace(options, shifts=denoiser.shifts(options))
        outcome = enhance_files(
            denoiser,
            jobs,
            options,
            loudness=cfg.loudness,
            overwrite=cfg.overwrite or is_one_file,
            track=cfg.track,
            plot=cfg.plot,
            at_once=None if cfg.jobs == "auto" else cfg.jobs,
            raw=raw,
        )
        if aside := left_aside(sources, all_jobs):
            print(aside)
        unscored = 0
        if is_scored:
            from denoiser.evaluation.files import evaluate

            chosen = ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(options).items())
            unscored = evaluate(
                outcome.gains,
                reference=Path(cfg.reference) if cfg.reference else None,
                root=Path(sources[0]) if len(sources) == 1 and Path(sources[0]).is_dir() else None,
                page=cfg.report,
                folder=folder,
                align=cfg.align,
                settings=f"{cfg.ckpt}: {chosen}",
                failures=[shown(error) for error in outcome.failed.values()],
            )
    if outcome.failed or unscored:
        if in_multirun:
            raise UnfinishedError(f"shard {cfg.shard} of {cfg.shards}: not all files were done, or scored")
        sys.exit(1)


def _check(cfg: DictConfig) -> None:
    settings.require(cfg, "ckpt", "input")
    settings.check_range(cfg, "loudness", -70, -5)
    settings.check_range(cfg, "threads", 1)
    settings.check_range(cfg, "track", 1)
    if cfg.jobs != "auto":
        settings.check_range(cfg, "jobs", 1)
    settings.check_shard(cfg)
    settings.check_range(cfg, "rate", 1_000, 768_000)
    settings.check_range(cfg, "channels", 1, 1024)
    if cfg.format:
        settings.require(cfg, "rate")
    elif cfg.rate or cfg.channels != 1:
        given = f"rate={cfg.rate} channels={cfg.channels}"
        raise ConfigError(f"{given}: only for headerless PCM; give format= too, such as format=s16le")
