"""Schemes by which the twins of a corpus are named."""

import re
from collections.abc import Sequence

from denoiser.errors import ConfigError

# Regular expressions that find the part that twins share, the most telling first: x_fileid_7 and clean_fileid_7 (DNS),
# a_noisy and a_clean, noisy_a and clean_a, aNoisy and aClean, mixture7 and speech7.
KNOWN = (
    r"fileid_(\d+)",
    *(rf"(.*){separator}" for separator in ("_", "-", r"\.", " ")),
    *(rf"(.*/)?[^/{separator}]*{separator}(.*)" for separator in "_- "),
    r"(.*)(?:[Nn]oisy|[Cc]lean)$",
    r"(\d+)$",
    r"(\d+)",
)


def key(name: str, pattern: str | None) -> str:
    """Return the part of a name by which it is paired: the groups of ``pattern``, or all that matches; or the name.

    Raises ConfigError if the pattern is no regular expression, or is not found.
    """
    if pattern is None:
        return name
    try:
        found = _part(name, pattern)
    except re.error as error:
        raise ConfigError(f"data.pair={pattern}: not a regular expression ({error})") from error
    if found is None:
        raise ConfigError(f"data.pair={pattern}: not found in {name}; it has to find what twins share in every name")
    return found


def seen(noisy: Sequence[str], clean: Sequence[str]) -> str | None:
    """Return the pattern of KNOWN that gives each noisy name a clean twin, or None."""
    for pattern in KNOWN:
        mine, other = ([_part(name, pattern) for name in names] for names in (noisy, clean))
        if None not in mine and len(set(mine)) == len(mine) == len(other) and set(mine) == set(other):
            return pattern
    return None


def _part(name: str, pattern: str) -> str | None:
    found = re.search(pattern, name)
    return found and (" ".join(filter(None, found.groups())) or found[0])
