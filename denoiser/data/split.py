"""Who may train on which files: speakers and recordings, found by name, and held out whole."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from denoiser.errors import ConfigError

PARTS = ("train", "val", "test")
HELD_OUT = 0.1  # share of the speakers, or recordings, that validation has, and the test
FEWEST = 4  # of which some can be held out
CUTS = (0.8, 0.9)  # where files are cut, if there are fewer, into training, validation and test
# LibriSpeech, LibriTTS (61-70968-0000, LS61_70968_000007); VCTK (p225_001).
SPEAKERS = re.compile(r"([A-Za-z]{0,2}\d+)[-_]\d+[-_]\d|([ps]\d+)_\d")
RECORDINGS = re.compile(r"\d{4,}")  # Freesound's number, in the names of ESC-50, UrbanSound8K, FSD50K

Cut = tuple[int, float, float]  # of a file, by its place in a list: the share of it from and to


def speaker(name: str, pattern: str | None = None) -> str:
    """Who speaks in a file of this name: as ``pattern`` or a well-known corpus has it, else whoever owns its folder.

    A pattern is a regular expression, searched in the path; its first group, or all of it, is the speaker. Raises
    ConfigError where it is not found.
    """
    return _given("speaker", pattern, name) or known_speaker(name) or PurePosixPath(name).parent.as_posix()


def known_speaker(name: str) -> str | None:
    """The speaker in names such as those of LibriSpeech, LibriTTS and VCTK, None in others."""
    found = SPEAKERS.match(PurePosixPath(name).name)
    return (found[1] or found[2]) if found else None


def recording(name: str, pattern: str | None = None) -> str:
    """What a noise file was cut from, as :func:`speaker`: a number of four digits or more in its name says so.

    The channels of one recording, ``ch01``, ``ch02``, ... in a folder as DEMAND has them, are one. Else the file is.
    """
    if given := _given("recording", pattern, name):
        return given
    path = PurePosixPath(name)
    if re.fullmatch(r"ch\d+", path.stem):
        return path.parent.as_posix()
    found = RECORDINGS.search(path.stem)
    return found[0] if found else name


def _given(kind: str, pattern: str | None, name: str) -> str | None:
    if pattern is None:
        return None
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.{kind}={pattern}: not a regular expression ({error})") from error
    if not found:
        raise ConfigError(f"data.{kind}={pattern}: not found in {name}; it has to name the {kind} of every file")
    return next((group for group in found.groups() if group), found[0])


def divide(
    names: Sequence[str], groups: Sequence[str], sizes: Sequence[int], parts: Sequence[str], kind: str
) -> tuple[dict[str, list[Cut]], str]:
    """Who may train on which files: the cuts of each of ``parts`` (training first), and the rule that was used.

    Each further part takes a tenth of the groups (speakers, recordings), one at least, where there are four groups;
    else a tenth of the files, where there are four; else every file is cut in time. Choices follow a hash of the
    name, so they do not depend on order and hardly change when files are added; a group that is more than a fifth of
    all is held out only where there is none other.

    Args:
        names: of the files.
        groups: of each file.
        sizes: of each file, in any unit.
        parts: the first of :data:`PARTS`.
        kind: what a group is called.
    """
    for labels, what in ((groups, kind), (names, "file")):
        total: dict[str, int] = defaultdict(int)
        for label, size in zip(labels, sizes, strict=True):
            total[label] += size
        if len(total) >= FEWEST:
            much = 2 * HELD_OUT * sum(total.values())
            order = sorted(total, key=lambda label: (total[label] > much, hashed(label)))
            count = max(1, round(HELD_OUT * len(order)))
            part_of = {label: part for i, part in enumerate(parts[1:]) for label in order[i * count : (i + 1) * count]}
            cuts: dict[str, list[Cut]] = {part: [] for part in parts}
            for row, label in enumerate(labels):
                cuts[part_of.get(label, parts[0])].append((row, 0.0, 1.0))
            few = "" if what == kind else f", of fewer than {FEWEST} {kind}s"
            return cuts, f"{count} of {len(order)} {what}s each for {' and '.join(parts[1:])}, by hash{few}"
    edges = (0.0, *CUTS[-len(parts) + 1 :], 1.0)
    spans = dict(zip(parts, pairwise(edges), strict=True))
    rows = range(len(names))
    cuts = {part: [(row, *span) for row in rows] for part, span in spans.items()}
    shares = ", ".join(f"{part} {100 * a:.0f} to {100 * b:.0f} %" for part, (a, b) in spans.items())
    return cuts, f"{len(names)} file{'s' if len(names) > 1 else ''} cut in time, {shares}"


def hashed(name: str) -> str:
    """What names are sorted by to choose some of them."""
    return hashlib.sha256(name.encode()).hexdigest()
