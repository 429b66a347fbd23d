"""Ablation: the gain of each change from one configuration, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from denoiser.filesystem import atomic_write
from denoiser.ranking import bootstrap
from denoiser.ranking.configuration import ABSENT, MAIN_METRICS, Configuration, Record
from denoiser.ranking.format import amount, count, reason
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.summary import seeds_sentence
from denoiser.ranking.tables import (
    BOOTSTRAP,
    EXPLANATION,
    GMACS,
    PARAMETERS,
    REAL_TIME_FACTOR,
    escaped,
    markdown_table,
    score_column,
)

OWN = ("name", "seed", "hydra.run.dir")  # overrides that differ between the runs of one configuration


def write(ranking: Ranking, base: Configuration, path: Path) -> Path:
    """Write scores, costs, differences and commands of all configurations against ``base``."""
    others = [c for c in ranking.configurations if c is not base]
    # Single changes first, the best first; then combinations.
    others.sort(key=lambda c: (len(changes(c, base)), ranking.order(c)))
    found = [base, *others]
    parts = ["# Ablation: the gain of each change", _conditions(ranking, base), _scores(found)]
    parts += ["## Differences", _differences(ranking, found), escaped(BOOTSTRAP), "## Commands", _commands(found)]
    if ranking.unranked:
        failures = [f"- {escaped(f'{name}: {reason(run)}')}" for run, name in ranking.unranked]
        parts += ["## Not ranked", "\n".join(failures)]
    with atomic_write(path) as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def changes(configuration: Configuration, base: Configuration) -> list[str]:
    """Return the settings that differ from ``base``: ``["loss compressed", ...]``."""
    # A setting that another network does not have is no change of its own.
    values = configuration.values.items()
    return [f"{name} {value}" for name, value in values if value not in (ABSENT, base.values[name])]


def _name(configuration: Configuration, base: Configuration) -> str:
    if configuration is base:
        return f"**{base.label}** (the start)"
    return ", ".join(changes(configuration, base)) or configuration.label


def _conditions(ranking: Ranking, base: Configuration) -> str:
    runs = [run for c in ranking.configurations for run in c.runs]
    hours = sorted({f"{audio / 3600:.2f}" for run in runs if (audio := seconds_trained(run))})
    equal = "every run saw" if len(hours) == 1 else "**not the same for all**: the runs saw"
    rule = (base.runs[0].get("split") or {}).get("rule") or "as split.json of each run says"
    hardware = dict.fromkeys(f"{run.get('hardware') or run.get('device')}, {run.get('precision')}" for run in runs)
    sentences = [
        f"{count(len(runs), 'run')} of {count(len(ranking.configurations), 'configuration')}. "
        f"Budget: {equal} {' or '.join(hours)} h of audio.",
        f"Validation: {rule}.",
        f"Machine: {' or '.join(hardware)}.",
        EXPLANATION,
        seeds_sentence(ranking),
        *(f"Note: {note}." for note in ranking.notes),
    ]
    return "\n".join(f"- {escaped(sentence)}" for sentence in sentences)


def seconds_trained(run: Record) -> float:
    """Return the seconds of audio that a run trained on, 0 where they are not known."""
    steps = max((row.get("step") or 0 for row in run.get("curve") or ()), default=0)
    return steps * (run.get("batch_audio_seconds") or 0)


def _scores(configurations: Sequence[Configuration]) -> str:
    base = configurations[0]
    names = [f"{part}/{metric}" for part in ("val", "test") for metric in MAIN_METRICS]
    columns = [PARAMETERS, GMACS, REAL_TIME_FACTOR, *map(score_column, names)]
    lines = [["change", "n", *(column.heading for column in columns)]]
    for c in configurations:
        lines.append([_name(c, base), str(c.n), *(column.text(c) for column in columns)])
    return markdown_table(lines)


def _differences(ranking: Ranking, configurations: Sequence[Configuration]) -> str:
    base, *others = configurations
    before = bootstrap.of_configuration(ranking.scores, base)
    lines = [["minus the start", "test PESQ", "test STOI", "test SI-SDR dB", "val PESQ", "val SI-SDR dB"]]
    for c in others:
        intervals = bootstrap.compare(bootstrap.of_configuration(ranking.scores, c), before, MAIN_METRICS)
        gains = []
        for name in ("val/pesq", "val/si_sdr"):
            value = score_column(name).value
            gains.append(amount(name, c.over_seeds(value).mean - base.over_seeds(value).mean, sign=True))
        lines.append([_name(c, base), *(intervals[m].text(m) for m in MAIN_METRICS), *gains])
    return markdown_table(lines)


def _commands(configurations: Sequence[Configuration]) -> str:
    """List the overrides that all rows have in common once, then those of each row."""
    every = []
    for c in configurations:
        overrides = c.runs[0].get("overrides") or []
        every.append([o for o in overrides if o.lstrip("+~").partition("=")[0] not in OWN])
    common = [o for o in every[0] if all(o in overrides for overrides in every)]
    lines = [["row", "seeds", "overrides"]]
    for c, overrides in zip(configurations, every, strict=True):
        seeds = ", ".join(sorted(str(run.get("seed")) for run in c.runs))
        typed = " ".join(f"`{o}`" for o in overrides if o not in common)
        lines.append([_name(c, configurations[0]), seeds, typed or "none"])
    return f"```\npython train.py {' '.join(common)} ...\n```\n\n{markdown_table(lines)}"
