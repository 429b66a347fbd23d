"""A ranking as one HTML page that opens from disk without a network: tables, figures, sounds."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.page import render
from denoiser.ranking import tables
from denoiser.ranking.configuration import Configuration
from denoiser.ranking.ranking import Ranking
from denoiser.training import clips

HEARD = 12  # configurations, the best, that have players


def write(ranking: Ranking, path: Path, sounds: bool = True) -> Path:
    """Write the page; without matplotlib it has no figures, and says so."""
    figures = None
    if find_spec("matplotlib"):
        from denoiser.ranking.figures import draw

        figures = draw(ranking)
    definitions = {name: definition for name, _, definition in tables.COSTS.values()}
    definitions |= {METRICS[m].heading: METRICS[m].definition for m in ranking.metrics if m in METRICS}
    render(
        path,
        "ranking/ranking.html",
        title="denoiser: training runs, ranked",
        summary=tables.summary(ranking),
        notes=ranking.notes,
        monitor=tables.heading(ranking.monitor),
        explanation=tables.EXPLANATION,
        table=_table(ranking) if ranking.configurations else None,
        figures=figures,
        differences=tables.difference_rows(ranking),
        bootstrap=tables.BOOTSTRAP,
        clips=_clips(ranking.configurations[:HEARD]) if sounds else [],
        unranked=[(name, tables.reason(run), run["folder"]) for run, name in ranking.unranked],
        definitions=definitions,
    )
    return path


def _table(ranking: Ranking) -> dict[str, Any]:
    """Return the headings, the rows of cells, and the row of the noisy files; a cell is its text and its sort key."""
    names = tables.all_names(ranking)
    headings, *lines = tables.rows(ranking, names)
    cells = []
    for c, line in zip(ranking.configurations, lines, strict=False):
        keys = [*line[:3], *(c.over_seeds(name).mean for name in names), c.note]
        cells.append(list(zip(line, keys, strict=False)))
    return {"headings": headings, "rows": cells, "noisy": lines[-1] if ranking.tested else None}


def _clips(configurations: list[Configuration]) -> list[dict[str, Any]]:
    """Return the clips that the best seed of each configuration left, with their sounds by label."""
    found: dict[str, dict[str, Any]] = {}
    for c in configurations:
        run = c.runs[0]
        for clip in clips.read(Path(run["folder"])):
            shown = found.setdefault(clip["name"], {**clip, "sounds": {"noisy": clip["noisy"]}})
            shown["sounds"][f"{c.place}  {c.label}, seed {run.get('seed')}"] = clip["enhanced"]
    for clip in found.values():
        sounds = {**clip["sounds"], "clean": clip["clean"]}
        clip["sounds"] = {label: path.read_bytes() for label, path in sounds.items() if path.is_file()}
    return list(found.values())
