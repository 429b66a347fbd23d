"""Configurations in the order of their validation score."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from denoiser.errors import ConfigError
from denoiser.ranking import conditions
from denoiser.ranking.bootstrap import Interval, Scores
from denoiser.ranking.configuration import (
    MAIN_METRICS,
    Configuration,
    Record,
    SeedStatistics,
    group,
    validation_value,
)


@dataclass
class Ranking:
    """Configurations, the best by validation first, and the runs that cannot be ranked.

    Those that were scored under other conditions than most come last and have a note. ``reference`` is the
    configuration that ``intervals`` compare with others on the test files: reference minus other.
    """

    configurations: list[Configuration]
    monitor: str = "val/loss"
    mode: str = "min"
    unranked: list[tuple[Record, str]] = field(default_factory=list)  # a record, and a name for it
    notes: list[str] = field(default_factory=list)
    scores: dict[str, Scores] = field(default_factory=dict)  # of the test files, by run folder
    reference: Configuration | None = None
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)  # {label: {metric: interval}}

    @property
    def best(self) -> Configuration | None:
        return self.configurations[0] if self.configurations else None

    @property
    def comparable(self) -> list[Configuration]:
        """The configurations that were scored under the same conditions."""
        return [c for c in self.configurations if not c.note]

    @property
    def columns(self) -> list[str]:
        """The settings in which configurations differ."""
        return list(self.configurations[0].values) if self.configurations else []

    @property
    def metrics(self) -> list[str]:
        """All metrics of validation and test; PESQ, STOI and SI-SDR first."""
        names = list(MAIN_METRICS)
        for run in (run for c in self.configurations for run in c.runs):
            for scores in (run.get("validation"), (run.get("test") or {}).get("enhanced")):
                names += [name for name in scores or () if name not in ("n", "loss", *names)]
        return names

    def quality(self, configuration: Configuration) -> SeedStatistics:
        """Return the monitored value over seeds."""
        return configuration.over_seeds(validation_value(self.monitor))

    def order(self, configuration: Configuration) -> float:
        """Return a key that sorts the best first, and an unknown quality last."""
        mean = self.quality(configuration).mean
        if not math.isfinite(mean):
            return math.inf
        return -mean if self.mode == "max" else mean

    def cost(self, configuration: Configuration) -> float:
        """Return multiply-accumulates per second of audio."""
        return configuration.over_seeds(lambda run: run.get("macs_per_second")).mean

    def seed_deviation(self) -> SeedStatistics:
        """Return the pooled standard deviation over seeds as ``std``; ``n`` configurations have several seeds."""
        spreads = [s for s in map(self.quality, self.comparable) if s.n > 1]
        if not spreads:
            return SeedStatistics(math.nan, math.nan, 0)
        variance = sum((s.n - 1) * s.std**2 for s in spreads) / sum(s.n - 1 for s in spreads)
        return SeedStatistics(math.nan, math.sqrt(variance), len(spreads))

    def find(self, name: str) -> Configuration:
        """Return the configuration of this place, label or run folder; raises ConfigError if there is none."""
        name = name.strip()
        for configuration in self.configurations:
            folders = [run["folder"] for run in configuration.runs]
            names = {str(configuration.place), configuration.label, *folders, *(Path(f).name for f in folders)}
            if name in names:
                return configuration
        labels = ", ".join(c.label for c in self.configurations)
        raise ConfigError(f"no configuration {name}; give a place in the table or one of: {labels}")


def build(records: Sequence[Record]) -> Ranking:
    """Group the finished runs among these records and sort them by the validation score that most of them monitor."""
    records = [_whole(run) for run in records]
    finished = [run for run in records if run["status"] == "finished"]
    ranking = Ranking([])
    if finished:
        notes = conditions.differences(finished)
        kept = _newest(group(finished, notes))
        (monitor, mode), _ = Counter((run["monitor"], run["mode"]) for run in finished).most_common(1)[0]
        ranking = Ranking(group(kept, notes), monitor, mode)
        _sort(ranking)
        if noted := len(ranking.configurations) - len(ranking.comparable):
            ranking.notes.append(
                f"{noted} of the configurations cannot be compared with the others: see the column 'note'"
            )
        if older := len(finished) - len(kept):
            ranking.notes.append(f"{older} left out: the same configuration and seed was run again later")
    for run in records:
        if run["status"] != "finished":
            overrides = " ".join(map(str, run.get("overrides") or ()))
            ranking.unranked.append((run, overrides or run.get("name") or Path(run["folder"]).name))
    return ranking


def _whole(run: Record) -> Record:
    """Return a record that can be ranked, or one that says why it cannot."""
    expected = {"config": dict, "monitor": str, "mode": str}
    missing = [key for key, kind in expected.items() if not isinstance(run.get(key), kind)]
    if run["status"] != "finished" or not missing:
        return run
    return {"folder": run["folder"], "status": "damaged", "reason": f"the record has no {', '.join(missing)}"}


def _newest(configurations: Sequence[Configuration]) -> list[Record]:
    """Return the last run of each configuration and seed: a seed that ran twice counts once."""
    kept: list[Record] = []
    for configuration in configurations:
        by_seed = {}
        for run in sorted(configuration.runs, key=lambda run: str(run.get("ended"))):
            by_seed[str(run.get("seed"))] = run
        kept += by_seed.values()
    return kept


def _sort(ranking: Ranking) -> None:
    """Sort configurations and their runs, the best first, and number them."""
    for configuration in ranking.configurations:
        configuration.runs.sort(key=lambda run: ranking.order(Configuration([run])))
    ranking.configurations.sort(key=lambda c: (c.note != "", ranking.order(c), c.label))
    for place, configuration in enumerate(ranking.configurations, 1):
        configuration.place = place
