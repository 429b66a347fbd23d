"""Train, validate and test a denoiser: ``python train.py model=unet10 data=vctk_demand data.root=...``."""

import os
from pathlib import Path

from denoiser import console, distributed, startup

startup.prepare("hydra", "torch")

with startup.importing():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from denoiser.cli.arguments import as_typed
    from denoiser.sweep import multirun  # noqa: F401 - registers the resolvers of conf/
    from denoiser.training.folder import in_sweep

NAMES = (  # settings that are meant letter for letter
    "data.root", "data.speech", "data.noise", "data.rooms", "data.test_root", "data.cache", "ckpt_path", "init_from",
    "data.pair", "data.speaker", "data.recording",
)  # fmt: skip


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    if in_sweep():
        from denoiser.sweep import job

        os.chdir(HydraConfig.get().runtime.cwd)  # Ray starts its workers elsewhere
        return job.run(cfg, _folder())
    with console.one_line():
        with startup.importing():
            from denoiser.training.run import train

        return train(cfg, _folder())


def _folder() -> Path:
    return Path(os.path.relpath(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    console.run(main, lambda arguments: distributed.arguments(as_typed(arguments, NAMES)))
