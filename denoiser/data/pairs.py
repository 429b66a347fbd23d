"""Files of a corpus, pairs or single tracks: where they are, checks of their headers, and the split of pairs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoiser import audio
from denoiser.data.split import FEWEST, PREFIX, hold_out, speaker
from denoiser.errors import AudioError, CorpusError

VCTK_HELD_OUT = ("p226", "p287")  # as in SpeechBrain, so that results compare
LISTED = 10  # problems in a message
TESTS = (("noisy_testset_wav", "clean_testset_wav"), ("test/noisy", "test/clean"), ("noisy", "clean"))

Paths = str | Sequence[str]


@dataclass(frozen=True)
class Corpus:
    """Files of one store: the names of the utterances, and for each of them one file per track."""

    tracks: tuple[str, ...]
    names: list[str]
    files: list[tuple[Path, ...]]


@dataclass(frozen=True)
class Folders:
    """The noisy and clean folders of a corpus for training and test; ``test`` is None if it has none of its own."""

    train: tuple[Path, Path]
    test: tuple[Path, Path] | None
    held_out: tuple[str, ...] = ()


def vctk_demand(root: Path) -> Folders:
    """Return the folders of VCTK-DEMAND under ``root``, each of which may lie in a folder of its own name."""
    trains = [f"trainset_{speakers}spk_wav" for speakers in (28, 56)]
    train = next((name for name in trains if (root / f"noisy_{name}").is_dir()), trains[0])
    names = [f"noisy_{train}", f"clean_{train}", "noisy_testset_wav", "clean_testset_wav"]
    if missing := [name for name in names if not (root / name).is_dir()]:
        remedy = f"python -m denoiser download root={root} fetches it; or use data=folders or data=synthetic"
        raise CorpusError(f"data.root={root}: not VCTK-DEMAND, missing: {', '.join(missing)}; {remedy}")
    noisy, clean, test_noisy, test_clean = [unnest(root / name) for name in names]
    return Folders((noisy, clean), (test_noisy, test_clean), VCTK_HELD_OUT)


def folders(root: Path) -> Folders:
    """Return ``noisy/`` and ``clean/`` under ``root`` or ``root/train``, and those of a test under ``root/test``."""
    found = [(base / "noisy", base / "clean") for base in (root, root / "train", root / "test")]
    here, train, test = [sides if all(side.is_dir() for side in sides) else None for sides in found]
    if sides := here or train:
        return Folders(sides, test)
    raise CorpusError(f"data.root={root}: no noisy/ and clean/ in it, nor in train/; put files and clean twins there")


LAYOUTS = {"vctk_demand": vctk_demand, "folders": folders}


def unnest(folder: Path) -> Path:
    """Return the folder of the same name inside, if there is one, else the folder."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def match(noisy: Path, clean: Path) -> tuple[Corpus, list[str]]:
    """Return pairs of sound files with one relative name without extension, sorted by it, and a line a problem."""
    sides: list[dict[str, Path]] = []
    problems: list[str] = []
    for folder in (noisy, clean):
        side: dict[str, Path] = {}
        try:
            files = audio.list_files(folder)
        except AudioError as error:
            return Corpus(("noisy", "clean"), [], []), [str(error)]
        for path in files:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in side:
                problems.append(f"{path}: {side[name].name} has the same name")
            side[name] = path
        sides.append(side)
    for mine, other, folder in ((sides[0], sides[1], clean), (sides[1], sides[0], noisy)):
        problems += [f"{mine[name]}: no file of this name in {folder}" for name in sorted(set(mine) - set(other))]
    names = sorted(set(sides[0]) & set(sides[1]))
    return Corpus(("noisy", "clean"), names, [(sides[0][name], sides[1][name]) for name in names]), problems


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


def test_pairs(root: Path) -> tuple[Corpus, list[str]]:
    """Return the pairs of ``data.test_root``, and a line for each problem. Raises CorpusError for no such folders."""
    for noisy, clean in TESTS:
        if (root / noisy).is_dir() and (root / clean).is_dir():
            return match(unnest(root / noisy), unnest(root / clean))
    raise CorpusError(f"data.test_root={root}: no {' nor '.join(' and '.join(pair) for pair in TESTS)} in it")


def check(paths: Sequence[Path]) -> tuple[audio.Info | None, list[str]]:
    """Return the header of the first of a recording's files, which agree in rate and length, or None and problems."""
    infos: list[audio.Info] = []
    problems: list[str] = []
    for path in paths:
        try:
            infos.append(audio.probe(path))
        except AudioError as error:
            problems.append(str(error))
    unknown = "holds no samples, or its header does not say how many; convert it to WAV"
    problems += [f"{info.path}: {unknown}" for info in infos if info.frames == 0]
    if problems:
        return None, problems
    first = infos[0]
    for twin in infos[1:]:
        if first.sample_rate != twin.sample_rate:
            return None, [f"{first.path}: {first.sample_rate} Hz, its clean twin {twin.sample_rate} Hz"]
        if first.frames != twin.frames:
            return None, [f"{first.path}: {first.frames} samples, its clean twin {twin.frames}"]
    return first, []


def refuse(problems: Sequence[str]) -> None:
    """Raise one CorpusError for all problems, if there are any; it lists the first ten."""
    if problems:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the corpus"
        raise CorpusError(f"{count}, mend or remove these files: " + "; ".join(problems[:LISTED]) + more)


def split(names: Sequence[str], held_out: Sequence[str] = (), part: str = "val") -> tuple[list[str], list[str], str]:
    """Hold out a part of the pairs; returns the names for training and for the part, and the rule in words.

    The part is the ``held_out`` speakers if the corpus has them and others; else a tenth of at least four speakers with
    two files each on average; else a tenth of the files. Raises CorpusError for fewer than two names.
    """
    if len(names) < 2:
        raise CorpusError("too few pairs in the corpus; training, validation and test need one each")
    labels = [speaker(name, PREFIX) for name in names]
    distinct = set(labels)
    named = [label for label in held_out if label in distinct]
    if named and len(named) < len(distinct):
        part_of, rule = dict.fromkeys(named, part), f"speakers {' + '.join(named)} held out"
    elif FEWEST <= len(distinct) <= len(names) / 2:
        part_of, rule = hold_out(labels, ("train", part), "speaker")
    else:
        labels = list(names)
        part_of, rule = hold_out(labels, ("train", part), "file")
        rule += ", as there are too few speakers"
    train = sorted(name for name, label in zip(names, labels, strict=True) if label not in part_of)
    held = sorted(name for name, label in zip(names, labels, strict=True) if label in part_of)
    return train, held, rule
