"""Ranking of the runs below some folders: read, compare, print, write."""

from collections.abc import Sequence
from pathlib import Path

from denoiser.errors import ConfigError
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
    """Rank the runs below these folders, print the table and write it.

    Args:
        folders: ``run.json`` is looked for in them at any depth.
        out: the folder of ``ranking.csv``, ``.md`` and ``.html``; default: the first of ``folders``.
        compare: two configurations, by place, name or a run's folder; default: all with the best.
        write_page: write the HTML page too, with players of the clips that each run wrote if ``sounds``.
        base: a configuration, named likewise. Then only ``ablation.md`` is written, or ``out`` if that ends in .md.

    Raises ConfigError if a folder does not exist, no run is found, or ``compare`` or ``base`` names none.
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
        print(tables.write(path, ablation.text(ranking, ranking.find(base))))
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
    markdown = tables.report(ranking, tables.all_names(ranking))
    written = [tables.write(target / "ranking.csv", tables.csv_text(ranking))]
    written.append(tables.write(target / "ranking.md", f"{markdown}\n"))
    if write_page:
        written.append(page.write(ranking, target / "ranking.html", sounds))
    print("", *written, sep="\n")
    return ranking
