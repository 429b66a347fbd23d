"""Folders of sound that the settings of mixtures name, and the checks of them."""

import os
from collections.abc import Sequence
from pathlib import Path

from denoiser import audio
from denoiser.data.pairs import Corpus, match, unnest
from denoiser.data.preparation import clips
from denoiser.errors import AudioError, ConfigError, CorpusError

Paths = str | Sequence[str]
TESTS = (("noisy_testset_wav", "clean_testset_wav"), ("test/noisy", "test/clean"), ("noisy", "clean"))


def listed(key: str, given: Paths | None) -> list[Path]:
    """Return the folders that ``data.<key>`` names, none or more. Raises ConfigError for one that is named twice."""
    paths = [Path(path).expanduser() for path in ([given] if isinstance(given, str) else given or [])]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"data.{key}={given}: names a folder twice")
    return paths


def sound_files(key: str, path: Path) -> list[Path]:
    """Return the sound files of a folder, file or pattern of ``data.<key>``. Raises CorpusError for none."""
    try:
        return audio.list_files(path)
    except AudioError as error:
        raise CorpusError(f"data.{key}: {error}") from error


def one_track(key: str, path: Path) -> Corpus:
    """Return the sound files of one entry of ``data.<key>`` as a corpus of one track, to be prepared."""
    files = sound_files(key, path)
    folder = path if path.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    return clips(key, folder, files)


def prefixes(folders: Sequence[Path]) -> list[str]:
    """Return a prefix for the file names of each folder, so that equal names in several folders differ."""
    if len(folders) == 1:
        return [""]
    names = [folder.name for folder in folders]
    return [f"{folder.name if names.count(folder.name) == 1 else folder.as_posix()}/" for folder in folders]


def check_apart(speech: Sequence[Path], noise: Sequence[Path]) -> None:
    """Raise CorpusError where noises would be taken for speech."""
    for inner in noise:
        for outer in speech:
            if inner.resolve().is_relative_to(outer.resolve()):
                raise CorpusError(
                    f"data.noise={inner}: lies in data.speech={outer}, where every file is taken for clean speech; "
                    "name folders that lie apart"
                )


def test_pairs(root: Path) -> tuple[Corpus, list[str]]:
    """Return the pairs of ``data.test_root`` and a line for each problem. Raises CorpusError where it has none."""
    for noisy, clean in TESTS:
        if (root / noisy).is_dir() and (root / clean).is_dir():
            return match(unnest(root / noisy), unnest(root / clean))
    raise CorpusError(
        f"data.test_root={root}: no noisy_testset_wav/ and clean_testset_wav/ in it, nor noisy/ and clean/; "
        "leave it out to test on mixtures"
    )
