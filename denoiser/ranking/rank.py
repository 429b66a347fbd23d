"""Ranking of the runs below some folders: read, compare, print, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from denoiser.errors import ConfigError
from denoiser.ranking import ablation, bootstrap, page, tables
from denoiser.ranking.configuration import Record
from denoiser.ranking.ranking import Ranking, build
from denoiser.training import record

NAME = "ranking"  # of the files, .csv, .md and .html


def rank(
    folders: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    compare: tuple[str, str] | None = None,
    write_page: bool = True,
    sounds: bool = True,
    base: str | None = None,
) -> Ranking:
    """Rank the runs below these folders, print the table and write it.

    Args:
        folders: one or several, in which ``run.json`` is looked for at any depth.
        out: the folder of ``ranking.csv``, ``ranking.md`` and ``ranking.html``; default: the first of ``folders``.
        compare: two configurations to compare on the test files, each by its place, its name or a run's folder;
            default: the best with each other.
        write_page: write the HTML page too.
        sounds: put players of the clips that each run wrote on the page.
        base: a configuration, named as for ``compare``. Then only ``ablation.md`` is written: the gain of each change
            from it. ``out`` may be the name of that file.

    Raises ConfigError if a folder does not exist, no run is found, or ``compare`` or ``base`` names none.
    """
    places = [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
    ranking = build(_read(places))
    if not ranking.configurations and not ranking.unranked:
        raise ConfigError(
            f"runs={', '.join(map(str, places))}: no {record.RECORD} below; a run writes one when it ends"
        )
    _compare(ranking, compare)
    target = places[0] if out is None else Path(out)
    if base is not None:
        path = target if target.suffix == ".md" else target / "ablation.md"
        print(ablation.write(ranking, ranking.find(base), path))
        return ranking
    # Names may hold characters that the terminal's encoding lacks.
    print(tables.terminal(ranking).encode(errors="backslashreplace").decode())
    written = [
        tables.write_csv(ranking, target / f"{NAME}.csv"),
        tables.write_markdown(ranking, target / f"{NAME}.md"),
    ]
    if write_page:
        written.append(page.write(ranking, target / f"{NAME}.html", sounds))
    print("", *written, sep="\n")
    return ranking


def _read(folders: Sequence[Path]) -> list[Record]:
    """Read every record below the folders, once; for a damaged one its status and the reason."""
    records: dict[Path, Record] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"runs={folder}: no such folder")
        for path in sorted(folder.rglob(record.RECORD)):
            run = path.parent
            try:
                found = record.read(run)
            except record.RecordError as error:
                found = {"status": "damaged", "reason": str(error)}
            records.setdefault(run.resolve(), {**found, "folder": str(run)})
    return list(records.values())


def _compare(ranking: Ranking, pair: tuple[str, str] | None) -> None:
    """Read the scores of all test files and compare configurations by the paired bootstrap."""
    if ranking.best is None:
        return
    for configuration in ranking.configurations:
        for run in configuration.runs:
            ranking.scores[run["folder"]] = bootstrap.read_scores(Path(run["folder"]))
    if pair is None:
        ranking.reference, others = ranking.best, ranking.comparable[1:]
    else:
        ranking.reference, other = (ranking.find(name) for name in pair)
        others = [other]
        if ranking.reference is other:
            raise ConfigError(f"compare={','.join(pair)}: both name {other.label}; give two")
    mine = bootstrap.of_configuration(ranking.scores, ranking.reference)
    for other in others:
        theirs = bootstrap.of_configuration(ranking.scores, other)
        ranking.intervals[other.label] = bootstrap.compare(mine, theirs, ranking.metrics)
