"""Arguments of the command line: those for Hydra with file names letter for letter, those of the small commands."""

import difflib
import math
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import islice

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from denoiser.errors import ConfigError
from denoiser.settings import expanded, quoted, unquoted

_KEY = re.compile(r"\+{0,2}[\w./@$:-]+")
_MULTIRUN = frozenset({"-m", "--multirun"})
_FLAGS = _MULTIRUN | set("-h --help --hydra-help --version --resolve -r --run -sc --shell-completion".split())
# Those of Hydra's options that a value follows.
_VALUED = set("-c --cfg -p --package -cp --config-path -cn --config-name -cd --config-dir -i --info".split())


def as_typed(arguments: Sequence[str], names: Collection[str], inputs: str | None = None) -> list[str]:
    """Return the arguments for Hydra; those of the settings ``names``, which name files, are meant letter for letter.

    Where no such file exists, a name wholly in quotes loses them, and ``null``, a list (``[a,b]``) and, for ``-m``,
    a sweep (``a.ckpt,b.ckpt``) keep Hydra's meaning. With ``inputs``, the setting that takes any number of names,
    arguments without a key are names, and so are files that look like a setting; after ``--`` all are.
    In every setting ``~/`` is the home folder, where no file has that very name.

    Raises ConfigError for an option that does not exist.
    """
    multirun = not _MULTIRUN.isdisjoint(arguments)
    options: list[str] = []
    settings: list[str] = []
    found: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        key, equals, value = argument.partition("=")
        is_setting = bool(equals) and _KEY.fullmatch(key) is not None
        if is_setting and key == inputs:
            found.append(unquoted(value))
        elif is_setting and key.lstrip("+") in names:
            swept = _at_home(value)
            name = swept if _is_hydras(swept, multirun) else quoted(expanded(unquoted(value)))
            settings.append(f"{key}={name}")
        elif argument in _FLAGS or key in _VALUED:
            options += [argument, *islice(rest, int(argument in _VALUED))]
        elif inputs and argument == "--":
            found += rest
        elif inputs and (argument == "-" or os.path.lexists(argument)):
            found.append(argument)
        elif argument.startswith("-"):
            raise ConfigError(f"{argument}: no such option; settings are key=value, and --help shows them")
        elif inputs and not is_setting:
            found.append(argument)  # not there, or a pattern
        else:
            settings.append(f"{key}={_at_home(value)}" if is_setting else argument)
    names_given = [quoted(expanded(name)) for name in found]
    if len(found) == 1:
        settings.append(f"{inputs}={names_given[0]}")
    elif found:
        settings.append(f"{inputs}=[{','.join(names_given)}]")
    return settings + options


def _at_home(value: str) -> str:
    """Return a value, a list or a sweep for Hydra, which cannot read ``~/``, with the home folder in its place."""
    return re.sub(r"(?<![^[,\s'\"])~(?=/)", lambda _: os.path.expanduser("~"), value)


def _is_hydras(value: str, multirun: bool) -> bool:
    """Return True for ``null``, a list and, in a multirun, what Hydra reads as a sweep, unless there is such a file."""
    try:
        parsed = OverridesParser.create().parse_override(f"x={value}")
    except HydraException:
        return False
    sweep_or_list = isinstance(parsed.value(), list) or (multirun and parsed.is_sweep_override())
    return (value == "null" or sweep_or_list) and not os.path.lexists(value)


def key_values(defaults: Mapping[str, str], usage: str, arguments: Sequence[str]) -> dict[str, str]:
    """Return ``defaults`` with the ``key=value`` arguments of a small command in their place.

    In a value ``~/`` is the home folder. ``--help`` prints ``usage`` and ends the program. Raises ConfigError for an
    argument that is no setting.
    """
    if not {"--help", "-h"}.isdisjoint(arguments):
        print(usage)
        sys.exit(0)
    result = dict(defaults)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in defaults:
            near = difflib.get_close_matches(key, defaults, n=1)
            advice = f"; did you mean {near[0]}?" if near else "."
            raise ConfigError(f"{argument}: no such setting{advice} Settings are key=value; all of them: --help")
        result[key] = expanded(value)
    return result


def choice(given: Mapping[str, str], key: str, *allowed: str) -> str:
    """Return the value of a setting; ConfigError where it is none of those allowed."""
    if given[key] not in allowed:
        raise ConfigError(f"{key}={given[key]}: expected {' or '.join(allowed)}")
    return given[key]


def whole(given: Mapping[str, str], key: str, low: int, high: int) -> int:
    """Return the value of a setting that is a whole number; ConfigError where it is not, or out of range."""
    if not given[key].isdecimal() or not low <= int(given[key]) <= high:
        raise ConfigError(f"{key}={given[key]}: expected a whole number from {low} to {high}")
    return int(given[key])


def number(given: Mapping[str, str], key: str, low: float, high: float) -> float:
    """Return the value of a setting that is a number; ConfigError where it is not, or out of range."""
    try:
        value = float(given[key])
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ConfigError(f"{key}={given[key]}: expected a number from {low:g} to {high:g}")
    return value
