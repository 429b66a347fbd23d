"""Speech enhancement on magnitude spectrograms: train, sweep, denoise."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from denoiser.inference.denoiser import Denoiser
    from denoiser.inference.options import Options

    __version__: str

__all__ = ["Denoiser", "Options", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: a mistyped command should not wait for torch to load.
    if name in ("Denoiser", "Options"):
        return getattr(import_module(f"denoiser.inference.{name.lower()}"), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("denoiser")
    raise AttributeError(f"module 'denoiser' has no attribute '{name}'")
