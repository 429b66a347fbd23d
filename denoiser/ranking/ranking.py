"""Configurations in the order of their validation score."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from denoiser.errors import ConfigError
from denoiser.ranking import conditions
from denoiser.ranking.bootstrap import Interval
from denoiser.ranking.configuration import MAIN_METRICS, Configuration, Record, group


@dataclass
class Ranking:
    """Configurations, the best by validation first, and the runs that cannot be ranked.

    Those that were scored under other conditions than most come last and have a note. ``reference`` is the
    configuration that ``intervals`` compare with others on the test files: reference minus other.
    """

    configurations: list[Configuration] = field(default_factory=list)
    monitor: str = "val/loss"
    mode: str = "min"
    unranked: list[tuple[Record, str]] = field(default_factory=list)  # a record, and a name for it
    notes: list[str] = field(default_factory=list)
    reference: Configuration | None = None
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)  # {label: {metric: interval}}

    @property
    def runs(self) -> list[Record]:
        return [run for configuration in self.configurations for run in configuration.runs]

    @property
    def comparable(self) -> list[Configuration]:
        """The configurations that were scored under the same conditions."""
        return [c for c in self.configurations if not c.note]

    @property
    def columns(self) -> list[str]:
        """The settings in which configurations differ."""
        return list(self.configurations[0].values) if self.configurations else []

    @property
    def tested(self) -> bool:
        return any(run.get("test") for run in self.runs)

    @property
    def metrics(self) -> list[str]:
        """All metrics of validation and test; PESQ, STOI and SI-SDR first."""
        names = dict.fromkeys(MAIN_METRICS)
        for run in self.runs:
            names |= dict.fromkeys(run.get("validation") or ())
            names |= dict.fromkeys((run.get("test") or {}).get("enhanced") or ())
        return [name for name in names if name not in ("n", "loss")]

    def order(self, configuration: Configuration) -> float:
        """Return a key that sorts the best first, and an unknown quality last."""
        mean = configuration.over_seeds(self.monitor).mean
        if not math.isfinite(mean):
            return math.inf
        return -mean if self.mode == "max" else mean

    def find(self, name: str) -> Configuration:
        """Return the configuration of this place, label or run folder; raises ConfigError if there is none."""
        name = name.strip()
        for configuration in self.configurations:
            folders = [run["folder"] for run in configuration.runs]
            if name in (str(configuration.place), configuration.label, *folders, *(Path(f).name for f in folders)):
                return configuration
        labels = ", ".join(c.label for c in self.configurations)
        raise ConfigError(f"no configuration {name}; give a place in the table or one of: {labels}")


def build(records: Sequence[Record]) -> Ranking:
    """Group the finished runs among these records and sort them by the validation score that most of them monitor."""
    records = [_checked(run) for run in records]
    finished = [run for run in records if run["status"] == "finished"]
    ranking = Ranking()
    if finished:
        notes = conditions.differences(finished)
        (ranking.monitor, ranking.mode), _ = Counter((run["monitor"], run["mode"]) for run in finished).most_common()[0]
        ranking.configurations = group(finished, notes)
        for configuration in ranking.configurations:
            configuration.runs.sort(key=lambda run: ranking.order(Configuration([run])))
        ranking.configurations.sort(key=lambda c: (c.note != "", ranking.order(c), c.label))
        for place, configuration in enumerate(ranking.configurations, 1):
            configuration.place = place
        if noted := len(ranking.configurations) - len(ranking.comparable):
            ranking.notes.append(
                f"{noted} of the configurations cannot be compared with the others: see the column 'note'"
            )
        if older := len(finished) - len(ranking.runs):
            ranking.notes.append(f"{older} left out: the same configuration and seed was run again later")
    for run in records:
        if run["status"] != "finished":
            overrides = " ".join(map(str, run.get("overrides") or ()))
            ranking.unranked.append((run, overrides or run.get("name") or Path(run["folder"]).name))
    return ranking


def _checked(run: Record) -> Record:
    """Return a record that can be ranked, or one that says why it cannot."""
    expected = {"config": dict, "monitor": str, "mode": str}
    missing = [key for key, kind in expected.items() if not isinstance(run.get(key), kind)]
    if run["status"] != "finished" or not missing:
        return run
    return {"folder": run["folder"], "status": "damaged", "reason": f"the record has no {', '.join(missing)}"}
