"""Scores of enhanced files against clean references."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from denoiser import audio
from denoiser.data.metadata import gather, read_logs
from denoiser.errors import AudioError, DenoiserError
from denoiser.evaluation import metrics, scoring, tables
from denoiser.evaluation.page import Entry, write_page
from denoiser.evaluation.references import Triple, match_references
from denoiser.evaluation.tables import Row

Job = tuple[Path, Path]  # a noisy file and its enhanced version

RATE = 16_000  # Hz; everything is resampled to it, so that files of any rates compare
TOLERANCE = 0.1  # seconds that lengths may differ by; the longer is cut at its end
# A process takes about as long to start as eight files of some seconds take to score.
FILES_PER_WORKER = 8
MAX_WORKERS = 61  # the limit of Windows
NAMES = ("pesq", "stoi", "si_sdr", "csig", "cbak", "covl", "estoi", "seg_snr", "pesq_nb", "lsd")


def evaluate(
    gains: Mapping[Job, float],
    reference: Path | None = None,
    root: Path | None = None,
    page: bool = False,
    settings: str = "",
    failures: Sequence[str] = (),
    folder: Path | None = None,
) -> int:
    """Score enhanced files and write the report beside them; print where, and return the number of unscored files.

    Args:
        gains: the gain that each (input, output) pair was given.
        reference: the clean file of the only input, or the folder of them; None scores nothing.
        root: the folder that the inputs were found in; the tree of the references may be the same.
        page: write ``report.html``.
        settings: a line that the page shows.
        failures: a line for each file without output; the page shows them.
        folder: the place for scores and page; by default beside the outputs.

    Raises DenoiserError if the reference does not exist, or a page cannot be made.
    """
    if not gains:
        return 0
    folder = folder or folder_of(list(gains))
    scores: dict[Job, Row] = {}
    problems: list[str] = []
    if reference is not None:
        triples, problems = match_references(list(gains), reference, root)
        rows, unscored = score_files(triples)
        problems += unscored
        if rows:
            by_name = {row["name"]: row for row in rows}
            scores = {(t.noisy, t.enhanced): by_name[t.name] for t in triples if t.name in by_name}
            summary = tables.write_scores(rows, folder)
            print(f"\n{tables.scores_table(summary)}\n\nscores: {folder / 'scores.csv'}")
    if page:
        entries = []
        for job, gain in gains.items():
            row = scores.get(job, {})
            sides: dict[str, dict[str, float]] = {kind: row[kind] for kind in tables.KINDS if kind in row}
            entries.append(Entry(*job, audio.probe(job[1]).seconds, gain, sides))
        write_page(folder / "report.html", entries, settings, [*failures, *problems])
        print(f"report: {folder / 'report.html'}")
    if problems:
        print(f"{len(problems)} of {len(gains)} files were not scored:", *problems, sep="\n  ", file=sys.stderr)
    return len(problems)


def folder_of(jobs: Sequence[Job]) -> Path:
    """Return the folder that holds all outputs, relative to the working folder."""
    return Path(os.path.relpath(os.path.commonpath([target.parent.resolve() for _, target in jobs])))


def score_files(
    triples: Sequence[Triple], workers: int | None = None, names: Sequence[str] = NAMES
) -> tuple[list[Row], list[str]]:
    """Return the metrics of each noisy and enhanced file against its reference; shows progress.

    Returns the rows that :mod:`~denoiser.evaluation.tables` takes, in the order of ``triples`` and the same for any
    number of workers, and a line for each file that could not be scored. If log files of VCTK-DEMAND lie beside the
    noisy files or one folder above, a row also has noise type and SNR.

    Args:
        triples: as :func:`match_references` returns them.
        workers: processes; 1 works in this one. Default: one per processor, and at most one per eight files. They are
            spawned, so a script must call this under ``if __name__ == "__main__":``.
        names: of the metrics.

    Raises:
        ConfigError: a metric is unknown.
        DenoiserError: processes cannot be started.
    """
    metrics.check_names(names)
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(triples) // FILES_PER_WORKER), MAX_WORKERS)
    results: list[Row | str] = []
    with tqdm(total=len(triples), desc="scoring", unit="file", disable=None) as bar, scoring.one_thread():
        if workers > 1:
            results = _score_in_processes(triples, names, workers, bar)
        else:
            for triple in triples:
                results.append(_score(triple, names))
                bar.update()
    rows = [result for result in results if isinstance(result, dict)]
    problems = [result for result in results if isinstance(result, str)]
    parents = {triple.noisy.resolve().parent for triple in triples}
    logs = read_logs(*sorted(parents | {parent.parent for parent in parents}))
    known = gather([row["name"] for row in rows], logs)
    return [{**row, **known[row["name"]]} for row in rows], problems


def _score_in_processes(triples: Sequence[Triple], names: Sequence[str], workers: int, bar: tqdm) -> list[Row | str]:
    """Score in several processes. Should one die, for lack of memory say, the remaining files go one by one."""
    results: dict[int, Row | str] = {}
    left = dict(enumerate(triples))
    while left:
        results.update(_run_pool(left, names, min(workers, len(left)), bar))
        left = {index: triple for index, triple in left.items() if index not in results}
        if left and workers == 1:
            # The first was at work when the process died.
            index = min(left)
            results[index] = f"{left.pop(index).noisy}: the process that scored it died; is there memory enough?"
        elif left:
            bar.write("a process that scored files died; going on with one", file=sys.stderr)
            workers = 1
        bar.n = len(results)
    return [results[index] for index in range(len(triples))]


def _run_pool(triples: Mapping[int, Triple], names: Sequence[str], workers: int, bar: tqdm) -> dict[int, Row | str]:
    """Return the results of one pool of processes: all, or those that were done when a process died."""
    pool = scoring.start_processes(workers)
    futures: dict[Future[Row | str], int] = {}
    try:
        _wait_for_start(pool)
        for index, triple in triples.items():
            futures[pool.submit(_score, triple, names)] = index
        for future in as_completed(futures):
            future.result()
            bar.update()
    except BrokenProcessPool:
        pass
    finally:
        pool.shutdown(cancel_futures=True)
    done = [future for future in futures if not future.cancelled() and future.exception() is None]
    return {futures[future]: future.result() for future in done}


def _wait_for_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(scoring.ready).result()
    except BrokenProcessPool:
        raise DenoiserError(
            "scoring: no process could be started; a script that scores files does so under "
            'if __name__ == "__main__":, or with workers=1'
        ) from None


def _score(triple: Triple, names: Sequence[str]) -> Row | str:
    """Return the row of one file, or a line that says why there is none."""
    try:
        noisy, enhanced, reference = (_read(path) for path in (triple.noisy, triple.enhanced, triple.reference))
        _check(triple.enhanced, enhanced, triple.noisy, noisy)
        _check(triple.reference, reference, triple.noisy, noisy)
    except (DenoiserError, OSError, RuntimeError, MemoryError) as error:
        return str(error) or f"{triple.noisy}: not enough memory"
    length = min(waveform.shape[1] for waveform in (noisy, enhanced, reference))
    reference = reference[:, :length].expand(len(noisy), length)
    row: Row = {"name": triple.name}
    for kind, waveform in (("noisy", noisy), ("enhanced", enhanced)):
        waveform = waveform[:, :length].expand(len(noisy), length)
        pairs = zip(reference, waveform, strict=True)
        row[kind] = metrics.mean([metrics.score(clean, estimate, RATE, names) for clean, estimate in pairs])
    return row


def _read(path: Path) -> Tensor:
    """Read a file as ``[C, N]`` at 16 kHz."""
    waveform, rate = audio.read(path)
    return audio.resample(waveform, rate, RATE)


def _check(path: Path, found: Tensor, noisy: Path, expected: Tensor) -> None:
    """Raise AudioError if two files cannot be of one recording."""
    if len(found) not in (1, len(expected)):
        raise AudioError(f"{path}: {len(found)} channels, {noisy} has {len(expected)}; expected as many, or one")
    seconds, wanted = (waveform.shape[1] / RATE for waveform in (found, expected))
    if abs(seconds - wanted) > TOLERANCE:
        raise AudioError(f"{path}: {seconds:.2f} s long, {noisy} {wanted:.2f} s; expected the same to {TOLERANCE} s")
