"""Ranking of the runs below some folders."""

from collections.abc import Sequence
from pathlib import Path

from denoiser.errors import ConfigError
from denoiser.filesystem import write_text
from denoiser.ranking import ablation, page, tables
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
    """Rank the runs below these folders, at any depth, print the table and write it.

    The settings are those of ``python -m denoiser rank``. Raises ConfigError if a folder does not exist, no run is
    found, or ``compare`` or ``base`` names none.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(f"runs={folder}: no such folder")
    ranking = build(record.find(folders))
    if not ranking.configurations and not ranking.unranked:
        raise ConfigError(f"runs={', '.join(map(str, folders))}: no {record.RECORD} below")
    target = Path(out or folders[0])
    if base:
        path = target if target.suffix == ".md" else target / "ablation.md"
        write_text(path, ablation.text(ranking, ranking.find(base)))
        print(path)
        return ranking
    chosen = [ranking.find(name) for name in compare]
    if chosen and chosen[0] is chosen[1]:
        raise ConfigError(f"compare={','.join(compare)}: both name {chosen[0].label}; give two")
    if chosen:
        ranking.compare(chosen[:1], chosen[1])
    elif ranking.comparable:
        ranking.compare(ranking.comparable[1:], ranking.comparable[0])
    # Names may hold characters that the terminal's encoding lacks.
    print(tables.report(ranking, tables.main_names(ranking)).encode(errors="backslashreplace").decode())
    write_text(target / "ranking.csv", tables.csv_text(ranking))
    write_text(target / "ranking.md", f"{tables.report(ranking, tables.all_names(ranking))}\n")
    written = ["ranking.csv", "ranking.md"]
    if write_page:
        page.write(ranking, target / "ranking.html", sounds)
        written.append("ranking.html")
    print("", *(target / name for name in written), sep="\n")
    return ranking
