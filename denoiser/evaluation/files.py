"""Scores of files against files: which reference belongs to which file, and every metric of it, on all cores."""

from __future__ import annotations

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from denoiser import audio
from denoiser.data.metadata import gather, read_logs
from denoiser.errors import AudioError, ConfigError, DenoiserError
from denoiser.evaluation import metrics, scoring
from denoiser.evaluation.tables import Row

RATE = 16_000  # Hz; all is resampled to it, so that files of any rates compare
TOLERANCE = 0.1  # s that lengths may differ by; the longer is cut at its end
FILES_PER_WORKER = 8  # a process takes about as long to start as eight files of some seconds take to score
MAX_WORKERS = 61  # Windows' limit
NAMES = ("pesq", "stoi", "si_sdr", "csig", "cbak", "covl", "estoi", "seg_snr", "pesq_nb", "lsd")


@dataclass(frozen=True)
class Triple:
    """A file, what became of it, and its clean reference; ``name`` is unique among those it is scored with."""

    name: str
    noisy: Path
    enhanced: Path
    reference: Path


def match_references(
    jobs: Sequence[tuple[Path, Path]], reference: Path, root: Path | None = None
) -> tuple[list[Triple], list[str]]:
    """Give each (noisy, enhanced) its reference; neither has to be there yet.

    ``reference`` is the file of the only job, or a folder, where a noisy file's reference has its path relative to
    ``root``, or else its name, and any format. Returns the triples and a line for each file that has none.
    Raises AudioError where ``reference`` does not exist or holds no sound, ConfigError for one file to many jobs.
    """
    names = _names([noisy for noisy, _ in jobs], root)
    is_folder = reference.is_dir()
    if not is_folder and not reference.is_file():
        raise AudioError(f"reference={reference}: no such file or folder")
    if not is_folder and len(jobs) != 1:
        raise ConfigError(f"reference={reference}: one file for {len(jobs)} inputs; give a folder of references")
    paths, stems = defaultdict(list), defaultdict(list)
    for file in audio.list_files(reference) if is_folder else ():
        paths[file.relative_to(reference).with_suffix("")].append(file)
        stems[file.stem].append(file)
    triples, problems = [], []
    for name, (noisy, enhanced) in zip(names, jobs, strict=True):
        found = [reference]
        if is_folder:
            found = paths[_relative(noisy, root).with_suffix("")] or stems[noisy.stem]
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


def _names(files: Sequence[Path], root: Path | None) -> list[str]:
    """The shortest of three kinds of names under which all are different."""
    names: list[str] = []
    for how in (lambda p: _relative(p, root).with_suffix(""), lambda p: _relative(p, root), lambda p: p):
        names = [how(file).as_posix() for file in files]
        if max(Counter(names).values(), default=1) == 1:
            break
    return names


def score_files(
    triples: Sequence[Triple], workers: int | None = None, names: Sequence[str] = NAMES
) -> tuple[list[Row], list[str]]:
    """The metrics of each noisy and enhanced file against its reference, with progress.

    Returns the rows that :mod:`~denoiser.evaluation.tables` takes, in the order of ``triples``, the same for any number
    workers, and a line for each file that could not be scored. Where log files of VCTK-DEMAND lie beside the noisy
    files or one folder above, a row also has noise type and SNR.

    Args:
        triples: what :func:`match_references` found.
        workers: processes; 1 works in this one. Default: one a processor, and one for every eight files at most.
            They are spawned: a script of yours calls this under ``if __name__ == "__main__":``.
        names: of the metrics.

    Raises:
        ConfigError: a metric is unknown.
        DenoiserError: processes cannot be started.
    """
    metrics.check_names(names)
    if workers is None:
        workers = min(os.cpu_count() or 1, -(-len(triples) // FILES_PER_WORKER), MAX_WORKERS)
    results: list[Row | str | None] = [None] * len(triples)
    with tqdm(total=len(triples), desc="scoring", unit="file", disable=None) as bar, scoring.one_thread():
        if workers > 1:
            _score_in_processes(triples, names, workers, results, bar)
        else:
            for index, triple in enumerate(triples):
                results[index] = _score(triple, names)
                bar.update()
    rows = [result for result in results if isinstance(result, dict)]
    parents = [triple.noisy.resolve().parent for triple in triples]
    logs = read_logs(*sorted({folder for parent in parents for folder in (parent, parent.parent)}))
    known = gather([row["name"] for row in rows], logs)
    return [{**row, **known[row["name"]]} for row in rows], [result for result in results if isinstance(result, str)]


def _score_in_processes(
    triples: Sequence[Triple], names: Sequence[str], workers: int, results: list[Row | str | None], bar: tqdm
) -> None:
    """Fill ``results``. Where a process dies, of a file that takes too much memory say, the rest goes one by one."""
    while left := [index for index, result in enumerate(results) if result is None]:
        pool = scoring.processes(min(workers, len(left)))
        futures: dict[Future[Row | str], int] = {}
        try:
            _start(pool)
            for index in left:
                futures[pool.submit(_score, triples[index], names)] = index
            for future in as_completed(futures):
                future.result()
                bar.update()
        except BrokenProcessPool:
            bar.write("a process that scored files died; going on with one", file=sys.stderr)
        finally:
            pool.shutdown(cancel_futures=True)
        for future, index in futures.items():
            if future.done() and not future.cancelled() and not future.exception():
                results[index] = future.result()
        if workers == 1 and (dead := [index for index in left if results[index] is None]):
            results[dead[0]] = f"{triples[dead[0]].noisy}: the process that scored it died; is there memory enough?"
        workers, bar.n = 1, sum(result is not None for result in results)


def _start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(scoring.ready).result()
    except BrokenProcessPool:
        raise DenoiserError(
            "scoring: no process could be started; a script that scores files does so under "
            'if __name__ == "__main__":, or with workers=1'
        ) from None


def _score(triple: Triple, names: Sequence[str]) -> Row | str:
    """The row of one file, or what is wrong with it."""
    try:
        noisy, enhanced, reference = map(_read, (triple.noisy, triple.enhanced, triple.reference))
        _check(triple.enhanced, enhanced, triple.noisy, noisy)
        _check(triple.reference, reference, triple.noisy, noisy)
    except (DenoiserError, OSError, RuntimeError, MemoryError) as error:
        return str(error) or f"{triple.noisy}: not enough memory"
    length = min(waveform.shape[1] for waveform in (noisy, enhanced, reference))
    reference = reference[:, :length].expand(len(noisy), length)
    row: Row = {"name": triple.name}
    for kind, waveform in (("noisy", noisy), ("enhanced", enhanced)):
        waveform = waveform[:, :length].expand(len(noisy), length)
        channels = [metrics.score(*pair, RATE, names) for pair in zip(reference, waveform, strict=True)]
        row[kind] = metrics.mean(channels)
    return row


def _read(path: Path) -> Tensor:
    """A file as ``[C, N]`` at 16 kHz."""
    waveform, rate = audio.read(path)
    return audio.resample(waveform, rate, RATE)


def _check(path: Path, found: Tensor, noisy: Path, expected: Tensor) -> None:
    """Raise AudioError where two files cannot be of one recording."""
    if len(found) not in (1, len(expected)):
        raise AudioError(f"{path}: {len(found)} channels, {noisy} has {len(expected)}; expected as many, or one")
    seconds, wanted = (waveform.shape[1] / RATE for waveform in (found, expected))
    if abs(seconds - wanted) > TOLERANCE:
        raise AudioError(f"{path}: {seconds:.2f} s long, {noisy} {wanted:.2f} s; expected the same to {TOLERANCE} s")
