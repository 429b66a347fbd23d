"""Recipe of the mixtures: the ranges and probabilities that they are drawn from."""

from dataclasses import dataclass

from denoiser.data.mixture.rooms import TARGET_SECONDS
from denoiser.errors import ConfigError

DECIBELS = 200.0  # the largest ratio or level that makes sense, either way
SHARES = ("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant")


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
        for name in ("snr", "level"):
            span = getattr(self, name)
            if not _is_span(span):
                raise ConfigError(f"data.mix.{name}={span}: expected two numbers in dB, as in [-5,20]")
            object.__setattr__(self, name, tuple(span))
        for name in SHARES:
            share = getattr(self, name)
            if not _is_number(share, 0, 1):
                raise ConfigError(f"data.mix.{name}={share}: expected a share, 0 to 1")
        if self.babble + self.generated > 1:
            raise ConfigError(
                f"data.mix: babble={self.babble} and generated={self.generated} are more than 1 together; "
                "the rest are recorded noises"
            )
        if not _is_number(self.highpass, 0, 300):
            raise ConfigError(f"data.mix.highpass={self.highpass}: expected 0 to 300 Hz")
        if not isinstance(self.noises, int) or self.noises < 1:
            raise ConfigError(f"data.mix.noises={self.noises}: expected 1 or more")
        if self.target not in TARGET_SECONDS:
            raise ConfigError(f"data.mix.target={self.target}: expected {', '.join(TARGET_SECONDS)}")


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_span(span: object) -> bool:
    if not isinstance(span, list | tuple) or len(span) != 2:
        return False
    return all(_is_number(value, -DECIBELS, DECIBELS) for value in span) and span[0] <= span[1]
