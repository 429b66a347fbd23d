"""Denoise files, folders or standard input: ``python infer.py noisy.wav``."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path

from denoiser import console, errors, settings, startup

startup.prepare("hydra", "torch")

with startup.importing():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    from denoiser.cli.arguments import as_typed
    from denoiser.sweep import multirun

NAMES = ("ckpt", "input", "output", "reference")  # settings that are meant letter for letter


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    if multirun.in_multirun():  # what one raises is said when all have done their part
        os.chdir(HydraConfig.get().runtime.cwd)  # Ray starts its workers elsewhere
        run(cfg)
        return
    with console.one_line():
        run(cfg)


def run(cfg: DictConfig) -> None:
    settings.require(cfg, "ckpt", "input")
    settings.check_range(cfg, "loudness", -70, -5)
    settings.check_range(cfg, "threads", 1)
    if cfg.jobs != "auto":
        settings.check_range(cfg, "jobs", 1)
    settings.check_shard(cfg)

    with startup.importing():
        import torch

        from denoiser.evaluation.judging import folder_of, judge
        from denoiser.inference.batch import enhance_files, shown
        from denoiser.inference.denoiser import Denoiser
        from denoiser.inference.jobs import is_single, plan, share
        from denoiser.inference.options import Options
        from denoiser.inference.pipes import STDOUT

    options = Options(cfg.dry, cfg.max_attenuation_db, cfg.phase_iters, cfg.full_band)
    sources = [str(name) for name in cfg.input] if OmegaConf.is_list(cfg.input) else [str(cfg.input)]
    everything = plan(sources, str(cfg.output) if cfg.output else None)
    piped = any(target is STDOUT for _, target in everything)
    if piped and (cfg.plot or cfg.report or cfg.reference or cfg.shards > 1):
        raise errors.ConfigError("output=-: carries the sound alone; plot, report, reference and shards want files")
    jobs, beside = everything, None
    if cfg.shards > 1:
        jobs = share(everything, cfg.shard, cfg.shards)
        beside = folder_of(everything) / f"shard-{cfg.shard}-of-{cfg.shards}"
        print(f"shard {cfg.shard} of {cfg.shards}: {len(jobs)} of {len(everything)} files")
    with redirect_stdout(sys.stderr if piped else sys.stdout):
        if cfg.threads:
            torch.set_num_threads(cfg.threads)
        device, gpus = str(cfg.device), torch.cuda.device_count()
        if multirun.in_multirun() and device == "auto" and gpus > 1 and cfg.shard is not None:
            device = f"cuda:{cfg.shard % gpus}"
        denoiser = Denoiser.from_checkpoint(str(cfg.ckpt), device, str(cfg.precision))
        outcome = enhance_files(
            denoiser, jobs, options, loudness=cfg.loudness, overwrite=cfg.overwrite or is_single(sources),
            plot=cfg.plot, at_once=None if cfg.jobs == "auto" else cfg.jobs, among=everything,
        )  # fmt: skip
        unscored = 0
        if cfg.report or cfg.reference:
            unscored = judge(
                outcome.gains,
                reference=Path(cfg.reference) if cfg.reference else None,
                root=Path(sources[0]) if len(sources) == 1 and Path(sources[0]).is_dir() else None,
                page=cfg.report,
                folder=beside,
                settings=f"{cfg.ckpt}: {str(options)[8:-1]}",
                failures=[shown(error) for error in outcome.failed.values()],
            )
    if outcome.failed or unscored:
        if multirun.in_multirun():
            raise errors.UnfinishedError(f"shard {cfg.shard} of {cfg.shards}: not all files were done, or scored")
        sys.exit(1)


if __name__ == "__main__":
    console.run(main, lambda arguments: as_typed(arguments, NAMES, inputs="input"))
