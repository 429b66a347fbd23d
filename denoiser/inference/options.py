"""Settings of the enhanced sound."""

from dataclasses import dataclass
from numbers import Real

from denoiser.errors import ConfigError
from denoiser.spectral import MAX_SHIFTS

MAX_PHASE_ITERS = 100


@dataclass(frozen=True)
class Options:
    """Settings of the enhanced sound; its length never changes, and no setting adds to the largest delay.

    Args:
        dry: share of the input in the output, 0 to 1.
        max_attenuation_db: limit on how far a bin of the spectrogram is turned down, dB; None for no limit.
        phase_iters: iterations of Griffin & Lim (1984) that fit the noisy phase to the magnitude, 0 to 100.
        full_band: keep the band above the model's, with the gain of the top of the model's band.
        shifts: number of passes with shifted frames, whose mean is the result, 1 to 16; None: the model's.
    """

    dry: float = 0.0
    max_attenuation_db: float | None = None
    phase_iters: int = 0
    full_band: bool = True
    shifts: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.dry, Real) or not 0 <= self.dry <= 1:
            raise ConfigError(f"dry={self.dry!r}: expected a share from 0 (enhanced only) to 1 (input only)")
        limit = self.max_attenuation_db
        if limit is not None and not (isinstance(limit, Real) and limit >= 0):
            raise ConfigError(f"max_attenuation_db={limit!r}: expected 0 dB or more, or null")
        if self.shifts is not None and (type(self.shifts) is not int or not 1 <= self.shifts <= MAX_SHIFTS):
            raise ConfigError(f"shifts={self.shifts}: expected a whole number from 1 to {MAX_SHIFTS}")
        if not isinstance(self.phase_iters, int) or not 0 <= self.phase_iters <= MAX_PHASE_ITERS:
            raise ConfigError(f"phase_iters={self.phase_iters}: expected a whole number from 0 to {MAX_PHASE_ITERS}")

    @property
    def min_gain(self) -> float:
        """Smallest gain of a bin, linear."""
        return 0.0 if self.max_attenuation_db is None else 10 ** (-self.max_attenuation_db / 20)
