"""Speech enhancement on magnitude spectrograms: train, sweep, denoise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from denoiser.inference.denoiser import Denoiser
    from denoiser.inference.options import Options

__version__ = "0.1.0"
__all__ = ["Denoiser", "Options", "__version__"]


def __getattr__(name: str) -> Any:
    # Lazily: a mistyped command should not wait for torch to load.
    if name in ("Denoiser", "Options"):
        from denoiser.inference import denoiser

        return getattr(denoiser, name)
    raise AttributeError(f"module 'denoiser' has no attribute '{name}'")
