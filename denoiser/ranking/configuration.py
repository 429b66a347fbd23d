"""Runs of one configuration, and what differs between configurations."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.tables import number

Record = dict[str, Any]  # a run's run.json, and its folder
# Keys, or groups of them, that do not decide what a run learns, but for its seed, which is chance.
FREE = (
    "seed", "name", "ckpt_path", "fresh", "new_sweep", "test", "logger", "deterministic", "data.cache", "data.device",
    "data.download", "data.licence", "data.workers", "callbacks.clips", "callbacks.diverged",
    "callbacks.learning_rate", "callbacks.progress", "callbacks.pruning", "trainer.gpus", "trainer.processes",
    "trainer.num_nodes", "trainer.log_every_n_steps", "trainer.profiler",
)  # fmt: skip
ABSENT = "–"  # a setting that this configuration does not have
UNSHOWN = ("sweep", "logger")  # groups of which a choice says nothing of a run
GLOBAL = ("experiment", "debug")  # groups whose choice sets keys of other groups
FIRST = ("data", "model", "model/head", "loss")  # groups that stand first
SHARED = ("pesq", "stoi", "si_sdr")  # shown together or not at all: each alone can be deceived


@dataclass(frozen=True)
class Spread:
    """A mean over the seeds where a value is defined, and their standard deviation (of a sample; NaN for n < 2)."""

    mean: float
    std: float
    n: int

    @classmethod
    def of(cls, values: Sequence[Any]) -> Spread:
        defined = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        n = len(defined)
        mean = math.fsum(defined) / n if n else math.nan
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in defined) / (n - 1)) if n > 1 else math.nan
        return cls(mean, std, n)


@dataclass
class Configuration:
    """Finished runs that differ by nothing but their seed, the best of them first."""

    runs: list[Record]
    label: str = ""
    values: dict[str, str] = field(default_factory=dict)  # of each column in which configurations differ
    alike: str = "A"  # those of one letter were scored alike
    place: int = 0  # among those

    @property
    def n(self) -> int:
        return len(self.runs)

    def spread(self, value: Callable[[Record], Any]) -> Spread:
        """Of a number of each run."""
        return Spread.of([value(run) for run in self.runs])


def validated(monitor: str) -> Callable[[Record], Any]:
    """Reads a run's ``monitor`` (``val/si_sdr``) at its best epoch."""

    def value(run: Record) -> Any:
        if run.get("monitor") == monitor:
            return run.get("best")
        return (run.get("validation") or {}).get(monitor.removeprefix("val/"))

    return value


def mean_of_test(metric: str, kind: str = "enhanced") -> Callable[[Record], Any]:
    """Reads a run's mean of ``metric`` over the test files."""
    return lambda run: ((run.get("test") or {}).get(kind) or {}).get(metric)


def heading(name: str) -> str:
    """``val/si_sdr`` → ``val SI-SDR dB``, ``val/loss`` → ``val loss``."""
    part, _, metric = name.rpartition("/")
    return f"{part} {METRICS[metric].heading if metric in METRICS else metric}".strip()


def amount(name: str, value: float, sign: bool = False) -> str:
    """A value of a metric, or of the loss, with as many digits as say something."""
    metric = name.rpartition("/")[2]
    if metric in METRICS:
        return number(metric, value, sign)
    return "n/a" if not math.isfinite(value) else f"{value:{'+' if sign else ''}.4g}"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def gather(runs: Sequence[Record]) -> list[Configuration]:
    """Group finished runs by all of their configuration but the seed, and name the groups by what differs."""
    flats = [flatten(run["config"]) for run in runs]
    # data.seed and its like follow the seed, unless they were held while that changed.
    tied = {
        key
        for flat in flats
        for key in flat
        if key.endswith(".seed") and all(other.get(key) == other.get("seed") for other in flats)
    }
    free = tuple(f"{key}." for key in FREE)
    groups: dict[str, tuple[dict[str, Any], list[Record]]] = {}
    for run, flat in zip(runs, flats, strict=True):
        kept = {key: value for key, value in flat.items() if key not in tied and not f"{key}.".startswith(free)}
        groups.setdefault(json.dumps(kept, sort_keys=True, default=str), (kept, []))[1].append(run)
    configurations = [Configuration(runs) for _, runs in groups.values()]
    _name(configurations, [flat for flat, _ in groups.values()], {key for flat in flats for key in flat})
    return configurations


