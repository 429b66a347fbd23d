"""Speech enhancement on magnitude spectrograms: train, sweep, denoise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from denoiser.enhance import Denoiser, Options

__version__ = "0.1.0"
__all__ = ["Denoiser", "Options", "__version__"]


def __getattr__(name: str) -> Any:
    # Lazily: a mistyped command should not wait for torch to load.
    if name in ("Denoiser", "Options"):
        from denoiser import enhance

        return getattr(enhance, name)
    raise AttributeError(f"module 'denoiser' has no attribute '{name}'")
