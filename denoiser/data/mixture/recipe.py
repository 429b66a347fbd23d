"""Recipe of the mixtures: the ranges and probabilities that they are drawn from."""

from dataclasses import dataclass

from denoiser.data.mixture.rooms import TARGET_SECONDS
from denoiser.errors import ConfigError

SPANS = {"snr": (-200, 200), "level": (-200, 200)}  # two numbers, lowest and highest, within these
SHARES = ("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant")
LIMITS = {**SPANS, **dict.fromkeys(SHARES, (0, 1)), "highpass": (0, 300), "noises": (1, 100)}


@dataclass(frozen=True)
class Recipe:
    """Ranges and probabilities of mixtures, explained in ``conf/data/mixture.yaml``; ConfigError if one is wrong.

    ``highpass`` is for the rumble that recordings of speech have below any voice: it cannot be told from noise.
    Mixtures beyond full scale are scaled down as a whole, so ``level`` is that of the others.
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
        for name, (low, high) in LIMITS.items():
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
