"""Callback around a multirun of inference, over the shards of an archive."""

import tempfile
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from denoiser import console
from denoiser.sweep.launchers import prepare


class InferenceSweep(Callback):
    """Callback for a multirun of ``infer.py``: Hydra's files go to a temporary folder, only the outputs stay."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with console.one_line():
            prepare(config)
        self.folder = tempfile.TemporaryDirectory()
        with read_write(config), open_dict(config):
            if "submitit_folder" in config.hydra.launcher:
                # All machines must see this one.
                config.hydra.launcher.submitit_folder = ".submitit/%j"
            config.hydra.sweep.dir = self.folder.name
