"""Folders of sound that the settings of mixtures name, and the checks of them."""

import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from denoiser import audio
from denoiser.data.pairs import Corpus, match, unnest
from denoiser.errors import AudioError, CorpusError

Paths = str | Sequence[str]
TESTS = (("noisy_testset_wav", "clean_testset_wav"), ("test/noisy", "test/clean"), ("noisy", "clean"))


def listed(given: Paths | None) -> list[Path]:
    """Return the folders that a setting names, none or more, each once."""
    paths = [given] if isinstance(given, str) else given or []
    return list(dict.fromkeys(Path(path).expanduser() for path in paths))


def sound_files(key: str, path: Path) -> list[Path]:
    """Return the sound files of a folder, file or pattern of ``data.<key>``. Raises CorpusError for none."""
    try:
        return audio.list_files(path)
    except AudioError as error:
        raise CorpusError(f"data.{key}: {error}") from error


def one_track(key: str, path: Path) -> Corpus:
    """Return the sound files of one entry of ``data.<key>`` as a corpus of one track, named by their places in it."""
    files = sound_files(key, path)
    folder = path if path.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    names = [file.relative_to(folder).as_posix() for file in files]
    return Corpus((key,), names, [(file,) for file in files])


def prefixes(folders: Sequence[Path]) -> list[str]:
    """Return a prefix for the file names of each folder, so that equal names in several folders differ."""
    if len(folders) == 1:
        return [""]
    names = [folder.name for folder in folders]
    return [f"{folder.name if names.count(folder.name) == 1 else folder.as_posix()}/" for folder in folders]


def check_apart(speech: Sequence[Path], noise: Sequence[Path]) -> None:
    """Raise CorpusError where noises would be taken for speech."""
    for inner, outer in product(noise, speech):
        if inner.resolve().is_relative_to(outer.resolve()):
            raise CorpusError(f"data.noise={inner}: lies in data.speech={outer}; name folders that lie apart")


def test_pairs(root: Path) -> tuple[Corpus, list[str]]:
    """Return the pairs of ``data.test_root``, and a line for each problem. Raises CorpusError for no such folders."""
    for noisy, clean in TESTS:
        if (root / noisy).is_dir() and (root / clean).is_dir():
            return match(unnest(root / noisy), unnest(root / clean))
    raise CorpusError(f"data.test_root={root}: no {' nor '.join(' and '.join(pair) for pair in TESTS)} in it")
