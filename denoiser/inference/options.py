"""A listener's choices."""

from __future__ import annotations

from dataclasses import dataclass

from denoiser.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """What a listener may choose. None of it changes the length, and none adds a delay.

    Args:
        dry: share of the input in the output, 0 to 1.
        max_attenuation_db: no bin of the spectrogram is turned down by more; None for no limit.
        phase_iters: iterations of Griffin & Lim (1984), begun at the noisy phase, towards one that fits the magnitude.
        full_band: keep what lies above the model's band, turned down as the top of that band is; False cuts it off.
    """

    dry: float = 0.0
    max_attenuation_db: float | None = None
    phase_iters: int = 0
    full_band: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.dry <= 1:
            raise ConfigError(f"dry={self.dry}: expected a share from 0 (enhanced only) to 1 (input only)")
        if self.max_attenuation_db is not None and not self.max_attenuation_db >= 0:
            raise ConfigError(
                f"max_attenuation_db={self.max_attenuation_db}: expected dB, 0 or more, or null for no limit"
            )
        if self.phase_iters != int(self.phase_iters) or not 0 <= self.phase_iters <= 100:
            raise ConfigError(f"phase_iters={self.phase_iters}: expected a whole number from 0 to 100")

    @property
    def floor(self) -> float:
        """The least gain a bin may get, linear."""
        return 0.0 if self.max_attenuation_db is None else 10 ** (-self.max_attenuation_db / 20)
