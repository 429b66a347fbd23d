"""Which noisy file belongs to which clean one, whether they can be used, and who is held out."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from denoiser import audio
from denoiser.errors import AudioError, CorpusError

VCTK_HELD_OUT = ("p226", "p287")  # as SpeechBrain does, so that numbers compare
LISTED = 10  # problems shown of those found


@dataclass(frozen=True)
class Pair:
    """A noisy and a clean file of one name."""

    name: str
    noisy: Path
    clean: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.noisy, self.clean


@dataclass(frozen=True)
class Folders:
    """Where a corpus keeps its files; ``test`` is None where it has no test split of its own."""

    train: tuple[Path, Path]
    test: tuple[Path, Path] | None
    held_out: tuple[str, ...] = ()


def vctk_demand(root: Path) -> Folders:
    """The folders of VCTK-DEMAND under ``root``, each possibly nested once more in one of its own name.

    Raises CorpusError naming those that are missing.
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
    """``noisy/`` and ``clean/`` under ``root`` or ``root/train``; the test pairs, if any, under ``root/test``.

    Raises CorpusError where there is no such pair of folders.
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
    """The folder of the same name inside, if there is one, as some unpackers leave it."""
    inner = folder / folder.name
    return inner if inner.is_dir() else folder


def match(noisy: Path, clean: Path) -> tuple[list[Pair], list[str]]:
    """Pair the sound files of two folders by relative name without extension, sorted by name.

    Returns the pairs and a line for each file without a twin, and for a folder without sound files. Raises
    CorpusError where one is no folder.
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
    """Read every header: what the first file of each item says, and a line for each item that cannot be used.

    The files of an item are of one recording, noisy and clean say: they have to agree in rate and length.
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
    """Raise one CorpusError that counts the problems, if there are any, and lists the first ten."""
    if problems:
        more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in the corpus"
        raise CorpusError(f"{count}, mend or remove these files: " + "; ".join(problems[:LISTED]) + more)


def speaker(name: str) -> str:
    """The part of a name before its first ``_``, ``-`` or folder: ``p226_001``, ``p226/001`` → ``p226``."""
    return re.split(r"[_/-]", name, maxsplit=1)[0]


def split(names: Sequence[str], held_out: Sequence[str] = (), share: float = 0.1) -> tuple[list[str], list[str], str]:
    """Hold out a validation part: ``(training names, held-out names, the rule that was used)``.

    By the ``held_out`` speakers where they are there and others are left; else, where names begin with
    at least four speakers, by whole speakers; else by name. Choices follow a hash of the name, so they do
    not depend on order and hardly change when files are added. Raises CorpusError for fewer than two names.
    """
    if len(names) < 2:
        raise CorpusError(f"{len(names)} pair in the corpus; at least two are needed, one of them for validation")
    speakers = defaultdict(list)
    for name in sorted(names):
        speakers[speaker(name)].append(name)
    named = [s for s in held_out if s in speakers]
    if named and len(named) < len(speakers):
        chosen, rule = named, f"speakers {' + '.join(named)} held out"
    elif len(speakers) >= 4 and len(speakers) <= len(names) / 2:
        count = max(1, round(share * len(speakers)))
        chosen = sorted(speakers, key=_hash)[:count]
        rule = f"{count} of {len(speakers)} speakers held out, by hash of the prefix: {' + '.join(sorted(chosen))}"
    else:
        count = max(1, round(share * len(names)))
        held = set(sorted(names, key=_hash)[:count])
        rule = f"{count} of {len(names)} files held out, by hash of the name (too few speakers to hold any out)"
        return [n for n in sorted(names) if n not in held], sorted(held), rule
    held = {name for s in chosen for name in speakers[s]}
    return [n for n in sorted(names) if n not in held], sorted(held), rule


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
