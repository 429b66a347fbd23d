"""``key=value`` settings of the small commands, ``python -m denoiser export ckpt=...``, without Hydra."""

from __future__ import annotations

import difflib
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

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


def check_booleans(cfg: Any, *keys: str) -> None:
    """Raise ConfigError where one of these settings is neither true nor false: ``no`` is a text here, and so true."""
    from omegaconf import OmegaConf

    for key in keys:
        if not isinstance(value := OmegaConf.select(cfg, key), bool):
            raise ConfigError(f"{key}={value}: expected true or false")


def check_number(
    cfg: Any, key: str, low: float = -math.inf, high: float = math.inf, *, whole: bool = False, other: Any = ...
) -> None:
    """Raise ConfigError where this setting is no number from ``low`` to ``high``, nor the ``other`` that it may be."""
    from omegaconf import OmegaConf

    value = OmegaConf.select(cfg, key)
    if value == other and type(value) is type(other):
        return
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not low <= value <= high:
        expected = "a whole number" if whole else "a number"
        expected += f", {low:g} or more" if low > -math.inf and high == math.inf else ""
        expected += f" from {low:g} to {high:g}" if high < math.inf else ""
        instead = "" if other is ... else f", or {'null' if other is None else other}"
        raise ConfigError(f"{key}={value}: expected {expected}{instead}")


def check_shard(cfg: Any) -> None:
    """Raise ConfigError unless ``shards`` is 1 or more, and ``shard`` says which of several."""
    check_number(cfg, "shards", 1, whole=True)
    if cfg.shards > 1 and cfg.shard is None:
        raise ConfigError(
            f"shards={cfg.shards}: which? shard=0 to {cfg.shards - 1}, or all: -m 'shard=range({cfg.shards})'"
        )
    if cfg.shards == 1 and cfg.shard not in (None, 0):
        raise ConfigError(f"shard={cfg.shard}: of how many? Give it with shards=")
    check_number(cfg, "shard", 0, cfg.shards - 1, whole=True, other=None)


def require(cfg: Any, *keys: str) -> None:
    """Raise ConfigError naming those of these settings that were not given."""
    if missing := [key for key in keys if cfg.get(key, None) in (None, "")]:
        raise ConfigError(f"{', '.join(missing)} missing; give it as {' '.join(f'{key}=...' for key in missing)}")


def quoted(text: str) -> str:
    """``text`` as a value that Hydra reads, and OmegaConf resolves, to exactly that: ``it's`` → ``'it\\'s'``.

    OmegaConf looks for ``${`` even in quoted values: it is escaped, and doubles the backslashes right before it.
    """
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return QuotedString(literal, Quote.single).with_quotes()


def unquoted(value: str) -> str:
    """``"my talk.wav"`` → ``my talk.wav``, as Hydra reads it, unless the quotes are part of a file's name."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"" and not os.path.lexists(value):
        try:
            parsed = OverridesParser.create().parse_override(f"x={value}").value()
        except HydraException:
            return value
        if isinstance(
            parsed, str
        ):  # and what quoted() made of ${ becomes that again: DDP runs the script on its own words
            return re.sub(r"(?<!\\)((?:\\\\)*)\\\$\{", lambda match: match[1][::2] + "${", parsed)
    return value
