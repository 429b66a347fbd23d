"""A ranking as one HTML page that opens from disk without a network: tables, figures, sounds."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from denoiser.evaluation.metrics import METRICS
from denoiser.evaluation.page import base64_of, render
from denoiser.ranking.configuration import Configuration
from denoiser.ranking.format import COSTS, count, heading, reason
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.summary import summary
from denoiser.ranking.tables import BOOTSTRAP, EXPLANATION, all_names, difference_rows, rows
from denoiser.training import clips

HEARD = 12  # configurations, the best, that have players


def write(ranking: Ranking, path: Path, sounds: bool = True) -> Path:
    """Write the page; without matplotlib it has no figures, and says so."""
    configurations = ranking.configurations
    definitions = dict(COSTS.values())
    definitions |= {METRICS[m].heading: METRICS[m].definition for m in ranking.metrics if m in METRICS}
    render(
        path,
        "ranking/ranking.html",
        title=f"denoiser: {count(len(configurations), 'configuration')}, {count(len(ranking.runs), 'run')}",
        summary=summary(ranking),
        notes=ranking.notes,
        monitor=heading(ranking.monitor),
        explanation=EXPLANATION,
        table=_table(ranking) if configurations else None,
        figures=_figures(ranking),
        differences=difference_rows(ranking),
        bootstrap=BOOTSTRAP,
        clips=_clips(configurations[:HEARD]) if sounds else [],
        unranked=[(name, reason(run), run["folder"]) for run, name in ranking.unranked],
        definitions=definitions,
    )
    return path


def _table(ranking: Ranking) -> dict[str, Any]:
    """Return the headings, the rows of cells, and the row of the noisy files; a cell is its text and its sort key."""
    names = all_names(ranking)
    headings, *lines = rows(ranking, names)
    words = headings.index("n")
    cells = []
    for c, line in zip(ranking.configurations, lines, strict=False):
        keys: list[Any] = list(line)
        keys[words + 1 : words + 1 + len(names)] = [c.over_seeds(name).mean for name in names]
        cells.append(list(zip(line, keys, strict=True)))
    return {"headings": headings, "rows": cells, "noisy": lines[-1] if ranking.tested else None, "words": words}


def _figures(ranking: Ranking) -> dict[str, str] | None:
    if find_spec("matplotlib") is None:
        return None
    from denoiser.ranking import figures

    return figures.draw(ranking)


def _clips(configurations: list[Configuration]) -> list[dict[str, Any]]:
    """Return the clips that the best seed of each configuration left: heading, name, and sounds with their labels."""
    found: dict[str, dict[str, Any]] = {}
    for c in configurations:
        run = c.runs[0]
        label = f"{c.place}  {c.label}, seed {run.get('seed')}" if c.n > 1 else f"{c.place}  {c.label}"
        for clip in clips.read(Path(run["folder"])):
            shown = {"name": clip["name"], "heading": _heading(clip), "noisy": clip["noisy"], "clean": clip["clean"]}
            found.setdefault(clip["name"], {**shown, "enhanced": {}})["enhanced"][label] = clip["enhanced"]
    for clip in found.values():
        sounds = {"noisy": clip["noisy"], **clip["enhanced"], "clean": clip["clean"]}
        clip["sounds"] = {label: base64_of(path.read_bytes()) for label, path in sounds.items() if path.is_file()}
    return list(found.values())


def _heading(clip: Mapping[str, Any]) -> str:
    """Describe a clip: ``cafe noise, SNR 2.5 dB``; by its name where nothing is known."""
    words = [f"{clip['noise_type']} noise"] if "noise_type" in clip else []
    words += [f"SNR {clip['snr_db']} dB"] if "snr_db" in clip else []
    return ", ".join(words) or str(clip["name"])
