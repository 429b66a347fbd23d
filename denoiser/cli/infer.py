"""Enhancement of files as the settings of ``conf/infer.yaml`` ask for."""

import dataclasses
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from denoiser import settings, startup
from denoiser.errors import ConfigError, UnfinishedError

if TYPE_CHECKING:
    from denoiser.inference.batch import Outcome
    from denoiser.inference.options import Options

NAMES = ("ckpt", "input", "output", "reference")  # settings that hold file names


def run(cfg: DictConfig, in_multirun: bool = False) -> None:
    """Enhance the files of ``cfg.input``, and score and show them where asked; DenoiserError for a person's mistake.

    Exits with 1 where a file could not be enhanced or scored, and raises UnfinishedError instead ``in_multirun``.
    """
    settings.require(cfg, "ckpt", "input")
    settings.check_range(cfg, "loudness", -70, -5)
    settings.check_range(cfg, "threads", 1)
    settings.check_range(cfg, "track", 1)
    if cfg.jobs != "auto":
        settings.check_range(cfg, "jobs", 1)
    settings.check_shard(cfg)
    with startup.importing():  # torch takes seconds, which a mistyped setting should not wait for
        import torch

        from denoiser.evaluation.files import folder_of
        from denoiser.inference.batch import enhance_files
        from denoiser.inference.denoiser import Denoiser
        from denoiser.inference.jobs import left_aside, plan
        from denoiser.inference.options import Options
        from denoiser.inference.pipes import STDOUT

    options = Options(cfg.dry, cfg.max_attenuation_db, cfg.phase_iters, cfg.full_band)
    sources = [str(name) for name in cfg.input] if OmegaConf.is_list(cfg.input) else [str(cfg.input)]
    is_one_file = len(sources) == 1 and (sources[0] == "-" or Path(sources[0]).is_file())
    all_jobs = plan(sources, str(cfg.output) if cfg.output else None)
    piped = any(job.target is STDOUT for job in all_jobs)
    if piped and (cfg.plot or cfg.report or cfg.reference or cfg.shards > 1):
        raise ConfigError("output=-: carries the sound alone; plot, report, reference and shards want files")
    jobs, folder = all_jobs, None
    if cfg.shards > 1:
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
        outcome = enhance_files(
            denoiser,
            jobs,
            options,
            loudness=cfg.loudness,
            overwrite=cfg.overwrite or is_one_file,
            track=cfg.track,
            plot=cfg.plot,
            at_once=None if cfg.jobs == "auto" else cfg.jobs,
        )
        if aside := left_aside(sources, all_jobs):
            print(aside)
        unscored = _report(cfg, sources, options, outcome, folder)
    if outcome.failed or unscored:
        if in_multirun:
            raise UnfinishedError(f"shard {cfg.shard} of {cfg.shards}: not all files were done, or scored")
        sys.exit(1)


def _report(cfg: DictConfig, sources: list[str], options: "Options", outcome: "Outcome", folder: Path | None) -> int:
    """Write scores and page where asked; returns the number of files without a score."""
    if not cfg.report and not cfg.reference:
        return 0
    from denoiser.errors import shown
    from denoiser.evaluation.files import evaluate

    chosen = ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(options).items())
    is_one_folder = len(sources) == 1 and Path(sources[0]).is_dir()
    return evaluate(
        outcome.gains,
        reference=Path(cfg.reference) if cfg.reference else None,
        root=Path(sources[0]) if is_one_folder else None,
        page=cfg.report,
        folder=folder,
        settings=f"{cfg.ckpt}: {chosen}",
        failures=[shown(error) for error in outcome.failed.values()],
    )
