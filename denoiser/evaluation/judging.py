"""What a run over files is worth: scores against clean references, and the page to look at and listen to."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from denoiser import audio
from denoiser.evaluation import files, tables
from denoiser.evaluation.page import Entry, write_page

Job = tuple[Path, Path]


def judge(
    gains: Mapping[Job, float],
    reference: Path | None = None,
    root: Path | None = None,
    page: bool = False,
    settings: str = "",
    failures: Sequence[str] = (),
    folder: Path | None = None,
) -> int:
    """Score what was enhanced and write the page, beside the outputs; says where, and returns how many had no score.

    Args:
        gains: of each (input, output) that is there, the gain the output was given.
        reference: the clean file of the only input, or the folder of them; None scores nothing.
        root: the folder that the inputs were found in, whose tree the references may share.
        page: write ``report.html``.
        settings: a line that the page shows.
        failures: a line for each file that has no output; the page shows them.
        folder: where scores and page go instead; beside the outputs by default.

    Raises DenoiserError where the reference does not exist, or a page cannot be made.
    """
    if not gains:
        return 0
    folder = folder or folder_of(list(gains))
    scores: dict[Job, dict[str, dict[str, float]]] = {}
    problems: list[str] = []
    if reference is not None:
        triples, problems = files.match_references(list(gains), reference, root)
        rows, unscored = files.score_files(triples)
        problems += unscored
        if rows:
            by_name = {row["name"]: row for row in rows}
            scores = {(t.noisy, t.enhanced): by_name[t.name] for t in triples if t.name in by_name}
            print(f"\n{tables.scores_table(tables.write_scores(rows, folder))}\n\nscores: {folder / 'scores.csv'}")
    if page:
        entries = [
            Entry(source, target, audio.probe(target).seconds, gain, _kinds(scores.get((source, target))))
            for (source, target), gain in gains.items()
        ]
        write_page(folder / "report.html", entries, settings, [*failures, *problems])
        print(f"report: {folder / 'report.html'}")
    if problems:
        print(f"{len(problems)} of {len(gains)} files were not scored:", *problems, sep="\n  ", file=sys.stderr)
    return len(problems)


def folder_of(jobs: Sequence[Job]) -> Path:
    """The folder that holds all their outputs, as it would be typed."""
    return Path(os.path.relpath(os.path.commonpath([target.parent.resolve() for _, target in jobs])))


def _kinds(row: Mapping[str, Mapping[str, float]] | None) -> dict[str, dict[str, float]]:
    return {kind: dict(row[kind]) for kind in ("noisy", "enhanced")} if row else {}
