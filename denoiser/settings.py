"""``key=value`` settings of the small commands, ``python -m denoiser export ckpt=...``, without Hydra."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence

from denoiser.errors import ConfigError


def settings(defaults: Mapping[str, str], help: str, arguments: Sequence[str] | None = None) -> dict[str, str]:
    """``defaults`` with what the command line gives instead; ``--help`` prints ``help`` and leaves.

    Raises ConfigError for an argument that is no setting.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"--help", "-h"} & set(given):
        print(help)
        sys.exit(0)
    result = dict(defaults)
    for argument in given:
        key, equals, value = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument}: settings are key=value; all of them: --help")
        if key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            raise ConfigError(
                f"{key}: no such setting{f'; did you mean {near[0]}?' if near else ''} All of them: --help"
            )
        result[key] = value
    return result


def choice(given: Mapping[str, str], key: str, *allowed: str) -> str:
    """The value of a setting; ConfigError where it is none of those allowed."""
    if given[key] not in allowed:
        raise ConfigError(f"{key}={given[key]}: expected {' or '.join(allowed)}")
    return given[key]


def whole(given: Mapping[str, str], key: str, low: int, high: int) -> int:
    """The value of a setting that is a whole number; ConfigError where it is not, or out of range."""
    if not given[key].isdecimal() or not low <= int(given[key]) <= high:
        raise ConfigError(f"{key}={given[key]}: expected a whole number from {low} to {high}")
    return int(given[key])
