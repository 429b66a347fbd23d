"""Runs of one configuration, and the settings in which configurations differ."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
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
    """Mean and sample standard deviation of a value over the ``n`` seeds where it is defined; NaN for too few."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Sequence[Any]) -> "SeedStatistics":
        defined = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        mean = statistics.fmean(defined) if defined else math.nan
        std = statistics.stdev(defined) if len(defined) > 1 else math.nan
        return cls(mean, std, len(defined))


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

    def over_seeds(self, name: str) -> SeedStatistics:
        """Return the statistics of the :func:`value` called ``name``."""
        return SeedStatistics.of([value(run, name) for run in self.runs])


def value(run: Record, name: str) -> Any:
    """Return a value of a run.

    ``val/...`` is a metric at its best epoch, ``test/...`` and ``noisy/...`` are means over the enhanced and the noisy
    test files, and any other name is an entry of its record.
    """
    part, _, metric = name.partition("/")
    if name == run.get("monitor"):
        return run.get("best")
    if part == "val":
        return (run.get("validation") or {}).get(metric)
    if part in ("test", "noisy"):
        kind = "enhanced" if part == "test" else "noisy"
        return ((run.get("test") or {}).get(kind) or {}).get(metric)
    return run.get(name)


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
    """Group runs by all of their settings but the seed, and by the note of their folder; name the groups.

    Of several runs with the same seed only the last one counts.
    """
    runs = sorted(runs, key=lambda run: str(run.get("ended")))
    flats = [flatten(run["config"]) for run in runs]
    # data.seed and its like follow the seed, unless a run held them while the seed changed.
    seeds = {key for flat in flats for key in flat if key.endswith(".seed")}
    tied = {key for key in seeds if all(flat.get(key) == flat.get("seed") for flat in flats)}
    free = tuple(f"{key}." for key in FREE)
    members: dict[str, dict[str, Record]] = {}
    settings = {}
    for run, flat in zip(runs, flats, strict=True):
        kept = {key: value for key, value in flat.items() if key not in tied and not f"{key}.".startswith(free)}
        identity = json.dumps([kept, notes.get(run["folder"])], sort_keys=True, default=str)
        settings[identity] = kept
        members.setdefault(identity, {})[str(run.get("seed"))] = run
    found = [list(by_seed.values()) for by_seed in members.values()]
    configurations = [Configuration(alike, notes.get(alike[0]["folder"], "")) for alike in found]
    _name(configurations, list(settings.values()))
    return configurations


def _name(configurations: Sequence[Configuration], settings: Sequence[Mapping[str, Any]]) -> None:
    """Give every configuration the values in which they differ, and a label made of them."""
    columns = _choices(configurations)
    groups = list(columns)
    overrides = [override for c in configurations for run in c.runs for override in run.get("overrides") or ()]
    typed = {str(override).lstrip("+~").partition("=")[0] for override in overrides}
    varying = {key: [_text(flat.get(key, ABSENT)) for flat in settings] for key in set().union(*settings)}
    varying = {key: values for key, values in varying.items() if len(set(values)) > 1}
    # A setting that some have and others have not, as of another network or an earlier version, is the last resort.
    shared = {key for key, values in varying.items() if len({*values} - {ABSENT}) > 1}
    for key in sorted(varying, key=lambda key: (key not in typed, key not in shared, key.count("."), key)):
        values = varying[key]
        above = [g for g in groups if g in GLOBAL_GROUPS or key.startswith(g.replace("/", ".") + ".")]
        # Each choice occurs with a single value of the setting.
        implied = any(_distinct([columns[g], values]) == len(set(columns[g])) for g in above)
        interpolated = values in columns.values()
        needed = _distinct([*columns.values(), values]) > _distinct(list(columns.values()))
        if key in typed or (not implied and not interpolated and (key in shared or needed)):
            columns[key] = values
    last = {key: key.replace("/", ".").rpartition(".")[2] for key in columns}
    ends = list(last.values())
    short = {key: end if ends.count(end) == 1 else key for key, end in last.items()}
    in_label = list(columns)[: _enough(list(columns.values()))]
    for index, configuration in enumerate(configurations):
        configuration.values = {short[key]: values[index] for key, values in columns.items()}
        words = []
        for key in in_label:
            text = columns[key][index]
            if text != ABSENT:
                words.append(text if key in groups else f"{short[key]}={text}")
        if not words:
            choices = configuration.runs[0].get("choices") or {}
            words = [str(choices[g]) for g in FIRST_GROUPS if g in choices] or ["the only one"]
        configuration.label = " ".join(words) + (" (scored otherwise)" if configuration.note else "")


def _choices(configurations: Sequence[Configuration]) -> dict[str, list[str]]:
    """Return the groups in which configurations made different choices, with the choice of each."""
    every = [configuration.runs[0].get("choices") or {} for configuration in configurations]
    columns = {}
    for name in dict.fromkeys([*FIRST_GROUPS, *(name for choices in every for name in choices)]):
        values = [str(choices.get(name, ABSENT)) for choices in every]
        if name not in HIDDEN_GROUPS and len({*values} - {ABSENT}) > 1:
            columns[name] = values
    return columns


def _distinct(columns: Sequence[Sequence[str]]) -> int:
    """Return the number of different rows of these columns."""
    return len(set(zip(*columns, strict=True)))


def _enough(columns: Sequence[Sequence[str]]) -> int:
    """Return the number of columns, four or more if there are as many, that tell all rows apart."""
    lengths = range(min(4, len(columns)), len(columns))
    return next((n for n in lengths if _distinct(columns[:n]) == _distinct(columns)), len(columns))


def _text(value: Any) -> str:
    """Format the value of a setting, a number with six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
