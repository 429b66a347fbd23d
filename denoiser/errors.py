"""What a person gets instead of a traceback: one line, and exit code 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"


class DenoiserError(Exception):
    """A mistake in what was given: what was found, where, what was expected, what to do."""


class AudioError(DenoiserError):
    """A file that cannot be read or written as audio."""


class ConfigError(DenoiserError):
    """A setting that has no meaning, or none here."""


class CheckpointError(DenoiserError):
    """A checkpoint that cannot be used."""


class CorpusError(DenoiserError):
    """A corpus that cannot be trained on as it is."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a person's mistake into one line on stderr and exit code 2; ``HYDRA_FULL_ERROR=1`` shows the traceback."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except (DenoiserError, HydraException, OmegaConfBaseException) as error:
        if _FULL:
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def run(main: Callable[[], Any]) -> None:
    """Run a Hydra entry point so that Hydra's own complaints, of a wrong override say, are one line too."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and leaving with 1
    with one_line():
        try:
            main()
        except ValueError as error:  # scheduler=null, say: no HydraException, though Hydra raises it
            if _raised_in(error).startswith("hydra."):
                raise ConfigError(f"{error}, in: {' '.join(sys.argv[1:])}") from error
            raise


def _raised_in(error: BaseException) -> str:
    """Name of the module whose code raised this."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""


def require(cfg: Any, *keys: str, prefix: str = "") -> None:
    """Raise ConfigError naming those of these settings that were not given."""
    if missing := [prefix + key for key in keys if cfg.get(key, None) is None]:
        raise ConfigError(f"{', '.join(missing)} missing; give it as {' '.join(f'{key}=...' for key in missing)}")
