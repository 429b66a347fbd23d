"""Schemes by which the twins of a corpus are named."""

import re
from collections.abc import Sequence

from denoiser.data.split import search

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
    return _shared(search("pair", pattern, name, "find what twins share in every name"))


def seen(noisy: Sequence[str], clean: Sequence[str]) -> str | None:
    """Return the pattern of KNOWN that gives each noisy name a clean twin, or None."""
    for pattern in KNOWN:
        found = [[re.search(pattern, name) for name in names] for names in (noisy, clean)]
        mine, other = ([_shared(match) for match in matches if match] for matches in found)
        if len(set(mine)) == len(noisy) == len(clean) and set(mine) == set(other):
            return pattern
    return None


def _shared(match: re.Match[str]) -> str:
    return " ".join(filter(None, match.groups())) or match[0]
