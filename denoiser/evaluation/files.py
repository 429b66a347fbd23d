"""Scores of enhanced files, against clean references or without them."""

import math
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from multiprocessing import active_children
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from tqdm import tqdm

from denoiser import audio
from denoiser.audio.lag import LONGEST_LAG, advance, find_lag
from denoiser.data.metadata import gather, read_logs
from denoiser.errors import AudioError, ConfigError, DenoiserError
from denoiser.evaluation import dnsmos, metrics, scoring, tables
from denoiser.evaluation.page import Files, write_page
from denoiser.evaluation.tables import Row

RATE = 16_000  # Hz; everything is resampled to it, so that files of any rates compare
TOLERANCE = 0.1  # seconds that lengths may differ by; the longer is cut at its end
LATE = 0.5  # samples that a lag has to have to be told, and taken back
FILES_PER_WORKER = 8  # a process takes about as long to start as so many files of some seconds take to score
MAX_WORKERS = 61  # the limit of Windows
RATED_SECONDS = 300  # of a file without a reference; rated are 16 windows of 9 s of these
NAMES = ("pesq", "stoi", "si_sdr", "csig", "cbak", "covl", "estoi", "seg_snr", "pesq_nb", "lsd", *dnsmos.NAMES)


class Triple(NamedTuple):
    """A noisy file, its enhanced version and its clean reference, if any; ``name`` is unique among those scored."""

    name: str
    noisy: Path
    enhanced: Path
    reference: Path | None


def evaluate(
    gains: Mapping[Files, float],
    reference: Path | None = None,
    root: Path | None = None,
    page: bool = False,
    settings: str = "",
    failures: Sequence[str] = (),
    folder: Path | None = None,
    align: bool = False,
) -> int:
    """Score enhanced files and write the report beside them; print where, and return the number of unscored files.

    ``gains`` has the gain of each (input, output) pair; one other than 1 is told, as some scores
    count it. ``reference`` and ``root`` are as in :func:`match_references`.
    ``page`` asks for ``report.html``, with the line ``settings`` and a line for each of the ``failures``; its files are
    rated by DNSMOS if there is no ``reference``. References that are late or early are named, and with ``align`` moved
    to their place before they are scored. Raises DenoiserError if the reference does not exist, or a page cannot be
    made.
    """
    if not gains:
        return 0
    folder = folder or folder_of(list(gains))
    scores: dict[Files, Row] = {}
    problems: list[str] = []
    triples: list[Triple] = []
    names: Sequence[str] = NAMES
    if reference is not None:
        triples, problems = match_references(list(gains), reference, root)
    elif package := metrics.missing_package(dnsmos.NAMES[0]):
        print(f'report: without DNSMOS ratings, which need {package}: pip install "denoiser[metrics]"', file=sys.stderr)
    else:
        names = dnsmos.NAMES
        triples = [Triple(name, *job, None) for name, job in zip(_names(list(gains), root), gains, strict=True)]
    rows, unscored = score_files(triples, names=names, align=align) if triples else ([], [])
    problems += unscored
    if rows:
        jobs = {triple.name: (triple.noisy, triple.enhanced) for triple in triples}
        scores = {jobs[row["name"]]: row for row in rows}
        lags = {row["name"]: row["lag_ms"] for row in rows if "lag_ms" in row}
        summary = tables.write_scores(rows, folder, aligned=align, lags_ms=lags)
        if reference is None and len(rows) > 1:
            print(f"\n{tables.files_table(rows)}")
        print(f"\n{tables.scores_table(summary)}\n\nscores: {folder / 'scores.csv'}")
        if told := _lags(rows, align):
            print(told, file=sys.stderr)
        moved = sum(gains[jobs[row["name"]]] != 1 for row in rows)
        if reference is not None and moved:
            cause = f"{moved} of {len(rows)} results have another level, by loudness= or to stay within full scale"
            print(f"{cause}: SSNR, CBAK and LSD count it as an error, and DNSMOS depends on it", file=sys.stderr)
    if page:
        write_page(folder / "report.html", gains, scores, settings, [*failures, *problems])
        print(f"report: {folder / 'report.html'}")
    if problems:
        print(f"{len(problems)} of {len(gains)} files were not scored:", *problems, sep="\n  ", file=sys.stderr)
    return len(problems)


