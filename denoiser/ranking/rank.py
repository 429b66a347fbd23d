"""Which configuration is best: all runs of some folders, grouped over seeds and sorted by validation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from denoiser.errors import ConfigError, DenoiserError
from denoiser.ranking import bootstrap
from denoiser.ranking.bootstrap import Interval, Scores
from denoiser.ranking.comparability import divide
from denoiser.ranking.configuration import (
    SHARED,
    Configuration,
    Record,
    Spread,
    gather,
    validated,
)
from denoiser.ranking.validation import checked
from denoiser.training import record

NAME = "ranking"  # of the files, .csv, .md and .html


@dataclass
class Ranking:
    """Configurations, the best by validation first, and what became of the runs that cannot be ranked.

    ``notes`` are lines that a reader has to know before the numbers. ``reference`` is the configuration that
    ``intervals`` compares with each other: reference minus other, of the test files.
    """

    configurations: list[Configuration]
    monitor: str = "val/loss"
    mode: str = "min"
    unranked: list[tuple[Record, str]] = field(default_factory=list)  # and what it is called
    notes: list[str] = field(default_factory=list)
    reference: Configuration | None = None
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)  # {label: {metric: ...}}
    facts: dict[str, dict[str, str]] = field(default_factory=dict)  # of each test file
    scores: dict[str, Scores] = field(default_factory=dict)  # of each run's folder

    @property
    def best(self) -> Configuration | None:
        return self.configurations[0] if self.configurations else None

    @property
    def letters(self) -> bool:
        """Whether not all were scored alike."""
        return len({c.alike for c in self.configurations}) > 1

    @property
    def columns(self) -> list[str]:
        """In what the configurations differ."""
        return list(self.configurations[0].values) if self.configurations else []

    @property
    def metrics(self) -> list[str]:
        """Those of any validation or test; PESQ, STOI and SI-SDR together."""
        parts = [run.get("validation") or {} for c in self.configurations for run in c.runs]
        parts += [(run.get("test") or {}).get("enhanced") or {} for c in self.configurations for run in c.runs]
        names = list(dict.fromkeys(name for part in parts for name in part if name not in ("n", "loss")))
        return [*SHARED, *(name for name in names if name not in SHARED)]

    def quality(self, configuration: Configuration) -> Spread:
        """The monitored value, over seeds."""
        return configuration.spread(validated(self.monitor))

    def gain(self, one: Configuration, other: Configuration) -> float:
        """By how much ``one`` is better, in the units of the monitor."""
        difference = self.quality(one).mean - self.quality(other).mean
        return difference if self.mode == "max" else -difference

    def cost(self, configuration: Configuration) -> float:
        """MACs per second of audio."""
        return configuration.spread(lambda run: run.get("macs_per_second")).mean

    def comparable(self) -> list[Configuration]:
        """Those that were scored as the best was."""
        return [c for c in self.configurations if c.alike == self.configurations[0].alike]

    def chance(self) -> tuple[float, int]:
        """The standard deviation over seeds, pooled, and of how many configurations; NaN and 0 without seeds."""
        spreads = [s for s in map(self.quality, self.comparable()) if s.n > 1 and math.isfinite(s.std)]
        if not spreads:
            return math.nan, 0
        freedom = sum(s.n - 1 for s in spreads)
        return math.sqrt(sum((s.n - 1) * s.std**2 for s in spreads) / freedom), len(spreads)


def rank(
    folder: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    compare: tuple[str, str] | None = None,
    page: bool = True,
    sounds: bool = True,
    base: str | None = None,
) -> Ranking:
    """Rank the runs below ``folder`` (or several), write the table and the page into ``out`` and print the table.

    Args:
        folder: where ``run.json`` is looked for, at any depth.
        out: the folder of ``ranking.csv``, ``ranking.md`` and ``ranking.html``; default: the (first) folder itself.
        compare: two configurations to compare on the test files, each by its place, name or a run's folder; default:
            the best with each other.
        page: write the HTML page too.
        sounds: enhance a few test clips with every configuration for the page.
        base: a configuration, named as for ``compare``; only ``ablation.md`` is written then, of what each change from
            it is worth, into ``out`` or under that name if it ends in ``.md``.

    Raises ConfigError where a folder does not exist, no run is found, or ``compare`` or ``base`` names none.
    """
    from denoiser.ranking import text  # which shows what is defined here

    folders = [Path(folder)] if isinstance(folder, str | Path) else [Path(f) for f in folder]
    if missing := [f for f in folders if not f.is_dir()]:
        raise ConfigError(f"runs={missing[0]}: no such folder")
    ranking = of(_records(folders))
    if not ranking.configurations and not ranking.unranked:
        where = ", ".join(map(str, folders))
        raise ConfigError(f"runs={where}: no {record.RECORD} below; a run writes one when it ends")
    _compare(ranking, compare)
    target = Path(out) if out is not None else folders[0]
    if base is not None:
        from denoiser.ranking import ablation

        ranking.reference = _find(ranking, base)
        print(ablation.write(ranking, target if target.suffix == ".md" else target / "ablation.md"))
        return ranking
    print(text.terminal(ranking).encode(errors="backslashreplace").decode())  # names that no encoding has
    written = text.write(ranking, target / NAME)
    if page:
        from denoiser.ranking import page as html_page  # Lightning is slow to import

        written.append(html_page.write(ranking, target / f"{NAME}.html", sounds))
    print("", *written, sep="\n")
    return ranking


def _records(folders: Sequence[Path]) -> list[Record]:
    """Every record below the folders, once; of a damaged one its status and reason."""
    found = {Path(run["folder"]).resolve(): run for run in record.find(folders)}
    for path in sorted({path for folder in folders for path in folder.rglob(record.RECORD)}):
        if path.parent.resolve() not in found:
            try:
                record.read(path.parent)
            except DenoiserError as error:
                damaged = {"status": "damaged", "reason": str(error), "folder": str(path.parent)}
                found[path.parent.resolve()] = damaged
    return list(found.values())


def of(records: Sequence[Record]) -> Ranking:
    """The ranking of these records: within each letter, by the monitored validation metric, the best first."""
    records = [checked(run) for run in records]
    finished = [run for run in records if run.get("status") == "finished"]
    finished, older = _newest(finished)
    labelled = gather(finished)
    if not labelled:
        ranking = Ranking([])
    else:
        (monitor, mode), _ = Counter((run.get("monitor"), run.get("mode")) for run in finished).most_common(1)[0]
        ranking = Ranking(labelled, str(monitor), str(mode))
        ranking.notes += divide(labelled)
        counts = Counter(letter for c in labelled for letter in c.alike.split("/") for _ in c.runs)
        for configuration in labelled:
            configuration.runs.sort(key=lambda run: order(ranking, Spread.of([validated(ranking.monitor)(run)])))
        labelled.sort(key=lambda c: (-counts[c.alike], c.alike, order(ranking, ranking.quality(c)), c.label))
        places: Counter[str] = Counter()
        for configuration in labelled:
            places[configuration.alike] += 1
            configuration.place = places[configuration.alike]
    if older:
        ranking.notes.append(f"{older} left out: the same configuration and seed was run again later")
    for run in records:
        if run.get("status") != "finished":
            words = " ".join(map(str, run.get("overrides") or ())) or run.get("name") or Path(run["folder"]).name
            ranking.unranked.append((run, str(words)))
    return ranking


def _newest(runs: Sequence[Record]) -> tuple[list[Record], int]:
    """The last of each configuration and seed, and how many others there are: seeds are to be counted once."""
    last: dict[tuple[int, object], Record] = {}
    groups = [configuration.runs for configuration in gather(runs)]
    for index, group in enumerate(groups):
        for run in sorted(group, key=lambda run: str(run.get("ended") or run.get("started"))):
            last[index, run.get("seed")] = run
    kept = [run for run in runs if any(run is other for other in last.values())]
    return kept, len(runs) - len(kept)


def order(ranking: Ranking, quality: Spread) -> float:
    """A key that sorts the best first, and what is not known last."""
    if not math.isfinite(quality.mean):
        return math.inf
    return -quality.mean if ranking.mode == "max" else quality.mean


def _compare(ranking: Ranking, pair: tuple[str, str] | None) -> None:
    averages = {}
    for configuration in ranking.configurations:
        for run in configuration.runs:
            ranking.scores[run["folder"]], facts = bootstrap.read_scores(Path(run["folder"]))
            ranking.facts |= facts
        every = [ranking.scores[run["folder"]] for run in configuration.runs]
        averages[configuration.label] = bootstrap.average([scores for scores in every if scores])
    if not ranking.configurations:
        return
    if pair:
        ranking.reference, *others = (_find(ranking, name) for name in pair)
        if ranking.reference is others[0]:
            raise ConfigError(f"compare={','.join(pair)}: both name {ranking.reference.label}; give two")
    else:
        ranking.reference, others = ranking.configurations[0], ranking.comparable()[1:]
    mine = averages[ranking.reference.label]
    for other in others:
        ranking.intervals[other.label] = bootstrap.compare(mine, averages[other.label], ranking.metrics)


def _find(ranking: Ranking, name: str) -> Configuration:
    """By place, by label, or by the folder of one of its runs."""
    name = name.strip()
    for c in ranking.configurations:
        folders = {part for run in c.runs for part in (run["folder"], Path(run["folder"]).name)}
        if name == c.label or name in folders or (name == str(c.place) and c.alike == ranking.configurations[0].alike):
            return c
    labels = ", ".join(c.label for c in ranking.configurations)
    raise ConfigError(f"no configuration {name}; give a place in the table or one of: {labels}")


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the Pareto front of (cost, quality): none is cheaper and at least as good; by cost."""
    order = sorted(
        (i for i, (cost, quality) in enumerate(points) if math.isfinite(cost) and math.isfinite(quality)),
        key=lambda i: (points[i][0], -points[i][1]),
    )
    best, kept = -math.inf, []
    for i in order:
        if points[i][1] > best:
            best = points[i][1]
            kept.append(i)
    return kept
