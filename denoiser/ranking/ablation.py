"""What each change is worth: the runs of a ranking against one of them, as a page of Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from denoiser.evaluation.tables import number
from denoiser.filesystem import atomic_write
from denoiser.ranking import bootstrap
from denoiser.ranking.configuration import ABSENT, SHARED, Configuration, Record
from denoiser.ranking.rank import Ranking, order
from denoiser.ranking.summary import reason
from denoiser.ranking.text import COSTS, SOURCE, Column, caution, escape, markdown_table, scores

SHOWN = ("parameters", "macs_per_second", "real_time_factor")  # of the costs


def write(ranking: Ranking, path: Path) -> Path:
    """The page about ``ranking.reference`` and what differs from it: settings, costs, scores, differences, commands."""
    with atomic_write(path) as partial:
        partial.write_text(text(ranking), encoding="utf-8", errors="backslashreplace")
    return path


def text(ranking: Ranking) -> str:
    """The same as :func:`write`, as text; the ranking has a reference."""
    base = ranking.reference
    assert base is not None
    # One change after the other, the best first; then what is made of several.
    others = [c for c in ranking.configurations if c is not base]
    others.sort(key=lambda c: (len(changes(c, base)), order(ranking, ranking.quality(c))))
    lines = ["# Ablation: what each change is worth", "", *_conditions(ranking, base)]
    lines += [f"- Note: {escape(note)}." for note in ranking.notes]
    lines += ["", *_scores(ranking, base, others), "", *_differences(ranking, base, others)]
    lines += ["", "## Commands", "", *_commands(base, others)]
    if ranking.unranked:
        lines += ["", "## Not ranked", ""]
        lines += [f"- {escape(name)}: {escape(reason(run))}" for run, name in ranking.unranked]
    return "\n".join(lines) + "\n"


def changes(configuration: Configuration, base: Configuration) -> list[str]:
    """``["loss compressed", ...]``: in what it differs; what another network does not have goes without saying."""
    values = configuration.values.items()
    return [f"{name} {value}" for name, value in values if value not in (ABSENT, base.values[name])]


def _name(configuration: Configuration, base: Configuration) -> str:
    return ", ".join(changes(configuration, base)) or f"**{configuration.label}** (the start)"


def _conditions(ranking: Ranking, base: Configuration) -> list[str]:
    runs = [run for c in ranking.configurations for run in c.runs]
    seconds = {round(audio) for run in runs if (audio := trained(run))}
    budget = " or ".join(f"{s / 3600:.2f}" for s in sorted(seconds)) + " h of audio"
    equal = "every run saw" if len(seconds) == 1 else "**not the same for all**: the runs saw"
    first = base.runs[0]
    versions = ", ".join(f"{name} {release}" for name, release in (first.get("versions") or {}).items())
    hardware = " or ".join(dict.fromkeys(_machine(run) for run in runs))
    lines = [
        f"- {len(runs)} runs of {len(ranking.configurations)} configurations. Budget: {equal} {budget}, in batches of "
        f"{first.get('batch_audio_seconds') or math.nan:.3g} s.",
        f"- Validation: {_split(first)}.",
        f"- {hardware}. {versions}.",
    ]
    chance, count = ranking.chance()
    if count:
        lines.append(
            f"- Another seed alone changes {ranking.monitor} by about ±{chance:.2g} (standard deviation over the seeds "
            f"of {count} configuration{'s' if count > 1 else ''}): smaller differences decide nothing."
        )
    return [*lines, "- The validation files chose the checkpoints; the test files only report. ± is over seeds (n)."]


def trained(run: Record) -> float:
    """Seconds of audio of a run, 0 where that is not known."""
    rows = run.get("curve") or []
    steps = max((row.get("step") or 0 for row in rows), default=0)
    steps = ((run.get("config") or {}).get("trainer") or {}).get("max_steps") or steps
    return max(0, steps) * (run.get("batch_audio_seconds") or 0)


def _machine(run: Record) -> str:
    return f"{run.get('hardware') or run.get('device')}, {run.get('precision')}"


def _split(run: Record) -> str:
    return escape(str((run.get("split") or {}).get("rule") or "as split.json of each run says"))


def _scores(ranking: Ranking, base: Configuration, others: list[Configuration]) -> list[str]:
    columns: list[Column] = [c for c in COSTS if c.key in SHOWN]
    columns += [*scores(ranking, "val", SHARED), *scores(ranking, "test", SHARED)]
    rows = [["change", "n", *(c.long for c in columns)]]
    rows += [[_name(c, base), str(c.n), *(column.of(c) for column in columns)] for c in (base, *others)]
    return markdown_table(rows)


def _differences(ranking: Ranking, base: Configuration, others: list[Configuration]) -> list[str]:
    averages = {
        c.label: bootstrap.average([s for run in c.runs if (s := ranking.scores.get(run["folder"]))])
        for c in (base, *others)
    }
    found = [(c, bootstrap.compare(averages[c.label], averages[base.label], SHARED)) for c in others]
    if not any(interval[m].n for _, interval in found for m in SHARED):
        return ["No per-file test scores to compare."]
    rows = [["minus the start", *("PESQ", "STOI", "SI-SDR dB"), "validation PESQ", "validation SI-SDR dB"]]
    for c, interval in found:
        gains = [_gain(ranking, c, base, metric) for metric in ("pesq", "si_sdr")]
        rows.append([_name(c, base), *(interval[m].text(m) for m in SHARED), *gains])
    lines = ["## Differences", "", f"On the test files, mean [95 % interval] ({SOURCE}); ~ holds 0.", ""]
    return [*lines, *markdown_table(rows), "", *caution()]


def _gain(ranking: Ranking, one: Configuration, other: Configuration, metric: str) -> str:
    value: Callable[[Record], Any] = next(c.value for c in scores(ranking, "val", [metric]) if c.key == f"val_{metric}")
    return number(metric, one.spread(value).mean - other.spread(value).mean, sign=True)


def _commands(base: Configuration, others: list[Configuration]) -> list[str]:
    """What was typed: what all have in common once, then each row's own."""
    own = {"name", "seed", "hydra.run.dir"}

    def typed(configuration: Configuration) -> list[str]:
        overrides = configuration.runs[0].get("overrides") or []
        return [o for o in overrides if o.lstrip("+~").partition("=")[0] not in own]

    every = [typed(c) for c in (base, *others)]
    common = [o for o in every[0] if all(o in other for other in every)]
    rows = [["row", "seeds", "overrides"]]
    for c, overrides in zip((base, *others), every, strict=True):
        seeds = ", ".join(sorted(str(run.get("seed")) for run in c.runs))
        rows.append([_name(c, base), seeds, " ".join(f"`{o}`" for o in overrides if o not in common) or "none"])
    return ["```", f"python train.py {' '.join(common)} ...", "```", "", *markdown_table(rows)]
