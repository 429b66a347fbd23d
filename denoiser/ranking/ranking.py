"""Configurations in the order of their validation score."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from denoiser import filesystem
from denoiser.errors import ConfigError
from denoiser.evaluation.tables import number
from denoiser.ranking import bootstrap
from denoiser.ranking.bootstrap import Interval
from denoiser.ranking.configuration import MAIN_METRICS, Configuration, Record, flatten, group, value
from denoiser.training.layout import SPLIT

PACKAGES = ("denoiser", "pesq", "pystoi")


@dataclass
class Ranking:
    """Configurations, the best by validation first, and the runs that cannot be ranked.

    Those that were scored under other conditions than most come last and have a note. ``intervals`` are of others minus
    the configuration labelled ``reference``, on the test files: ``{label: {metric: interval}}``.
    """

    configurations: list[Configuration] = field(default_factory=list)
    monitor: str = "val/loss"
    mode: str = "min"
    unranked: list[tuple[Record, str]] = field(default_factory=list)  # a record, and a name for it
    notes: list[str] = field(default_factory=list)
    reference: str = ""
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)

    @property
    def runs(self) -> list[Record]:
        return [run for configuration in self.configurations for run in configuration.runs]

    @property
    def comparable(self) -> list[Configuration]:
        return [c for c in self.configurations if not c.note]

    @property
    def tested(self) -> bool:
        return any(run.get("test") for run in self.runs)

    @property
    def metrics(self) -> list[str]:
        """All metrics of validation and test; PESQ, STOI and SI-SDR first."""
        names = [*MAIN_METRICS]
        for run in self.runs:
            names += [*(run.get("validation") or ()), *((run.get("test") or {}).get("enhanced") or ())]
        return [name for name in dict.fromkeys(names) if name not in ("n", "loss")]

    def order(self, configuration: Configuration) -> float:
        """Return a key that sorts the best first, and an unknown quality last."""
        mean = configuration.over_seeds(self.monitor).mean * (-1 if self.mode == "max" else 1)
        return mean if math.isfinite(mean) else math.inf

    def find(self, name: str) -> Configuration:
        """Return the configuration of this place, label or run folder; raises ConfigError if there is none."""
        name = name.strip()
        for configuration in self.configurations:
            folders = [run["folder"] for run in configuration.runs]
            if name in (str(configuration.place), configuration.label, *folders, *(Path(f).name for f in folders)):
                return configuration
        labels = ", ".join(c.label for c in self.configurations)
        raise ConfigError(f"no configuration {name}; give a place in the table or one of: {labels}")

    def compare(self, others: Sequence[Configuration], reference: Configuration) -> None:
        """Compare configurations with ``reference`` on the test files by the paired bootstrap."""
        self.reference = reference.label
        theirs = bootstrap.of_configuration(reference)
        self.intervals = {c.label: bootstrap.compare(bootstrap.of_configuration(c), theirs) for c in others}


def build(records: Sequence[Record]) -> Ranking:
    """Group the finished runs among these records and sort them by the validation score that most of them monitor."""
    expected = {"config": dict, "monitor": str, "mode": str}
    for run in records:
        missing = [key for key, kind in expected.items() if not isinstance(run.get(key), kind)]
        if run["status"] == "finished" and missing:
            run |= {"status": "damaged", "reason": f"the record has no {', '.join(missing)}"}
    finished = [run for run in records if run["status"] == "finished"]
    ranking = Ranking()
    if finished:
        (ranking.monitor, ranking.mode), _ = Counter((run["monitor"], run["mode"]) for run in finished).most_common()[0]
        ranking.configurations = group(finished, _notes(finished))
        for configuration in ranking.configurations:
            configuration.runs.sort(key=lambda run: ranking.order(Configuration([run])))
        ranking.configurations.sort(key=lambda c: (c.note != "", ranking.order(c), c.label))
        for place, configuration in enumerate(ranking.configurations, 1):
            configuration.place = place
    if noted := len(ranking.configurations) - len(ranking.comparable):
        ranking.notes.append(f"{noted} of the configurations cannot be compared with the others: see their note")
    if older := len(finished) - len(ranking.runs):
        ranking.notes.append(f"{older} left out: the same configuration and seed was run again later")
    for run in records:
        if run["status"] != "finished":
            overrides = " ".join(map(str, run.get("overrides") or ()))
            ranking.unranked.append((run, overrides or run.get("name") or Path(run["folder"]).name))
    return ranking


def _notes(runs: Sequence[Record]) -> dict[str, str]:
    """Return a note for each run that was scored under other conditions than most, by folder."""
    found = {run["folder"]: _conditions(run) for run in runs}
    counts = Counter(condition for conditions in found.values() for condition in conditions.items())
    # The most common text of each condition is the last one.
    usual = dict(condition for condition, _ in reversed(counts.most_common()))
    notes = {}
    for folder, conditions in found.items():
        if changed := [f"other {key} ({text})" for key, text in conditions.items() if text != usual[key]]:
            notes[folder] = ", ".join(changed)
    return notes


def _conditions(run: Record) -> dict[str, str]:
    """Return all that has to be equal for scores to be comparable, in words; test files only after a test."""
    versions = run.get("versions") or {}
    conditions = {
        "monitor": f"{run['monitor']}, {run['mode']}",
        "sample rate": f"{flatten(run['config']).get('spectral.sample_rate')} Hz",
        "validation files": f"{value(run, 'val/n')}{_list(run, 'val')}",
        "versions": ", ".join(f"{package} {versions.get(package)}" for package in PACKAGES),
    }
    if run.get("test"):
        # The mean score of the noisy files tells their sound apart, which names do not.
        noisy = number("si_sdr", Configuration([run]).over_seeds("noisy/si_sdr").mean)
        conditions["test files"] = f"{run['test'].get('n')}{_list(run, 'test')}, noisy SI-SDR {noisy} dB"
    return conditions


def _list(run: Record, part: str) -> str:
    """Return a digest of the file names of ``val`` or ``test``; empty if they are not known."""
    try:
        names = json.loads(filesystem.read_text(Path(run["folder"], SPLIT)))[part]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    return f", list {hashlib.sha256(json.dumps(names).encode()).hexdigest()[:6]}"
