"""Files of a corpus, pairs or single tracks: where they are, checks of their headers, and the split of pairs."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from denoiser import audio
from denoiser.data.split import FEWEST, PREFIX, hold_out, search, speaker
from denoiser.errors import AudioError, CorpusError

VCTK_HELD_OUT = ("p226", "p287")  # as in SpeechBrain, so that results compare
LISTED = 10  # problems in a message
TESTS = (("noisy_testset_wav", "clean_testset_wav"), ("test/noisy", "test/clean"), ("noisy", "clean"))

# Names that people give to the folders of each part.
PARTS = {
    "train": ("train", "training", "tr"),
    "val": ("valid", "val", "validation", "dev", "cv"),
    "test": ("test", "testing", "tt"),
}

# Regular expressions that find the part that both names of a pair share, the most telling first: x_fileid_7 and
# clean_fileid_7 (DNS), a_noisy and a_clean, noisy_a and clean_a, aNoisy and aClean, mixture7 and speech7.
SCHEMES = (
    r"fileid_(\d+)",
    *(rf"(.*){separator}" for separator in ("_", "-", r"\.", " ")),
    *(rf"(.*/)?[^/{separator}]*{separator}(.*)" for separator in "_- "),
    r"(.*)(?:[Nn]oisy|[Cc]lean)$",
    r"(\d+)$",
    r"(\d+)",
)

Paths = str | Sequence[str]
Sides = tuple[Path, Path]  # folders of noisy and clean files


@dataclass(frozen=True)
class Corpus:
    """Files of one store: the names of the utterances, and for each of them one file per track."""

    tracks: tuple[str, ...]
    names: list[str]
    files: list[tuple[Path, ...]]


@dataclass(frozen=True)
class Folders:
    """The noisy and clean folders of a corpus for each part; ``test`` or ``val`` is None if it has none of its own.

    Folders inside those of ``train`` whose names, in lower case, are in ``without`` are of other parts.
    """

    train: Sides
    test: Sides | None
    held_out: tuple[str, ...] = ()
    val: Sides | None = None
    without: tuple[str, ...] = ()


def vctk_demand(root: Path) -> Folders:
    """Return the folders of VCTK-DEMAND under ``root``, each of which may lie in a folder of its own name.

    Names like those of its archives are known too: ``noisy_trainset_wav``, ``noisy_trainset_28spk_wav_16k``.
    """
    names: list[str] = []
    for part, published in (("train", "trainset_28spk_wav"), ("test", "testset_wav"), ("val", "valset_wav")):
        found = sorted(path.name.removeprefix("noisy_") for path in root.glob(f"noisy_{part}*") if path.is_dir())
        name = published if published in found else min(found, key=len, default=published)
        names += [f"noisy_{name}", f"clean_{name}"]
    if missing := [name for name in names[:4] if not (root / name).is_dir()]:
        raise CorpusError(
            f"data.root={root}: not VCTK-DEMAND, {_missing(root, missing)}; python -m denoiser download root={root} "
            "fetches it; or train on pairs of your own: data=folders data.root=FOLDER; or without any: data=synthetic"
        )
    sides = [unnest(root / name) for name in names]
    train, test, val = zip(sides[::2], sides[1::2], strict=True)
    return Folders(train, test, VCTK_HELD_OUT, val if all(map(Path.is_dir, val)) else None)


def folders(root: Path) -> Folders:
    """Return the folders of each part under ``root``, as ``train/noisy`` or ``noisy/train``, or ``Train``.

    Training pairs may also lie in ``noisy/`` and ``clean/`` themselves, beside the folders of other parts. Raises
    CorpusError where a part has one side alone.
    """
    if not root.is_dir():
        raise CorpusError(f"data.root={root}: not there; name a folder that holds noisy/ and clean/")
    noisy, clean = whole = (root / "noisy", root / "clean")
    held, of_noisy, of_clean = map(_subfolders, (root, *whole))
    inside: dict[str, Sides | None] = {}
    beside: dict[str, Sides | None] = {}
    for part, names in PARTS.items():
        pairs = [(noisy / of_noisy.get(name, name), clean / of_clean.get(name, name)) for name in names]
        inside[part] = _first(root, pairs)
        places = [root / held.get(name, name) for name in names]
        beside[part] = _first(root, [(place / "noisy", place / "clean") for place in places])
    train = inside["train"] or beside["train"]
    if train is None and not all(side.is_dir() for side in whole):
        problem = f"no noisy/ and clean/ in it, nor in train/; {_missing(root, ['noisy', 'clean'])}"
        remedy = "put the noisy and the clean files there; for folders named as noisy_trainset_wav: data=vctk_demand"
        raise CorpusError(f"data.root={root}: {problem}; {remedy}")
    form, other = (inside, beside) if inside["train"] else (beside, inside)
    val, test = (form[part] or other[part] for part in ("val", "test"))
    without = () if train else (*PARTS["val"], *PARTS["test"])
    return Folders(train or whole, test, val=val, without=without)


def _subfolders(folder: Path) -> dict[str, str]:
    """Return the names of the folders in a folder, if it is there, by their lower case."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name.lower(): entry.name for entry in entries if entry.is_dir()}


