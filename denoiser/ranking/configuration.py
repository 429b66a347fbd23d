"""Runs of one configuration, and the settings in which configurations differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]  # the content of a run's run.json, and its folder
MAIN_METRICS = ("pesq", "stoi", "si_sdr")  # shown together or not at all: each alone can be deceived

# Settings, or groups of them, that do not decide what a run learns. The seed is among them: runs that differ by
# nothing else are one configuration. The names of earlier versions stay, for their run.json files.
FREE = (
    "seed", "name", "ckpt_path", "new_sweep", "fresh", "test", "clips", "logger", "deterministic",
    "metric_workers", "scorers", "mode", "data.cache", "data.device", "data.download", "data.licence", "data.workers",
    "callbacks.best", "callbacks.last", "callbacks.clips", "callbacks.diverged", "callbacks.learning_rate",
    "callbacks.progress", "callbacks.pruning", "trainer.gpus", "trainer.processes", "trainer.num_nodes",
    "trainer.log_every_n_steps", "trainer.profiler",
)  # fmt: skip
ABSENT = "–"  # shown for a setting that a configuration does not have
HIDDEN_GROUPS = ("sweep", "logger")  # a choice in these says nothing about the run
GLOBAL_GROUPS = ("experiment", "debug")  # a choice in these sets keys of other groups
FIRST_GROUPS = ("data", "model", "model/head", "loss")  # their columns come first


@dataclass(frozen=True)
class SeedStatistics:
    """Mean and sample standard deviation of a value over the seeds where it is defined.

    Without values the mean is NaN; with fewer than two the deviation is.
    """

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Sequence[Any]) -> SeedStatistics:
        defined = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        n = len(defined)
        if n == 0:
            return cls(math.nan, math.nan, 0)
        mean = math.fsum(defined) / n
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in defined) / (n - 1)) if n > 1 else math.nan
        return cls(mean, std, n)


@dataclass
class Configuration:
    """Finished runs that differ by nothing but their seed, the best of them first.

    ``note`` says how their scores came about differently from those of most runs; empty if they did not.
    ``values`` holds the text of each setting in which configurations differ.
    """

    runs: list[Record]
    note: str = ""
    label: str = ""
    values: dict[str, str] = field(default_factory=dict)
    place: int = 0

    @property
    def n(self) -> int:
        return len(self.runs)

    def over_seeds(self, value: Callable[[Record], Any]) -> SeedStatistics:
        """Return the statistics of a value that is read from each run."""
        return SeedStatistics.of([value(run) for run in self.runs])


def validation_value(name: str) -> Callable[[Record], Any]:
    """Return a function that reads ``val/...`` of a run at its best epoch."""

    def read(run: Record) -> Any:
        if run.get("monitor") == name:
            return run.get("best")
        return (run.get("validation") or {}).get(name.removeprefix("val/"))

    return read


def mean_test_value(metric: str, kind: str = "enhanced") -> Callable[[Record], Any]:
    """Return a function that reads a run's mean of ``metric`` over the ``enhanced`` or ``noisy`` test files."""
    return lambda run: ((run.get("test") or {}).get(kind) or {}).get(metric)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings: ``{"a": {"b": 1}}`` → ``{"a.b": 1}``; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def group(runs: Sequence[Record], notes: Mapping[str, str]) -> list[Configuration]:
    """Group runs by all of their settings but the seed, and by the note of their folder; name the groups."""
    flats = [flatten(run["config"]) for run in runs]
    # data.seed and its like follow the seed, unless a run held them while the seed changed.
    seeds = {key for flat in flats for key in flat if key.endswith(".seed")}
    tied = {key for key in seeds if all(flat.get(key) == flat.get("seed") for flat in flats)}
    free = tuple(f"{key}." for key in FREE)
    groups: dict[str, tuple[Configuration, dict[str, Any]]] = {}
    for run, flat in zip(runs, flats, strict=True):
        kept = {key: value for key, value in flat.items() if key not in tied and not f"{key}.".startswith(free)}
        note = notes.get(run["folder"], "")
        identity = json.dumps([kept, note], sort_keys=True, default=str)
        configuration, _ = groups.setdefault(identity, (Configuration([], note), kept))
        configuration.runs.append(run)
    configurations = [configuration for configuration, _ in groups.values()]
    _name(configurations, [kept for _, kept in groups.values()])
    return configurations


