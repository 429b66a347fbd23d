"""Runs of one configuration, and the settings in which configurations differ."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from denoiser.training.record import as_now

Record = dict[str, Any]  # the content of a run's run.json, and its folder
MAIN_METRICS = ("pesq", "stoi", "si_sdr")  # shown together or not at all: each alone can be deceived

# Settings, or groups of them, that do not decide what a run learns, with those of earlier versions. The seed is among
# them: runs that differ by nothing else are one configuration.
FREE = (
    "seed", "name", "ckpt_path", "new_sweep", "fresh", "test", "clips", "logger", "deterministic",
    "metric_workers", "scorers", "mode", "data.cache", "data.device", "data.download", "data.licence", "data.workers",
    "callbacks.best", "callbacks.last", "callbacks.clips", "callbacks.diverged", "callbacks.learning_rate",
    "callbacks.progress", "callbacks.pruning", "trainer.gpus", "trainer.processes", "trainer.num_nodes",
    "trainer.log_every_n_steps", "trainer.profiler",
)  # fmt: skip
ABSENT = "–"  # shown for a setting that a configuration does not have
HIDDEN_GROUPS = ("sweep", "logger")  # a choice in these says nothing about the run
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

    ``note`` says in which conditions their scores differ from those of most runs; ``values`` holds the text of each
    setting in which configurations differ.
    """

    runs: list[Record]
    note: str = ""
    label: str = ""
    values: dict[str, str] = field(default_factory=dict)
    place: int = 0

    def over_seeds(self, name: str) -> SeedStatistics:
        """Return the statistics of the :func:`value` called ``name``."""
        return SeedStatistics.of([value(run, name) for run in self.runs])


def value(run: Record, name: str) -> Any:
    """Return a value of a run.

    ``val/...`` is a metric at its best epoch, ``test/...`` and ``noisy/...`` are means over the enhanced and the noisy
    test files, ``audio_hours`` is what it trained on, and any other name is an entry of its record.
    """
    part, _, metric = name.partition("/")
    test = run.get("test") or {}
    scores = {"val": run.get("validation"), "test": test.get("enhanced"), "noisy": test.get("noisy")}
    if name == run.get("monitor"):
        return run.get("best")
    if name == "audio_hours":
        steps = max((row.get("step") or 0 for row in run.get("curve") or ()), default=0)
        options = (run.get("config") or {}).get("trainer") or {}
        batches = steps * (options.get("accumulate_grad_batches") or 1)
        return batches * (run.get("batch_audio_seconds") or 0) / 3600 or None
    return (scores[part] or {}).get(metric) if part in scores else run.get(name)


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
    """Group runs by their settings but the seed, and by their folder's note; of one seed, the last run counts."""
    runs = sorted(runs, key=lambda run: str(run.get("ended")))
    flats = [flatten(as_now(run["config"])) for run in runs]
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
    """Give every configuration the values in which they differ, and a label made of them.

    First come chosen groups, then typed overrides, then other settings as far as they are needed to tell rows apart.
    """
    every = [configuration.runs[0].get("choices") or {} for configuration in configurations]
    columns = {}
    for name in dict.fromkeys([*FIRST_GROUPS, *(name for choices in every for name in choices)]):
        values = [str(choices.get(name, ABSENT)) for choices in every]
        if name not in HIDDEN_GROUPS and len({*values} - {ABSENT}) > 1:
            columns[name] = values
    groups = list(columns)
    overrides = [override for c in configurations for run in c.runs for override in run.get("overrides") or ()]
    typed = {str(override).lstrip("+~").partition("=")[0] for override in overrides}
    # An empty group, as of augment=none, is a setting of the group's own name.
    beside_groups = set().union(*settings) - columns.keys()
    for key in sorted(beside_groups, key=lambda key: (key not in typed, key)):
        values = [_text(flat.get(key, ABSENT)) for flat in settings]
        others = [] if key in typed else list(columns.values())
        if _rows([*others, values]) > max(1, _rows(others)):
            columns[key] = values
    ends = [key.replace("/", ".").rpartition(".")[2] for key in columns]
    short = {key: end if ends.count(end) == 1 else key for key, end in zip(columns, ends, strict=True)}
    for index, configuration in enumerate(configurations):
        own = {key: column[index] for key, column in columns.items()}
        configuration.values = {short[key]: text for key, text in own.items()}
        words = [text if key in groups else f"{short[key]}={text}" for key, text in own.items() if text != ABSENT]
        configuration.label = " ".join(words) or str(configuration.runs[0].get("name"))
        if configuration.note:
            configuration.label += " (scored otherwise)"


def _rows(columns: Sequence[Sequence[str]]) -> int:
    return len(set(zip(*columns, strict=True)))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)
