"""A run's record as something that may say anything: what is ranked has the types that training writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from denoiser.checkpoint import check_settings
from denoiser.ranking.configuration import Record

LARGEST = 1e18  # of any number in a record; a whole number beyond may be no float at all


def checked(run: Record) -> Record:
    """The record, or one that says which parts of it are damaged."""
    wrong = [key for key, fine in PARTS.items() if run.get(key) is not None and not fine(run[key])]
    if run.get("status") == "finished":
        wrong += [key for key in ("config", "monitor", "mode") if run.get(key) is None]
    if not wrong:
        return run
    return {
        "folder": run["folder"],
        "status": "damaged",
        "reason": f"not as a run writes it: {', '.join(dict.fromkeys(wrong))}",
    }


def _number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) <= LARGEST)  # NaN is not


def _text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _each(fine: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and all(map(fine, value.values()))


def _list(fine: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fine, value))


def _scalar(value: Any) -> bool:
    return _text(value) or _number(value)


def _test(value: Any) -> bool:
    kinds = isinstance(value, Mapping) and all(_each(_number)(value.get(kind)) for kind in ("noisy", "enhanced"))
    return kinds and _number(value.get("n")) and _each(_number)(value.get("undefined") or {})


def _config(value: Any) -> bool:
    try:
        check_settings(value)
    except ValueError:
        return False
    return isinstance(value, Mapping) and all(
        isinstance(value.get(key, {}), Mapping | None) for key in ("data", "model", "spectral", "trainer")
    )


NUMBERS = (
    "parameters macs_per_second fit_seconds audio_seconds_per_second real_time_factor best best_epoch "
    "batch_audio_seconds processes"
).split()
TEXTS = "name started ended checkpoint hardware precision device reason".split()
PARTS: dict[str, Callable[[Any], bool]] = {  # of a record; each may be null
    **dict.fromkeys(NUMBERS, _number),
    **dict.fromkeys(TEXTS, _text),
    "seed": _scalar,
    "monitor": lambda value: isinstance(value, str),
    "mode": lambda value: value in ("min", "max"),
    "config": _config,
    "choices": _each(_text),
    "overrides": _list(lambda value: isinstance(value, str)),
    "validation": _each(_number),
    "test": _test,
    "curve": _list(_each(_number)),
    "split": _each(_scalar),
    "versions": _each(_text),
}