def _name(configurations: Sequence[Configuration], settings: Sequence[Mapping[str, Any]]) -> None:
    """Give every configuration the values in which they differ, and a label made of them."""
    columns = _choices(configurations)
    groups = list(columns)
    typed = {key for configuration in configurations for run in configuration.runs for key in _typed(run)}
    varying = {key: _texts([flat.get(key, ABSENT) for flat in settings]) for key in set().union(*settings)}
    varying = {key: values for key, values in varying.items() if len(set(values)) > 1}
    # A setting that some have and others have not, as of another network or an earlier version, is the last resort.
    shared = {key for key, values in varying.items() if len({*values} - {ABSENT}) > 1}
    for key in sorted(varying, key=lambda key: (key not in typed, key not in shared, key.count("."), key)):
        values = varying[key]
        above = [g for g in groups if g in GLOBAL_GROUPS or key.startswith(g.replace("/", ".") + ".")]
        implied = any(_decides(columns[g], values) for g in above)
        interpolated = values in columns.values()
        needed = _distinct([*columns.values(), values]) > _distinct(list(columns.values()))
        if key in typed or (not implied and not interpolated and (key in shared or needed)):
            columns[key] = values
    ends = [_last_part(key) for key in columns]
    short = {key: _last_part(key) if ends.count(_last_part(key)) == 1 else key for key in columns}
    in_label = _enough(list(columns.values()))
    for index, configuration in enumerate(configurations):
        configuration.values = {short[key]: values[index] for key, values in columns.items()}
        words = []
        for key, values in list(columns.items())[:in_label]:
            if values[index] != ABSENT:
                words.append(values[index] if key in groups else f"{short[key]}={values[index]}")
        configuration.label = " ".join(words) or _label_of_only(configuration)
        if configuration.note:
            configuration.label += " (scored otherwise)"


def _last_part(key: str) -> str:
    """Return the last part of a key: ``optimizer.lr`` → ``lr``, ``model/head`` → ``head``."""
    return key.replace("/", ".").rpartition(".")[2]


def _typed(run: Record) -> list[str]:
    """Return the keys that the command line of a run gave."""
    return [str(override).lstrip("+~").partition("=")[0] for override in run.get("overrides") or ()]


def _label_of_only(configuration: Configuration) -> str:
    choices = configuration.runs[0].get("choices") or {}
    return " ".join(str(choices[g]) for g in FIRST_GROUPS if g in choices) or "the only one"


def _choices(configurations: Sequence[Configuration]) -> dict[str, list[str]]:
    """Return the groups in which configurations made different choices, with the choice of each."""
    every = [configuration.runs[0].get("choices") or {} for configuration in configurations]
    names = dict.fromkeys([*FIRST_GROUPS, *(name for choices in every for name in choices)])
    columns = {name: [str(choices.get(name, ABSENT)) for choices in every] for name in names}
    return {
        name: values for name, values in columns.items() if name not in HIDDEN_GROUPS and len({*values} - {ABSENT}) > 1
    }


def _distinct(columns: Sequence[Sequence[str]]) -> int:
    """Return the number of different rows of these columns."""
    return len(set(zip(*columns, strict=True)))


def _enough(columns: Sequence[Sequence[str]]) -> int:
    """Return how many of the columns, four or more if there are as many, tell all rows apart."""
    lengths = range(min(4, len(columns)), len(columns))
    return next((n for n in lengths if _distinct(columns[:n]) == _distinct(columns)), len(columns))


def _decides(one: Sequence[str], other: Sequence[str]) -> bool:
    """Return True if each value of ``one`` occurs with a single value of ``other``."""
    return _distinct([one, other]) == len(set(one))


def _texts(values: Sequence[Any]) -> list[str]:
    """Format the values of one setting, numbers with four digits where that tells them apart."""
    exact = [str(value) if isinstance(value, str | float) else json.dumps(value, default=str) for value in values]
    short = [f"{value:.4g}" if isinstance(value, float) else text for value, text in zip(values, exact, strict=True)]
    return short if len(set(short)) == len(set(exact)) else exact
