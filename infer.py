"""Denoise files, folders or standard input: ``python infer.py noisy.wav``."""

import os

from denoiser import console, startup

startup.prepare("hydra", "torch")

with startup.importing():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from denoiser.cli import infer
    from denoiser.cli.arguments import as_typed
    from denoiser.sweep import multirun  # noqa: F401 - silences a warning of Hydra, in workers too
    from denoiser.training.folder import in_sweep


@hydra.main(version_base="1.3", config_path="conf", config_name="infer")
def main(cfg: DictConfig) -> None:
    if in_sweep():
        os.chdir(HydraConfig.get().runtime.cwd)  # Ray starts its workers elsewhere
        infer.run(cfg, in_multirun=True)  # the parent reports an error once all shards have ended
        return
    with console.one_line():
        infer.run(cfg)


if __name__ == "__main__":
    console.run(main, lambda arguments: as_typed(arguments, infer.NAMES, inputs="input"))