def _lags(rows: Sequence[Row], align: bool) -> str:
    """Return a line on the references that are late or early, empty if none is."""
    apart = [row for row in rows if "lag_ms" in row]
    if not apart:
        return ""
    worst = max(apart, key=lambda row: abs(row["lag_ms"]))
    lag = f"{abs(worst['lag_ms']):.1f} ms {'late' if worst['lag_ms'] > 0 else 'early'} ({worst['name']})"
    end = "aligned before they were scored" if align else "the scores are too low; align=true scores them aligned"
    return f"{len(apart)} of {len(rows)} references are apart in time, by up to {lag}: {end}"


def folder_of(jobs: Sequence[Files]) -> Path:
    """Return the folder that holds all outputs, relative to the working folder."""
    return Path(os.path.relpath(os.path.commonpath([target.parent.resolve() for _, target in jobs])))


def match_references(
    jobs: Sequence[Files], reference: Path, root: Path | None = None
) -> tuple[list[Triple], list[str]]:
    """Find the reference of each (noisy, enhanced) pair of paths; neither has to exist yet.

    ``reference`` is the file of the only job, or a folder: there, a reference has the path of the noisy file relative
    to ``root``, or else its name; extensions may differ. Returns the triples and a line for each other file. Raises
    AudioError if ``reference`` does not exist or holds no sound, ConfigError for one file to several jobs.
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
    triples, problems = [], []
    for name, path, (noisy, enhanced) in zip(_names(jobs, root), _paths(jobs, root), jobs, strict=True):
        found = by_path[path] or by_stem[noisy.stem] if is_folder else [reference]
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


def _paths(jobs: Sequence[Files], root: Path | None) -> list[Path]:
    """Return the path of each noisy file relative to ``root``, or else its name, without extension."""
    inside = [root if root and noisy.is_relative_to(root) else noisy.parent for noisy, _ in jobs]
    return [noisy.relative_to(folder).with_suffix("") for folder, (noisy, _) in zip(inside, jobs, strict=True)]


def _names(jobs: Sequence[Files], root: Path | None) -> list[str]:
    """Return the paths of :func:`_paths`, or the whole ones if two of these are equal."""
    paths = _paths(jobs, root)
    return [path.as_posix() for path in (paths if len(set(paths)) == len(paths) else [noisy for noisy, _ in jobs])]


def score_files(
    triples: Sequence[Triple], workers: int | None = None, names: Sequence[str] = NAMES, align: bool = False
) -> tuple[list[Row], list[str]]:
    """Score each noisy and enhanced file against its reference; show progress.

    Return a row per file, in the order of ``triples`` and the same for any number of workers, and a line for each file
    that could not be scored. Where the reference is late or early a row has its ``lag_ms``, which ``align`` takes back
    first. It has noise type and SNR if log files of VCTK-DEMAND lie beside the noisy files or one
    folder above. ``workers`` is one per processor, at most one per eight files, unless given; 1 works in this process.
    More are spawned: a script must call this under ``if __name__ == "__main__":``. ConfigError if a metric is unknown.
    """
    metrics.check_names(names)
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(triples) // FILES_PER_WORKER), MAX_WORKERS)
    results = (
        _score_in_processes(triples, names, align, workers)
        if workers > 1
        else map(_score, triples, repeat(names), repeat(align))
    )
    scored = list(tqdm(results, desc="scoring", total=len(triples), unit="file", disable=None))
    rows = [result for result in scored if isinstance(result, dict)]
    problems = [result for result in scored if isinstance(result, str)]
    parents = {triple.noisy.resolve().parent for triple in triples}
    logs = read_logs(*sorted(parents | {parent.parent for parent in parents}))
    known = gather([row["name"] for row in rows], logs)
    return [{**row, **known[row["name"]]} for row in rows], problems


def _score_in_processes(
    triples: Sequence[Triple], names: Sequence[str], align: bool, workers: int
) -> Iterator[Row | str]:
    """Yield the results in order; once a process has died, a line for each file that is left."""
    others = set(active_children())
    pool = scoring.start_processes(workers)
    done = 0
    try:
        for result in pool.map(_score, triples, repeat(names), repeat(align)):
            yield result
            done += 1
    except BrokenProcessPool:
        for triple in triples[done:]:
            yield f'{triple.noisy}: its process died: no memory left, or a script without if __name__ == "__main__":'
    except KeyboardInterrupt:
        # The scores of a long file take a minute.
        for worker in set(active_children()) - others:
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _score(triple: Triple, names: Sequence[str], align: bool) -> Row | str:
    """Return the row of one file, or a line that says why there is none."""
    try:
        if triple.reference is None:
            sides = [_beginning(path) for path in (triple.noisy, triple.enhanced)]
            cleans: Sequence[Tensor | None] = [None] * len(sides[0])
            lag_ms = 0.0
        else:
            *sides, clean, lag_ms = _matched(triple.noisy, triple.enhanced, triple.reference, align)
            cleans = list(clean)
    except (DenoiserError, OSError, RuntimeError, MemoryError) as error:
        return str(error) or f"{triple.noisy}: not enough memory"
    row: Row = {"name": triple.name} | ({"lag_ms": lag_ms} if lag_ms else {})
    for kind, waveform in zip(tables.KINDS, sides, strict=True):
        pairs = zip(cleans, waveform, strict=True)
        row[kind] = metrics.mean([metrics.score(x, y, RATE, names) for x, y in pairs])
    return row


def _beginning(path: Path) -> Tensor:
    """Return the first minutes of a file at ``RATE``, ``[C, N]``, so that memory does not grow with its length."""
    with audio.Reader(path) as reader:
        rate = reader.info.sample_rate
        return audio.resample(reader.read(RATED_SECONDS * rate), rate, RATE)


def _matched(noisy: Path, enhanced: Path, reference: Path, align: bool) -> tuple[Tensor, Tensor, Tensor, float]:
    """Return whole files at ``RATE`` with the channels and length of the first, and the reference's lag in ms, or 0.

    With ``align`` the lag is taken back, and where the reference then has no sound, no file has any. Raises AudioError
    if channels or lengths differ.
    """
    first, *others = (audio.resample(*audio.read(path), RATE) for path in (noisy, enhanced, reference))
    tolerance = LONGEST_LAG if align else TOLERANCE
    for path, other in zip((enhanced, reference), others, strict=True):
        if len(other) not in (1, len(first)):
            raise AudioError(f"{path}: {len(other)} channels, {noisy} has {len(first)}; expected as many, or one")
        seconds, wanted = (waveform.shape[1] / RATE for waveform in (other, first))
        if abs(seconds - wanted) > tolerance:
            expected = f"expected the same to {tolerance} s"
            raise AudioError(f"{path}: {seconds:.2f} s long, {noisy} {wanted:.2f} s; {expected}")
    shape = (len(first), min(waveform.shape[1] for waveform in (first, *others)))
    first, second, clean = (waveform[:, : shape[1]].expand(shape) for waveform in (first, *others))
    lag = find_lag(clean, first, min(round(LONGEST_LAG * RATE), shape[1] // 2))
    apart = lag.samples if lag.is_certain and abs(lag.samples) >= LATE else 0.0
    if align and apart:
        both = slice(max(0, math.ceil(-apart)), shape[1] - max(0, math.ceil(apart)))
        first, second, clean = first[:, both], second[:, both], advance(clean, apart)[:, both]
    return first, second, clean, round(1000 * apart / RATE, 2)
