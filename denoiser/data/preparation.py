"""Preparation of a corpus: its files become a store. Memory grows with neither the corpus nor a recording."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from denoiser import audio, filesystem
from denoiser.audio.blocks import resampling
from denoiser.audio.resampling import ratio
from denoiser.data.bandwidth import Bandwidth
from denoiser.data.pairs import Corpus, check, refuse
from denoiser.data.store import FULL_SCALE, VERSION, Store, is_complete
from denoiser.errors import AudioError, CorpusError

BLOCK_SECONDS = 10.0  # read at once by each worker
HELD_SECONDS = 60.0  # longest recording that a worker keeps in memory; a longer one is read twice
LARGEST = 1 - 1 / FULL_SCALE
SAMPLE = 4096  # bytes from the middle of a file that its key depends on
CANCELLED = 0.01  # of the channels' power that is left in their mean; of eight unlike channels an eighth is


def prepare(corpora: Sequence[Corpus], sample_rate: int, cache: Path, problems: Sequence[str] = ()) -> list[Store]:
    """Return the stores of these corpora at ``sample_rate`` Hz under ``cache``, prepared unless they are there.

    A store is prepared again when the names, sizes, times or middles of its files, the rate or the format change.
    Channels are averaged, unless they cancel each other, and the mean of each track is removed. Tracks beyond full
    scale are scaled down together, so that noisy remains clean plus noise. Raises one CorpusError for the ``problems``
    found before and all wrong headers, before any file is prepared, and one for all files that are damaged when they
    are read.
    """
    folders = [cache / f"{sample_rate}hz-{_key(corpus, sample_rate)}" for corpus in corpora]
    missing = [(c, folder) for c, folder in zip(corpora, folders, strict=True) if not is_complete(folder)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        checked = [list(pool.map(check, corpus.files)) for corpus, _ in missing]
    refuse([*problems, *(problem for corpus in checked for _, found in corpus for problem in found)])
    damaged: list[str] = []
    for (corpus, folder), headers in zip(missing, checked, strict=True):
        try:
            damaged += _build(corpus, [info for info, _ in headers if info], sample_rate, folder)
        except OSError as error:
            raise CorpusError(f"data.cache={cache}: cannot be written ({error}); name another place") from error
    refuse(damaged)
    return [Store(folder) for folder in folders]


def _build(corpus: Corpus, infos: Sequence[audio.Info], sample_rate: int, folder: Path) -> list[str]:
    """Write one store, or none if files are damaged; returns a line for each of those."""
    ratios = [ratio(info.sample_rate, sample_rate) for info in infos]
    lengths = [math.ceil(info.frames * new / old) for info, (old, new) in zip(infos, ratios, strict=True)]
    starts = np.cumsum([0, *lengths]).tolist()

    def convert(index: int) -> tuple[float, float] | str:
        try:
            return _convert(corpus.files[index], infos[index], sample_rate, targets, starts[index])
        except (AudioError, RuntimeError) as error:
            return str(error)

    with filesystem.atomic_folder(folder) as partial:
        targets = [partial / f"{track}.i16" for track in corpus.tracks]
        for target in targets:
            with open(target, "wb") as empty:
                empty.truncate(2 * max(1, starts[-1]))
        threads = torch.get_num_threads()
        try:
            # One file per thread: decoding and filtering release the interpreter, and files are short.
            with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
                results = pool.map(convert, range(len(infos)))
                found = list(tqdm(results, "preparing", len(infos), unit="file", disable=None))
        finally:
            torch.set_num_threads(threads)
        if problems := [problem for problem in found if isinstance(problem, str)]:
            return problems
        facts = ("name", "start", "length", "level", "bandwidth")
        rows = zip(corpus.names, starts, lengths, *zip(*found, strict=True), strict=False)
        utterances = [dict(zip(facts, row, strict=True)) for row in rows]
        index = {"version": VERSION, "sample_rate": sample_rate, "tracks": corpus.tracks, "utterances": utterances}
        (partial / "index.json").write_text(json.dumps(index))
        for path in partial.iterdir():
            # Windows flushes only files that are open for writing.
            with open(path, "r+b") as file:
                os.fsync(file.fileno())
        try:
            # A store that was damaged since is replaced.
            if folder.is_dir() and not is_complete(folder):
                shutil.rmtree(folder)
            os.rename(partial, folder)
        except OSError:
            # Another process may have been faster, with the same result.
            if not is_complete(folder):
                raise
    return []


def _convert(
    paths: Sequence[Path], info: audio.Info, sample_rate: int, targets: Sequence[Path], start: int
) -> tuple[float, float]:
    """Write one recording to the targets, one per track, from sample ``start`` on.

    Returns the level of the first track, and the lowest bandwidth in Hz.
    """
    held = list(_read(paths, info, sample_rate)) if info.seconds <= HELD_SECONDS else None

    def blocks() -> Iterable[Tensor]:
        return _read(paths, info, sample_rate) if held is None else held

    count, total = 0, torch.zeros(len(paths), dtype=torch.float64)
    low, high = torch.full((len(paths),), torch.inf), torch.full((len(paths),), -torch.inf)
    for block in blocks():
        count += block.shape[1]
        total += block.double().sum(dim=1)
        low, high = torch.minimum(low, block.amin(dim=1)), torch.maximum(high, block.amax(dim=1))
    mean = (total / count).float()
    peak = float(torch.maximum(high - mean, mean - low).max())
    divisor = max(1.0, peak / LARGEST)

    position, squares, bandwidth = 2 * start, 0.0, Bandwidth(sample_rate)
    with ExitStack() as stack:
        files = [stack.enter_context(open(target, "r+b")) for target in targets]
        for block in blocks():
            samples = ((block - mean[:, None]) / divisor * FULL_SCALE).round().to(torch.int16)
            for file, track in zip(files, samples, strict=True):
                file.seek(position)
                file.write(track.numpy().data)
            position += 2 * block.shape[1]
            squares += float(samples[0].double().square().sum())
            bandwidth.add(block)
    return math.sqrt(squares / count) / FULL_SCALE, bandwidth.measure(info.sample_rate)


def _read(paths: Sequence[Path], info: audio.Info, sample_rate: int) -> Iterator[Tensor]:
    """Yield the blocks of a recording at ``sample_rate``, float32 ``[tracks, N]``."""
    resampler = resampling(info.sample_rate, sample_rate, BLOCK_SECONDS)
    step = math.ceil(BLOCK_SECONDS * info.sample_rate)
    powers = torch.zeros(2, len(paths), dtype=torch.float64)  # of the channels, and of their mean
    with ExitStack() as stack:
        readers = [stack.enter_context(audio.Reader(path)) for path in paths]
        for done in range(0, info.frames, step):
            wanted = min(step, info.frames - done)
            sounds = [reader.read(wanted) for reader in readers]
            tracks = [sound.mean(dim=0) for sound in sounds]
            powers[0] += torch.stack([sound.double().square().mean(dim=0).sum() for sound in sounds])
            powers[1] += torch.stack([track.double().square().sum() for track in tracks])
            for path, track in zip(paths, tracks, strict=True):
                if len(track) < wanted:
                    came = done + len(track)
                    raise AudioError(f"{path}: its header promises {info.frames} samples, {came} came")
            yield from resampler.push(torch.stack(tracks))
    for path, channels, mean in zip(paths, *powers.tolist(), strict=True):
        if mean < CANCELLED * channels:
            raise AudioError(
                f"{path}: its channels cancel each other, as of opposite polarity; keep one, or invert one"
            )
    yield from resampler.flush()


def _key(corpus: Corpus, sample_rate: int) -> str:
    """Return the key of a store, which does not depend on the folder: a corpus that moved is not prepared again."""
    digest = hashlib.sha256(f"{VERSION} {sample_rate} {' '.join(corpus.tracks)}".encode())
    named = [(name, path) for name, paths in zip(corpus.names, corpus.files, strict=True) for path in paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, path), middle in zip(named, pool.map(_middle, (path for _, path in named)), strict=True):
            stat = path.stat()
            digest.update(f"\n{name} {path.name} {stat.st_size} {stat.st_mtime_ns} ".encode())
            # Names, sizes and times are alike in corpora of one program, and in archives that hold no times.
            digest.update(middle)
    return digest.hexdigest()[:16]


def _middle(path: Path) -> bytes:
    """Return the hash of some bytes from the middle of a file, of none if it cannot be read: its check says so."""
    content = b""
    with suppress(OSError), open(path, "rb") as file:
        file.seek(max(0, (os.fstat(file.fileno()).st_size - SAMPLE) // 2))
        content = file.read(SAMPLE)
    return hashlib.sha256(content).digest()