def _name(configurations: Sequence[Configuration], flats: Sequence[Mapping[str, Any]], every: set[str]) -> None:
    chosen = _choices(configurations)
    columns = dict(chosen)  # {group or dotted key: its value of each configuration}
    typed = {
        override.lstrip("+~").partition("=")[0]
        for configuration in configurations
        for run in configuration.runs
        for override in run.get("overrides") or ()
    }
    varying = {key: _texts(flats, key) for key in {key for flat in flats for key in flat}}
    varying = {key: values for key, values in varying.items() if len(set(values)) > 1}
    for key in sorted(varying, key=lambda key: (key not in typed, "_target_" in key, key.count("."), key)):
        values = varying[key]
        groups = [g for g in chosen if g in GLOBAL or key.startswith(g.replace("/", ".") + ".")]
        implied = any(_decides(chosen[g], values) for g in groups)
        if key in typed or not (implied or values in columns.values()):  # an interpolation has another's value
            columns[key] = values
    short = {key: key.rpartition("/")[2] if key in chosen else _short(key, every, chosen) for key in columns}
    for index, configuration in enumerate(configurations):
        configuration.values = {short[key]: values[index] for key, values in columns.items()}
        shown = list(columns.items())[: _enough(list(columns.values()))]
        words = [v[index] if key in chosen else f"{short[key]}={v[index]}" for key, v in shown if v[index] != ABSENT]
        configuration.label = " ".join(words) or _plain_name(configuration)


def _enough(columns: Sequence[Sequence[str]]) -> int:
    """How many of the columns tell all rows apart: those a name is made of; up to four, all."""
    rows = list(zip(*columns, strict=True))
    lengths = range(min(4, len(columns)), len(columns) + 1)
    return next((n for n in lengths if len({row[:n] for row in rows}) == len(rows)), len(columns))


def _plain_name(configuration: Configuration) -> str:
    """Of the only configuration there is."""
    choices = configuration.runs[0].get("choices") or {}
    return " ".join(str(choices[group]) for group in FIRST if group in choices) or "the only one"


def _choices(configurations: Sequence[Configuration]) -> dict[str, list[str]]:
    """The groups of which configurations have different choices, and each configuration one."""
    every = dict.fromkeys([*FIRST, *(g for c in configurations for run in c.runs for g in run.get("choices") or ())])
    found = {}
    for group in every:
        sets = [{str((run.get("choices") or {}).get(group, ABSENT)) for run in c.runs} for c in configurations]
        if group not in UNSHOWN and all(len(s) == 1 for s in sets) and len(set().union(*sets)) > 1:
            found[group] = [s.pop() for s in sets]
    return found


def _decides(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the value in ``other`` follows from that in ``one``."""
    return len(set(zip(one, other, strict=True))) == len(set(one))


def _short(key: str, every: set[str], taken: Mapping[str, Any]) -> str:
    """The shortest end of a dotted key that no other key ends with."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if end not in taken and sum(other == end or other.endswith(f".{end}") for other in every) == 1:
            return end
    return key


def _texts(flats: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Its value of each, with as few digits as tell them apart."""

    def text(flat: Mapping[str, Any], digits: int) -> str:
        value = flat.get(key, ABSENT)
        if isinstance(value, bool) or value is None:
            return json.dumps(value)
        return f"{value:.{digits}g}" if isinstance(value, float) else str(value)

    exact = [text(flat, 17) for flat in flats]
    texts = ([text(flat, digits) for flat in flats] for digits in (4, 8))
    return next((shorter for shorter in texts if len(set(shorter)) == len(set(exact))), exact)


def last_line(text: Any) -> str:
    """One line of a reason."""
    return re.sub(r"\s+", " ", str(text)).strip()