def _first(root: Path, pairs: Sequence[Sides]) -> Sides | None:
    """Return the first of these pairs of folders that is there. Raises CorpusError where one of them lacks a side."""
    found = [pair for pair in pairs if any(side.is_dir() for side in pair)]
    for noisy, clean in found:
        there, absent = (noisy, clean) if noisy.is_dir() else (clean, noisy)
        if not absent.is_dir():
            problem = f"{there.relative_to(root)} has no counterpart {absent.relative_to(root)}"
            remedy = "name both sides alike, or move it away"
            raise CorpusError(f"data.root={root}: {problem}; {_missing(absent.parent, [absent.name])}; {remedy}")
    return found[0] if found else None


LAYOUTS = {"vctk_demand": vctk_demand, "folders": folders}


def _missing(root: Path, names: Sequence[str]) -> str:
    """Return the names of the folders that ``root`` lacks and of those that it holds, as a part of a message."""
    if not root.is_dir():
        return "not even there"
    held = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return f"missing: {', '.join(names)}" + (f"; it holds {', '.join(held[:LISTED])}" if held else "")


def unnest(folder: Path) -> Path:
    """Return the folder of the same name inside, if there is one, else the folder."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def match(
    noisy: Path, clean: Path, pattern: str | None = None, without: Sequence[str] = ()
) -> tuple[Corpus, list[str]]:
    """Return pairs of sound files, sorted by name, and a line a problem; none of the folders called ``without``.

    Both files of a pair have one relative name without extension, or agree in what ``pattern`` finds in it; a pair has
    the name of its noisy file. Raises CorpusError where all names differ by a scheme that a pattern can tell,
    ConfigError where the pattern is no regular expression or is not found.
    """
    sides: list[dict[str, tuple[str, Path]]] = []
    problems: list[str] = []
    for folder in (noisy, clean):
        side: dict[str, tuple[str, Path]] = {}
        try:
            files = audio.list_files(folder)
        except AudioError as error:
            return Corpus(("noisy", "clean"), [], []), [str(error)]
        files = [path for path in files if path.relative_to(folder).parts[0].lower() not in without]
        if not files:
            return Corpus(("noisy", "clean"), [], []), [f"{folder}: no sound files beside those of other parts"]
        for path in files:
            name = path.relative_to(folder).with_suffix("").as_posix()
            purpose = "find what the names of a pair share, in every name"
            key = name if pattern is None else _shared(search("pair", pattern, name, purpose))
            if key in side:
                problems.append(f"{path}: {side[key][1].name} has the same name{f', {key}' if pattern else ''}")
            side[key] = (name, path)
        sides.append(side)
    mine, other = sides
    pairs = sorted((name, (path, other[key][1])) for key, (name, path) in mine.items() if key in other)
    advice = ""
    if not pairs and not problems:
        names = [[name for name, _ in side.values()] for side in sides]
        first, second = names[0][0], names[1][0]
        if scheme := _scheme(*names):
            like = f"{noisy} has names like '{first}', {clean} like '{second}'"
            raise CorpusError(f"{like}: data.pair='{scheme}' pairs all {len(mine)} of them")
        advice = f" (like '{first}' and '{second}'; data.pair= takes a regular expression of their common part)"
    for one, others, folder in ((mine, other, clean), (other, mine, noisy)):
        problems += [f"{one[key][1]}: no file of this name in {folder.name}/" for key in sorted(set(one) - set(others))]
    if advice:
        problems[0] += advice
    return Corpus(("noisy", "clean"), [name for name, _ in pairs], [files for _, files in pairs]), problems


def _scheme(noisy: Sequence[str], clean: Sequence[str]) -> str | None:
    """Return the pattern of SCHEMES that gives each noisy name a clean counterpart, or None."""
    for pattern in SCHEMES:
        found = [[re.search(pattern, name) for name in names] for names in (noisy, clean)]
        mine, other = ([_shared(match) for match in matches if match] for matches in found)
        if len(set(mine)) == len(noisy) == len(clean) and set(mine) == set(other):
            return pattern
    return None


def _shared(match: re.Match[str]) -> str:
    """Return all groups of a match, or all of it."""
    return " ".join(filter(None, match.groups())) or match[0]


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


def test_pairs(root: Path, pattern: str | None) -> tuple[Corpus, list[str]]:
    """Return the pairs of ``data.test_root``, and a line for each problem. Raises CorpusError for no such folders."""
    for noisy, clean in TESTS:
        if (root / noisy).is_dir() and (root / clean).is_dir():
            return match(unnest(root / noisy), unnest(root / clean), pattern)
    raise CorpusError(f"data.test_root={root}: no {' nor '.join(' and '.join(pair) for pair in TESTS)} in it")


def check(paths: Sequence[Path]) -> tuple[audio.Info | None, list[str]]:
    """Return the header of the first of a recording's files, or None and problems.

    They agree in rate, length and number of channels: the mean of two channels is another signal than one of them.
    """
    infos: list[audio.Info] = []
    problems: list[str] = []
    for path in paths:
        try:
            infos.append(audio.probe(path))
        except AudioError as error:
            problems.append(str(error))
            continue
        if infos[-1].frames == 0:
            problems.append(f"{path}: holds no samples, or its header does not say how many; convert it to WAV")
    if problems:
        return None, problems
    first, last = infos[0], infos[-1]
    for fact, unit in (("sample_rate", "Hz"), ("frames", "samples"), ("channels", "channels")):
        noisy, clean = getattr(first, fact), getattr(last, fact)
        if noisy != clean:
            return None, [f"{first.path}: {noisy} {unit}, its clean counterpart {clean} {unit}"]
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
