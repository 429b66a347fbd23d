"""Scores of enhanced files against clean references."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from denoiser import audio
from denoiser.data.metadata import gather, read_logs
from denoiser.errors import AudioError, ConfigError, DenoiserError
from denoiser.evaluation import metrics, scoring, tables
from denoiser.evaluation.page import Entry, write_page
from denoiser.evaluation.tables import Row

Job = tuple[Path, Path]  # a noisy file and its enhanced version

RATE = 16_000  # Hz; everything is resampled to it, so that files of any rates compare
TOLERANCE = 0.1  # seconds that lengths may differ by; the longer is cut at its end
# A process takes about as long to start as eight files of some seconds take to score.
FILES_PER_WORKER = 8
MAX_WORKERS = 61  # the limit of Windows
NAMES = ("pesq", "stoi", "si_sdr", "csig", "cbak", "covl", "estoi", "seg_snr", "pesq_nb", "lsd")


@dataclass(frozen=True)
class Triple:
    """A noisy file, its enhanced version and its clean reference; ``name`` is unique among those scored together."""

    name: str
    noisy: Path
    enhanced: Path
    reference: Path


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
        page: write ``report.html``, with the line ``settings`` and a line for each of the ``failures``.
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
            jobs = {triple.name: (triple.noisy, triple.enhanced) for triple in triples}
            scores = {jobs[row["name"]]: row for row in rows}
            summary = tables.write_scores(rows, folder)
            print(f"\n{tables.scores_table(summary)}\n\nscores: {folder / 'scores.csv'}")
    if page:
        entries = []
        for job, gain in gains.items():
            entries.append(Entry(*job, audio.probe(job[1]).seconds, gain, scores.get(job)))
        write_page(folder / "report.html", entries, settings, [*failures, *problems])
        print(f"report: {folder / 'report.html'}")
    if problems:
        print(f"{len(problems)} of {len(gains)} files were not scored:", *problems, sep="\n  ", file=sys.stderr)
    return len(problems)


def folder_of(jobs: Sequence[Job]) -> Path:
    """Return the folder that holds all outputs, relative to the working folder."""
    return Path(os.path.relpath(os.path.commonpath([target.parent.resolve() for _, target in jobs])))


def match_references(jobs: Sequence[Job], reference: Path, root: Path | None = None) -> tuple[list[Triple], list[str]]:
    """Find the reference of each (noisy, enhanced) pair of paths; neither has to exist yet.

    ``reference`` is the file of the only job, or a folder. In a folder, a reference has the path of the noisy file
    relative to ``root``, or else its name; extensions may differ. Returns the triples and a line for each file without
    a reference. Raises AudioError if ``reference`` does not exist or holds no sound, ConfigError for one file to
    several jobs.
    """
    is_folder = reference.is_dir()
    if not is_folder and not reference.is_file():
        raise AudioError(f"reference={reference}: no such file or folder")
    if not is_folder and len(jobs) != 1:
        raise ConfigError(f"reference={reference}: one file for {len(jobs)} inputs; give a folder of references")
    by_path, by_stem = defaultdict(list), defaultdict(list)
    for file in audio.list_files(reference) if is_folder else ():
        by_path[file.relative_to(reference).with_suffix("")].append(file)
        by_stem[file.stem].append(file)
    names = _unique_names([noisy for noisy, _ in jobs], root)
    triples, problems = [], []
    for name, (noisy, enhanced) in zip(names, jobs, strict=True):
        found = [reference]
        if is_folder:
            found = by_path[_relative(noisy, root).with_suffix("")] or by_stem[noisy.stem]
        found = [file for file in found if file.suffix == noisy.suffix] or found
        if len(found) > 1:
            problems.append(f"{noisy}: {len(found)} references of this name, {found[0]} and {found[1]}")
        elif not found:
            problems.append(f"{noisy}: no reference of this name in {reference}")
        elif found[0].resolve() == noisy.resolve():
            problems.append(f"{noisy}: is its own reference; reference= names the clean recordings")
        else:
            triples.append(Triple(name, noisy, enhanced, found[0]))
    return triples, problems


def _relative(path: Path, root: Path | None) -> Path:
    return path.relative_to(root) if root and path.is_relative_to(root) else Path(path.name)


def _unique_names(files: Sequence[Path], root: Path | None) -> list[str]:
    """Return the relative paths without extension if they differ, else the whole paths."""
    names = [_relative(file, root).with_suffix("").as_posix() for file in files]
    return names if len(set(names)) == len(names) else [file.as_posix() for file in files]


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

    Raises ConfigError if a metric is unknown.
    """
    metrics.check_names(names)
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(triples) // FILES_PER_WORKER), MAX_WORKERS)
    results = _score_in_processes(triples, names, workers) if workers > 1 else map(_score, triples, repeat(names))
    with scoring.one_thread():
        scored = list(tqdm(results, desc="scoring", total=len(triples), unit="file", disable=None))
    rows = [result for result in scored if isinstance(result, dict)]
    problems = [result for result in scored if isinstance(result, str)]
    parents = {triple.noisy.resolve().parent for triple in triples}
    logs = read_logs(*sorted(parents | {parent.parent for parent in parents}))
    known = gather([row["name"] for row in rows], logs)
    return [{**row, **known[row["name"]]} for row in rows], problems


def _score_in_processes(triples: Sequence[Triple], names: Sequence[str], workers: int) -> Iterator[Row | str]:
    """Yield the results in order; once a process has died, a line for each file that is left."""
    pool = scoring.start_processes(workers)
    done = 0
    try:
        for result in pool.map(_score, triples, repeat(names)):
            yield result
            done += 1
    except BrokenProcessPool:
        for triple in triples[done:]:
            yield f'{triple.noisy}: its process died: no memory left, or a script without if __name__ == "__main__":'
    finally:
        pool.shutdown(cancel_futures=True)


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
