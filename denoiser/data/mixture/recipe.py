"""Recipe of the mixtures: the ranges and probabilities that they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass

from denoiser.data.mixture.rooms import TARGET_SECONDS
from denoiser.errors import ConfigError

# Lowest and highest value of each setting that is a number or a span of two, for which dB may be negative.
SPANS = {"snr": (-200, 200), "level": (-200, 200)}
SHARES = ("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant")
NUMBERS = {**dict.fromkeys(SHARES, (0, 1)), "highpass": (0, 300), "noises": (1, 100)}


@dataclass(frozen=True)
class Recipe:
    """Ranges and probabilities of mixtures. Shares are probabilities, 0 to 1.

    Args:
        snr: dB, lowest and highest, drawn uniformly: active power of the speech over that of the noise.
        noises: at most so many at once, each further one up to 10 dB below the first.
        babble: share of noises that are 3 to 8 other speakers of the corpus at once.
        generated: share of noises that are synthetic, see :mod:`denoiser.data.synthesis.generated`.
        highpass: cut-off in Hz of a filter for the speech alone. No voice is below it, and the rumble that recordings
            of speech have there cannot be told from noise. 0 for speech as it is.
        filtered: share of mixtures whose speech and noise each pass a random filter, as another microphone.
        narrow: share that came through a narrow channel, as a telephone.
        speechless: share without speech.
        noiseless: share of the training mixtures whose noise is 80 dB below the speech: clean speech is to stay so.
        level: dBFS, lowest and highest, of active speech. Mixtures beyond full scale are scaled down as a whole.
        reverberant: share in a room, where there are rooms.
        target: the part of a room's sound in the clean target: ``direct``, ``early`` or ``all``.

    Raises:
        ConfigError: a value is out of range.
    """

    snr: tuple[float, float] = (-5.0, 20.0)
    noises: int = 2
    babble: float = 0.1
    generated: float = 0.1
    highpass: float = 0.0
    filtered: float = 0.5
    narrow: float = 0.1
    speechless: float = 0.02
    noiseless: float = 0.03
    level: tuple[float, float] = (-40.0, -10.0)
    reverberant: float = 0.5
    target: str = "early"

    def __post_init__(self) -> None:
        for name, (low, high) in {**SPANS, **NUMBERS}.items():
            value = getattr(self, name)
            try:
                first, last = value if name in SPANS else (value, value)
                valid = low <= first <= last <= high
            except (TypeError, ValueError):
                valid = False
            if not valid:
                expected = "two numbers" if name in SPANS else "a number"
                raise ConfigError(f"data.mix.{name}={value}: expected {expected} from {low} to {high}")
        if self.babble + self.generated > 1:
            raise ConfigError(f"data.mix: babble={self.babble} and generated={self.generated} are over 1 together")
        if self.target not in TARGET_SECONDS:
            raise ConfigError(f"data.mix.target={self.target}: expected {', '.join(TARGET_SECONDS)}")
