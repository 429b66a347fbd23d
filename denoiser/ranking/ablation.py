"""Ablation: the gain of each change from one configuration, as a page of Markdown."""

from collections.abc import Sequence
from pathlib import Path

from denoiser.evaluation.tables import escaped, markdown_table
from denoiser.filesystem import atomic_write
from denoiser.ranking import bootstrap
from denoiser.ranking.configuration import ABSENT, MAIN_METRICS, Configuration, Record
from denoiser.ranking.format import amount, cell, count, heading, reason
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.summary import seeds_sentence
from denoiser.ranking.tables import BOOTSTRAP, EXPLANATION

OWN = ("name", "seed", "hydra.run.dir")  # overrides that differ between the runs of one configuration
COSTS = ("parameters", "macs_per_second", "real_time_factor")
Rows = Sequence[tuple[str, Configuration]]  # names and configurations, the start first
SCORES = [f"{part}/{metric}" for part in ("val", "test") for metric in MAIN_METRICS]


def write(ranking: Ranking, base: Configuration, path: Path) -> Path:
    """Write scores, costs, differences and commands of all configurations against ``base``."""
    # Single changes first, the best first; then combinations.
    others = sorted(ranking.configurations, key=lambda c: (len(_changes(c, base)), ranking.order(c)))
    rows = [(f"**{base.label}** (the start)", base)]
    rows += [(", ".join(_changes(c, base)) or c.label, c) for c in others if c is not base]
    conditions = "\n".join(f"- {escaped(sentence)}" for sentence in _conditions(ranking, base))
    parts = ["# Ablation: the gain of each change", conditions, _scores(rows)]
    parts += ["## Differences", _differences(rows), escaped(BOOTSTRAP), "## Commands", _commands(rows)]
    if ranking.unranked:
        failures = [f"- {escaped(f'{name}: {reason(run)}')}" for run, name in ranking.unranked]
        parts += ["## Not ranked", "\n".join(failures)]
    with atomic_write(path) as partial:
        partial.write_text("\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace")
    return path


def _changes(configuration: Configuration, base: Configuration) -> list[str]:
    """Return the settings that differ from ``base``: ``["loss compressed", ...]``."""
    # A setting that another network does not have is no change of its own.
    values = configuration.values.items()
    return [f"{name} {value}" for name, value in values if value not in (ABSENT, base.values[name])]


def _conditions(ranking: Ranking, base: Configuration) -> list[str]:
    runs = ranking.runs
    hours = sorted({f"{_seconds_trained(run) / 3600:.2f}" for run in runs})
    equal = "every run saw" if len(hours) == 1 else "**not the same for all**: the runs saw"
    rule = (base.runs[0].get("split") or {}).get("rule") or "as split.json of each run says"
    hardware = dict.fromkeys(f"{run.get('hardware') or run.get('device')}, {run.get('precision')}" for run in runs)
    return [
        f"{count(len(runs), 'run')} of {count(len(ranking.configurations), 'configuration')}. "
        f"Budget: {equal} {' or '.join(hours)} h of audio.",
        f"Validation: {rule}.",
        f"Machine: {' or '.join(hardware)}.",
        EXPLANATION,
        seeds_sentence(ranking),
        *(f"Note: {note}." for note in ranking.notes),
    ]


def _seconds_trained(run: Record) -> float:
    """Return the seconds of audio that a run trained on, 0 where they are not known."""
    steps = max((row.get("step") or 0 for row in run.get("curve") or ()), default=0)
    return steps * (run.get("batch_audio_seconds") or 0)


def _scores(rows: Rows) -> str:
    columns = [*COSTS, *SCORES]
    lines = [[name, str(c.n), *(cell(c, column) for column in columns)] for name, c in rows]
    return markdown_table(["change", "n", *map(heading, columns)], lines)


def _differences(rows: Rows) -> str:
    _, base = rows[0]
    before = bootstrap.of_configuration(base)
    lines = []
    for name, c in rows[1:]:
        intervals = bootstrap.compare(bootstrap.of_configuration(c), before, MAIN_METRICS)
        line = [name, *(intervals[metric].text(metric) for metric in MAIN_METRICS)]
        for score in ("val/pesq", "val/si_sdr"):
            line.append(amount(score, c.over_seeds(score).mean - base.over_seeds(score).mean, sign=True))
        lines.append(line)
    return markdown_table(
        ["minus the start", "test PESQ", "test STOI", "test SI-SDR dB", "val PESQ", "val SI-SDR dB"], lines
    )


def _commands(rows: Rows) -> str:
    """List the overrides that all rows have in common once, then those of each row."""
    every = []
    for _, c in rows:
        overrides = c.runs[0].get("overrides") or []
        every.append([o for o in overrides if o.lstrip("+~").partition("=")[0] not in OWN])
    common = [o for o in every[0] if all(o in overrides for overrides in every)]
    lines = []
    for (name, c), overrides in zip(rows, every, strict=True):
        seeds = ", ".join(sorted(str(run.get("seed")) for run in c.runs))
        typed = " ".join(f"`{o}`" for o in overrides if o not in common)
        lines.append([name, seeds, typed or "none"])
    table = markdown_table(["row", "seeds", "overrides"], lines)
    return f"```\npython train.py {' '.join(common)} ...\n```\n\n{table}"
