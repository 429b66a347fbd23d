"""Denoise a file, a folder or a glob: ``python infer.py ckpt=best.ckpt input=noisy.wav``."""

from __future__ import annotations

import os
import sys

from denoiser import errors

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads
errors.check_environment("hydra", "torch")

import hydra
from omegaconf import DictConfig


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    with errors.one_line():
        errors.require(cfg, "ckpt", "input")
        errors.check_booleans(cfg, "plot")

        from denoiser.enhance import Denoiser
        from denoiser.files import enhance_files, plan

        jobs = plan(str(cfg.input), None if cfg.output is None else str(cfg.output))
        denoiser = Denoiser.from_checkpoint(str(cfg.ckpt), str(cfg.device))
        if enhance_files(denoiser, jobs, cfg.plot):
            sys.exit(1)


if __name__ == "__main__":
    errors.run(main)
