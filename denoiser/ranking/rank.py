"""Ranking of the runs below some folders: read, compare, print, write."""

from collections.abc import Sequence
from pathlib import Path

from denoiser.errors import ConfigError
from denoiser.ranking import ablation, bootstrap, page, tables
from denoiser.ranking.configuration import MAIN_METRICS
from denoiser.ranking.ranking import Ranking, build
from denoiser.training import record


def rank(
    folders: Sequence[str | Path],
    out: str | Path = "",
    compare: Sequence[str] = (),
    write_page: bool = True,
    sounds: bool = True,
    base: str = "",
) -> Ranking:
    """Rank the runs below these folders, print the table and write it.

    Args:
        folders: ``run.json`` is looked for in them at any depth.
        out: the folder of ``ranking.csv``, ``.md`` and ``.html``; default: the first of ``folders``.
        compare: two configurations, by place, name or a run's folder; default: the best with each other.
        write_page: write the HTML page too.
        sounds: put players of the clips that each run wrote on the page.
        base: a configuration, named likewise. Then only ``ablation.md`` is written, or ``out`` if that ends in .md.

    Raises ConfigError if a folder does not exist, no run is found, or ``compare`` or ``base`` names none.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"runs={folder}: no such folder")
    ranking = build(record.find(folders))
    if not ranking.configurations and not ranking.unranked:
        raise ConfigError(
            f"runs={', '.join(map(str, folders))}: no {record.RECORD} below; a run writes one when it ends"
        )
    target = Path(out or folders[0])
    if base:
        path = target if target.suffix == ".md" else target / "ablation.md"
        print(ablation.write(ranking, ranking.find(base), path))
        return ranking
    _compare(ranking, compare)
    # Names may hold characters that the terminal's encoding lacks.
    print(tables.terminal(ranking).encode(errors="backslashreplace").decode())
    written = [
        tables.write_csv(ranking, target / "ranking.csv"),
        tables.write_markdown(ranking, target / "ranking.md"),
    ]
    if write_page:
        written.append(page.write(ranking, target / "ranking.html", sounds))
    print("", *written, sep="\n")
    return ranking


def _compare(ranking: Ranking, pair: Sequence[str]) -> None:
    """Compare configurations on the test files by the paired bootstrap: a pair, or the best with each other."""
    chosen = [ranking.find(name) for name in pair] or ranking.comparable
    if not chosen:
        return
    ranking.reference, *others = chosen
    if ranking.reference in others:
        raise ConfigError(f"compare={','.join(pair)}: both name {ranking.reference.label}; give two")
    mine = bootstrap.of_configuration(ranking.reference)
    for other in others:
        intervals = bootstrap.compare(mine, bootstrap.of_configuration(other), MAIN_METRICS)
        ranking.intervals[other.label] = intervals
