"""Ablation: the gain of each change from one configuration, in Markdown."""

from dataclasses import replace

from denoiser.evaluation.tables import table
from denoiser.ranking.configuration import ABSENT, Configuration
from denoiser.ranking.ranking import Ranking
from denoiser.ranking.tables import all_names, report

OWN = ("name", "seed", "hydra.run.dir")  # overrides that differ between the runs of one configuration


def text(ranking: Ranking, base: Configuration) -> str:
    """Return the report of a ranking whose rows are the changes from ``base``, and the overrides of each row."""
    changes = {c.label: _changes(c, base) for c in ranking.configurations}
    # Single changes first, the best first; then combinations.
    order = sorted(ranking.configurations, key=lambda c: (c is not base, len(changes[c.label]), c.place))
    labels = {c.label: ", ".join(changes[c.label]) or c.label for c in order}
    labels[base.label] = f"**{base.label}** (the start)"
    start, *others = (replace(c, label=labels[c.label]) for c in order)
    ablation = replace(ranking, configurations=[start, *others])
    ablation.compare(others, start)
    body = report(ablation, all_names(ablation))
    return f"# Ablation: the gain of each change\n\n{body}\n\n## Commands\n\n{_commands([start, *others])}\n"


def _changes(configuration: Configuration, base: Configuration) -> list[str]:
    """Return the settings that differ from ``base``: ``["loss compressed", ...]``."""
    # A setting that another network does not have is no change of its own.
    values = configuration.values.items()
    return [f"{name} {value}" for name, value in values if value not in (ABSENT, base.values[name])]


def _commands(configurations: list[Configuration]) -> str:
    """List the overrides that all configurations have in common once, then those of each."""
    every = []
    for c in configurations:
        overrides = c.runs[0].get("overrides") or []
        every.append([o for o in overrides if o.lstrip("+~").partition("=")[0] not in OWN])
    common = [o for o in every[0] if all(o in overrides for overrides in every)]
    lines = []
    for c, overrides in zip(configurations, every, strict=True):
        seeds = ", ".join(sorted(str(run.get("seed")) for run in c.runs))
        own = " ".join(f"`{o}`" for o in overrides if o not in common)
        lines.append([c.label, seeds, own or "none"])
    return f"```\npython train.py {' '.join(common)} ...\n```\n\n{table(['row', 'seeds', 'overrides'], lines)}"
