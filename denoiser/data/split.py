"""Division of a corpus into training, validation and test by whole speakers or recordings."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from denoiser.errors import ConfigError

PARTS = ("train", "val", "test")
HELD_OUT = 0.1  # share of the groups in validation, and in the test
FEWEST = 4  # groups, or files, of which some can be held out
CUTS = (0.8, 0.9)  # where fewer files are cut in time into training, validation and test
# Names of LibriSpeech and LibriTTS (61-70968-0000, LS61_70968_000007) and VCTK (p225_001).
SPEAKERS = re.compile(r"([A-Za-z]{0,2}\d+)[-_]\d+[-_]\d|([ps]\d+)_\d")
# Freesound's number, in the names of ESC-50, UrbanSound8K and FSD50K.
RECORDINGS = re.compile(r"\d{4,}")
# In paired corpora the speaker is what precedes the first "_", "-" or folder: p226_001, p226/001.
PREFIX = r"^[^_/-]*"

Cut = tuple[int, float, float]  # index of a file, and the share of it from and to


def speaker(name: str, pattern: str | None = None) -> str:
    """Return the speaker of a file, by its path.

    Args:
        name: path of the file, relative to the corpus.
        pattern: regular expression, searched in the path; its first group that matches, or all of it, is the speaker.
            Of paired corpora :data:`PREFIX`. By default names as in well-known corpora are understood, and in others
            the folder is the speaker.

    Raises ConfigError if the pattern is wrong or not found.
    """
    if pattern is not None:
        return _search("speaker", pattern, name)
    return known_speaker(name) or PurePosixPath(name).parent.as_posix()


def known_speaker(name: str) -> str | None:
    """Return the speaker if a file is named as in LibriSpeech, LibriTTS or VCTK, else None."""
    found = SPEAKERS.match(PurePosixPath(name).name)
    return (found[1] or found[2]) if found else None


def recording(name: str, pattern: str | None = None) -> str:
    """Return the recording that a noise file was cut from, by its path.

    ``pattern`` is as in :func:`speaker`. By default a number of four digits or more in the name is the recording; the
    channels of one (``ch01``, ``ch02``, ... in a folder, as in DEMAND) belong together; any other file is its own.
    """
    if pattern is not None:
        return _search("recording", pattern, name)
    path = PurePosixPath(name)
    if re.fullmatch(r"ch\d+", path.stem):
        return path.parent.as_posix()
    found = RECORDINGS.search(path.stem)
    return found[0] if found else name


def _search(kind: str, pattern: str, name: str) -> str:
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.{kind}={pattern}: not a regular expression ({error})") from error
    if not found:
        raise ConfigError(f"data.{kind}={pattern}: not found in {name}; it has to name the {kind} of every file")
    return next((group for group in found.groups() if group), found[0])


def divide(
    names: Sequence[str],
    groups: Sequence[str],
    sizes: Sequence[int] | None,
    parts: Sequence[str],
    kind: str,
    *,
    held_out: Sequence[str] = (),
    files_per_group: float = 1.0,
    cut: bool = True,
) -> tuple[dict[str, list[Cut]], str]:
    """Divide files into parts; returns the cuts of each part, and the rule that was used, in words.

    Each part but training gets a tenth of the groups, at least one; if there are too few groups, a tenth of the files;
    if there are too few files, all are cut in time. The choice follows a hash of the names, so it does not depend on
    their order and hardly changes when files are added.

    Args:
        names: of the files, each unique.
        groups: speaker or recording of each file.
        sizes: of each file, in any unit. A group with more than a fifth of the total is held out only if there is
            no other. None if sizes do not matter.
        parts: training first.
        kind: name of a group, "speaker" or "recording".
        held_out: groups that form the second part, if the corpus has them and others.
        files_per_group: files that a group needs on average to count as one.
        cut: cut fewer than four files in time; False holds whole files out.
    """
    distinct = set(groups)
    named = [group for group in held_out if group in distinct]
    if named and len(named) < len(distinct):
        return _assign(groups, dict.fromkeys(named, parts[1]), parts), f"{kind}s {' + '.join(named)} held out"
    if len(distinct) >= FEWEST and files_per_group * len(distinct) <= len(names):
        return _divide_by_hash(groups, sizes, parts, kind)
    if len(names) >= (FEWEST if cut else len(parts)):
        cuts, rule = _divide_by_hash(names, sizes, parts, "file")
        few = f"of fewer than {FEWEST} {kind}s" if len(distinct) < FEWEST else f"as {kind}s have too few files"
        return cuts, f"{rule}, {few}"
    return _cut_in_time(len(names), parts)


def _divide_by_hash(
    labels: Sequence[str], sizes: Sequence[int] | None, parts: Sequence[str], kind: str
) -> tuple[dict[str, list[Cut]], str]:
    """Divide files by their labels, which are their groups or their own names."""
    total: dict[str, int] = defaultdict(int)
    for label, size in zip(labels, sizes or [0] * len(labels), strict=True):
        total[label] += size
    large = 2 * HELD_OUT * sum(total.values())
    order = sorted(total, key=lambda label: (total[label] > large, hashed(label)))
    count = max(1, round(HELD_OUT * len(order)))
    part_of: dict[str, str] = {}
    for index, part in enumerate(parts[1:]):
        part_of |= dict.fromkeys(order[index * count : (index + 1) * count], part)
    return _assign(
        labels, part_of, parts
    ), f"{count} of {len(order)} {kind}s each for {' and '.join(parts[1:])}, by hash"


def _assign(labels: Sequence[str], part_of: dict[str, str], parts: Sequence[str]) -> dict[str, list[Cut]]:
    """Return whole files by part: that of their label, or training."""
    cuts: dict[str, list[Cut]] = {part: [] for part in parts}
    for index, label in enumerate(labels):
        cuts[part_of.get(label, parts[0])].append((index, 0.0, 1.0))
    return cuts


def _cut_in_time(count: int, parts: Sequence[str]) -> tuple[dict[str, list[Cut]], str]:
    """Return a span of every file by part."""
    edges = (0.0, *CUTS[-len(parts) + 1 :], 1.0)
    spans = dict(zip(parts, pairwise(edges), strict=True))
    cuts = {part: [(index, start, end) for index in range(count)] for part, (start, end) in spans.items()}
    shares = ", ".join(f"{part} {100 * start:.0f} to {100 * end:.0f} %" for part, (start, end) in spans.items())
    return cuts, f"{count} file{'s' if count > 1 else ''} cut in time, {shares}"


def hashed(name: str) -> str:
    """Return the key by which names are sorted to choose some of them."""
    return hashlib.sha256(name.encode()).hexdigest()
