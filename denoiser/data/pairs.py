"""Pairs of noisy and clean files: where a corpus has them, checks of their headers, and their split."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from denoiser import audio
from denoiser.data.split import PREFIX, divide, speaker
from denoiser.errors import AudioError, CorpusError

VCTK_HELD_OUT = ("p226", "p287")  # as in SpeechBrain, so that results compare
LISTED = 10  # problems in a message


@dataclass(frozen=True)
class Pair:
    """A noisy and a clean file of the same name."""

    name: str
    noisy: Path
    clean: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.noisy, self.clean


@dataclass(frozen=True)
class Folders:
    """The noisy and clean folders of a corpus for training and test; ``test`` is None if it has none of its own."""

    train: tuple[Path, Path]
    test: tuple[Path, Path] | None
    held_out: tuple[str, ...] = ()


def vctk_demand(root: Path) -> Folders:
    """Return the folders of VCTK-DEMAND under ``root``; each may lie in a folder of its own name, as some tools unpack.

    Raises CorpusError that names the missing ones.
    """
    sets = ["28spk", "56spk"]
    trains = [s for s in sets if (root / f"noisy_trainset_{s}_wav").is_dir()]
    wanted = f"trainset_{trains[0] if trains else sets[0]}_wav"
    names = [f"noisy_{wanted}", f"clean_{wanted}", "noisy_testset_wav", "clean_testset_wav"]
    if missing := [name for name in names if not (root / name).is_dir()]:
        raise CorpusError(
            f"data.root={root}: not VCTK-DEMAND, {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; "
            f"python -m denoiser download root={root} fetches it, and so does data.download=true; "
            "or use data=folders or data=synthetic"
        )
    found = [unnest(root / name) for name in names]
    return Folders((found[0], found[1]), (found[2], found[3]), VCTK_HELD_OUT)


def folders(root: Path) -> Folders:
    """Return ``noisy/`` and ``clean/`` under ``root`` or ``root/train``, and those of a test set under ``root/test``.

    Raises CorpusError if there is no such pair of folders.
    """
    for base in (root, root / "train"):
        if (base / "noisy").is_dir() and (base / "clean").is_dir():
            test = root / "test"
            has_test = (test / "noisy").is_dir() and (test / "clean").is_dir()
            return Folders((base / "noisy", base / "clean"), (test / "noisy", test / "clean") if has_test else None)
    if root.is_dir():
        state = "no noisy/ and clean/ folders in it (nor in train/)"
    else:
        state = "not a folder" if root.exists() else "no such folder"
    raise CorpusError(f"data.root={root}: {state}; put the noisy files in noisy/ and their clean twins in clean/")


LAYOUTS = {"vctk_demand": vctk_demand, "folders": folders}


def unnest(folder: Path) -> Path:
    """Return the folder of the same name inside, if there is one, else the folder."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def match(noisy: Path, clean: Path) -> tuple[list[Pair], list[str]]:
    """Pair the sound files of two folders by their relative names without extension, sorted by name.

    Returns the pairs, and a line for each file without a twin and for a folder without sound files. Raises CorpusError
    if one is no folder.
    """
    sides: list[dict[str, Path]] = []
    problems: list[str] = []
    for folder in (noisy, clean):
        if not folder.is_dir():
            raise CorpusError(f"{folder}: no such folder; check data.root")
        side: dict[str, Path] = {}
        try:
            files = audio.list_files(folder)
        except AudioError as error:
            return [], [str(error)]
        for path in files:
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in side:
                problems.append(f"{path}: {side[name].name} has the same name")
            side[name] = path
        sides.append(side)
    for mine, other, folder in ((sides[0], sides[1], clean), (sides[1], sides[0], noisy)):
        problems += [f"{mine[name]}: no file of this name in {folder}" for name in sorted(set(mine) - set(other))]
    return [Pair(name, path, sides[1][name]) for name, path in sorted(sides[0].items()) if name in sides[1]], problems


def check(items: Sequence[Sequence[Path]], workers: int) -> tuple[list[audio.Info], list[str]]:
    """Read the headers of all files; returns the header of each item's first file, and a line for each problem.

    The files of an item belong to one recording, as noisy and clean do, and must agree in rate and length.
    """

    def probe(paths: Sequence[Path]) -> tuple[audio.Info | None, list[str]]:
        infos, problems = [], []
        for path in paths:
            try:
                info = audio.probe(path)
            except AudioError as error:
                problems.append(str(error))
                continue
            infos.append(info)
            if info.frames == 0:
                problems.append(f"{path}: holds no samples, or its header does not say how many; convert it to WAV")
        if problems:
            return None, problems
        first = infos[0]
        for twin in infos[1:]:
            if first.sample_rate != twin.sample_rate:
                return None, [f"{first.path}: {first.sample_rate} Hz, its clean twin {twin.sample_rate} Hz"]
            if first.frames != twin.frames:
                return None, [f"{first.path}: {first.frames} samples, its clean twin {twin.frames}"]
        return first, []

    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(probe, items))
    usable = [info for info, _ in results if info is not None]
    return usable, [problem for _, problems in results for problem in problems]


def refuse(problems: Sequence[str]) -> None:
    """Raise one CorpusError for all problems, if there are any; it lists the first ten."""
    if problems:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the corpus"
        raise CorpusError(f"{count}, mend or remove these files: " + "; ".join(problems[:LISTED]) + more)


def split(names: Sequence[str], held_out: Sequence[str] = (), part: str = "val") -> tuple[list[str], list[str], str]:
    """Hold out a part of the pairs; returns the names for training and for the part, and the rule in words.

    The ``held_out`` speakers if the corpus has them and others; else a tenth of at least four speakers with two files
    each on average; else a tenth of the files. Raises CorpusError for fewer than two names.
    """
    if len(names) < 2:
        raise CorpusError(f"{len(names)} pair in the corpus; at least two are needed, one of them for validation")
    names = sorted(names)
    speakers = [speaker(name, PREFIX) for name in names]
    cuts, rule = divide(
        names, speakers, None, ("train", part), "speaker", held_out=held_out, files_per_group=2, cut=False
    )
    train, held = ([names[index] for index, *_ in cuts[key]] for key in ("train", part))
    return train, held, rule
