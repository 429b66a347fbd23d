"""The prepared corpus: noisy and clean at one rate, 16 bit, in two memory maps, with an index.

Preparation reads and resamples every file once; training then reads crops where they lie. The whole corpus
is never in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from denoiser import audio
from denoiser.data.pairs import Pair, check, refuse
from denoiser.errors import AudioError, CorpusError
from denoiser.spectral import Spectral

VERSION = 1  # of the format; a store of another is prepared anew
FULL_SCALE = 32_768.0


@dataclass(frozen=True)
class Utterance:
    """Where one pair lies in the maps; ``level`` is the RMS of its noisy waveform, full scale at 1."""

    name: str
    start: int
    length: int
    level: float


class Store:
    """A prepared corpus on disk, opened for reading. Safe to fork and to pickle: maps open on first use."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        self.folder = folder
        self.sample_rate: int = index["sample_rate"]
        self.utterances = {u["name"]: Utterance(**u) for u in index["utterances"]}
        self._maps: tuple[np.memmap, np.memmap] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": None}

    @property
    def seconds(self) -> float:
        return sum(u.length for u in self.utterances.values()) / self.sample_rate

    def read(self, name: str, start: int = 0, length: int | None = None) -> tuple[Tensor, Tensor]:
        """Noisy and clean float32 ``[length]`` from sample ``start`` of one utterance, zeros beyond its end."""
        utterance = self.utterances[name]
        length = utterance.length - start if length is None else length
        if self._maps is None:
            paths = (self.folder / "noisy.i16", self.folder / "clean.i16")
            noisy, clean = (np.memmap(path, np.int16, mode="r") for path in paths)
            self._maps = (noisy, clean)
        first = utterance.start + start
        stop = min(first + length, utterance.start + utterance.length)
        pair = (torch.from_numpy(m[first:stop].astype(np.float32)) / FULL_SCALE for m in self._maps)
        noisy_crop, clean_crop = (audio.match_length(x, length) for x in pair)
        return noisy_crop, clean_crop


def prepare(
    corpora: Sequence[Sequence[Pair]],
    sample_rate: int,
    cache: Path,
    workers: int | None = None,
    problems: Sequence[str] = (),
) -> list[Store]:
    """The stores of these corpora at ``sample_rate`` Hz under ``cache``: those there, or new ones.

    A store is known by the names, sizes and times of its files, the rate and the format, so it is prepared
    again when any changes. It is built beside its final name and renamed when whole. Channels are averaged;
    a pair beyond full scale is scaled down as one, so that noisy is still clean plus noise.
    Raises CorpusError, one for the ``problems`` already found and all files whose headers tell that they cannot
    be used, before any is prepared; and one for all that turn out to be damaged when they are read.
    """
    workers = workers or os.cpu_count() or 1
    folders = [cache / f"{sample_rate}hz-{_key(pairs, sample_rate)}" for pairs in corpora]
    missing = [(p, folder) for p, folder in zip(corpora, folders, strict=True) if not (folder / "index.json").is_file()]
    checked = [check(pairs, workers) for pairs, _ in missing]
    refuse([*problems, *(problem for _, found in checked for problem in found)])
    damaged: list[str] = []
    for (pairs, folder), (infos, _) in zip(missing, checked, strict=True):
        try:
            damaged += _build(pairs, infos, sample_rate, folder, workers)
        except OSError as error:
            raise CorpusError(f"data.cache={cache}: cannot be written ({error}); name another place") from error
    refuse(damaged)
    return [Store(folder) for folder in folders]


def _build(
    pairs: Sequence[Pair], infos: Sequence[tuple[audio.Info, audio.Info]], sample_rate: int, folder: Path, workers: int
) -> list[str]:
    """Write one store, or nothing; returns a line for each file that turned out to be damaged."""
    lengths = [math.ceil(noisy.frames * sample_rate / noisy.sample_rate) for noisy, _ in infos]
    starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()

    _remove_leftovers(folder.parent)
    partial = folder.parent / f"{folder.name}.partial-{socket.gethostname()}-{os.getpid()}"
    partial.mkdir(parents=True)
    _require_space(partial, 4 * starts[-1])
    names = ("noisy.i16", "clean.i16")
    maps = [np.memmap(partial / name, np.int16, mode="w+", shape=(max(1, starts[-1]),)) for name in names]

    def work(index: int) -> float:
        pair = pairs[index]
        both = torch.cat([_mono(pair.noisy), _mono(pair.clean)])
        if both.shape[1] != infos[index][0].frames:
            raise AudioError(
                f"{pair.noisy}: its header promises {infos[index][0].frames} samples, {both.shape[1]} came"
            )
        both = audio.resample(both, infos[index][0].sample_rate, sample_rate)
        both = both / max(1.0, float(both.abs().max()) / (1 - 1 / FULL_SCALE))
        samples = (both * FULL_SCALE).round().to(torch.int16)
        for target, source in zip(maps, samples.numpy(), strict=True):
            target[starts[index] : starts[index] + lengths[index]] = source
        return float(Spectral.level(samples[0].float() / FULL_SCALE))

    levels: list[float] = [0.0] * len(pairs)
    problems: list[str] = []
    threads = torch.get_num_threads()
    try:
        # One file a thread: decoding and filtering release the interpreter, and files are short.
        with (
            ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            tqdm(total=starts[-1] / sample_rate, desc="preparing", unit="s", unit_scale=True, disable=None) as bar,
        ):
            futures = {pool.submit(work, index): index for index in range(len(pairs))}
            try:
                for future in as_completed(futures):
                    index = futures[future]
                    try:
                        levels[index] = future.result()
                    except (AudioError, RuntimeError) as error:
                        problems.append(str(error))
                    bar.update(lengths[index] / sample_rate)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        if problems:
            return sorted(problems)
        for array in maps:
            array.flush()
        rows = zip((p.name for p in pairs), starts, lengths, levels, strict=False)
        utterances = [dict(zip(("name", "start", "length", "level"), row, strict=True)) for row in rows]
        index_text = json.dumps({"version": VERSION, "sample_rate": sample_rate, "utterances": utterances})
        (partial / "index.json").write_text(index_text)
        try:
            os.rename(partial, folder)
        except OSError:
            if not (folder / "index.json").is_file():  # else another process was faster, with the same result
                raise
        return []
    finally:
        torch.set_num_threads(threads)
        shutil.rmtree(partial, ignore_errors=True)


def _mono(path: Path) -> Tensor:
    return audio.read(path)[0].mean(dim=0, keepdim=True)


def _key(pairs: Sequence[Pair], sample_rate: int) -> str:
    """Of the files as they are on disk, not of where they are: a moved corpus is not prepared again."""
    digest = hashlib.sha256(f"{VERSION} {sample_rate}".encode())
    for pair in pairs:
        for path in (pair.noisy, pair.clean):
            stat = path.stat()
            digest.update(f"\n{pair.name} {path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed * 1.05:
        shutil.rmtree(folder)
        raise CorpusError(
            f"{folder.parent}: the prepared corpus needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; "
            "free some, or name another place by data.cache="
        )


def _remove_leftovers(cache: Path) -> None:
    """Delete what preparations killed on this machine left behind; one still running is left alone."""
    for partial in cache.glob(f"*.partial-{socket.gethostname()}-*"):
        try:
            os.kill(int(partial.name.rsplit("-", 1)[1]), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(partial, ignore_errors=True)
        except OSError:
            continue
