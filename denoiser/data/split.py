"""Division of a corpus into training, validation and test by whole speakers or recordings."""

import hashlib
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

from denoiser.errors import ConfigError

PARTS = ("train", "val", "test")
HELD_OUT = 0.1  # share of the groups in validation, and in the test
FEWEST = 4  # groups, or files, of which some can be held out
CUTS = (0.8, 0.9)  # where fewer files are cut in time into training, validation and test
# LibriSpeech and LibriTTS (61-70968-0000, LS61_70968_000007) and VCTK (p225_001).
SPEAKERS = re.compile(r"([A-Za-z]{0,2}\d+)[-_]\d+[-_]\d|([ps]\d+)_\d")
# Freesound's number, in the names of ESC-50, UrbanSound8K and FSD50K.
RECORDINGS = re.compile(r"\d{4,}")
# The last word of a room response's name, where a place has a file for each ear, channel or microphone: roomA_az000_L.
CHANNEL = re.compile(r"(?:^|[-_. ])(?:l|r|left|right|(?:ch|channel|mic)[-_]?\d+)$", re.IGNORECASE)
# In paired corpora the speaker is what precedes the first "_", "-" or folder: p226_001, p226/001.
PREFIX = r"^[^_/-]*"

Cut = tuple[int, float, float]  # index of a file, and the share of it from and to


def speaker(name: str, pattern: str | None = None) -> str:
    """Return the speaker of a file, by its path relative to the corpus.

    It is the first group of ``pattern``, a regular expression, that matches in the path, or all of it; by default the
    :func:`known_speaker`, else the folder. Raises ConfigError if the pattern is wrong or not found.
    """
    if pattern is not None:
        return _label("speaker", pattern, name)
    return known_speaker(name) or PurePosixPath(name).parent.as_posix()


def known_speaker(name: str) -> str | None:
    """Return the speaker if a file is named as in LibriSpeech, LibriTTS or VCTK, else None."""
    found = SPEAKERS.match(PurePosixPath(name).name)
    return (found[1] or found[2]) if found else None


def recording(name: str, pattern: str | None = None) -> str:
    """Return the recording that a noise file was cut from, by its path; ``pattern`` as in :func:`speaker`.

    By default it is a number of four digits or more in the name, for channels (``ch01``, ... as in DEMAND) the folder,
    else the file.
    """
    if pattern is not None:
        return _label("recording", pattern, name)
    path = PurePosixPath(name)
    if re.fullmatch(r"ch\d+", path.stem):
        return path.parent.as_posix()
    found = RECORDINGS.search(path.stem)
    return found[0] if found else name


def place(path: Path) -> Path:
    """Return the path of a room response without a last word for its channel, which all of one place have in common."""
    stem = CHANNEL.sub("", path.stem)
    return path.with_stem(stem) if stem else path.parent


def _label(kind: str, pattern: str, name: str) -> str:
    found = search(kind, pattern, name, f"name the {kind} of every file")
    return next(filter(None, found.groups()), found[0])


def search(setting: str, pattern: str, name: str, purpose: str) -> re.Match[str]:
    """Return the match of the regular expression ``data.<setting>`` in a name; ConfigError for a wrong or no match."""
    try:
        found = re.search(pattern, name)
    except re.error as error:
        raise ConfigError(f"data.{setting}={pattern}: not a regular expression ({error})") from error
    if not found:
        raise ConfigError(f"data.{setting}={pattern}: not found in {name}; it has to {purpose}")
    return found


def divide(
    names: Sequence[str], groups: Sequence[str], sizes: Sequence[int], parts: Sequence[str], kind: str
) -> tuple[dict[str, list[Cut]], str]:
    """Divide files into parts, training first; returns the cuts of each part, and the rule in words.

    Each other part gets a tenth of the ``groups``, the speaker or recording (``kind``) of each file; if there are fewer
    than four groups, a tenth of the files; if there are fewer than four files, all are cut in time.
    """
    if len(set(groups)) >= FEWEST:
        labels = groups
        part_of, rule = hold_out(labels, parts, kind, sizes)
    elif len(names) >= FEWEST:
        labels = names
        part_of, rule = hold_out(labels, parts, "file", sizes)
        rule += f", of fewer than {FEWEST} {kind}s"
    else:
        edges = (0.0, *CUTS[-len(parts) + 1 :], 1.0)
        spans = dict(zip(parts, pairwise(edges), strict=True))
        shares = ", ".join(f"{part} {100 * start:.0f} to {100 * end:.0f} %" for part, (start, end) in spans.items())
        cuts = {part: [(index, *span) for index in range(len(names))] for part, span in spans.items()}
        return cuts, f"{len(names)} file{'s' if len(names) > 1 else ''} cut in time, {shares}"
    whole: dict[str, list[Cut]] = {part: [] for part in parts}
    for index, label in enumerate(labels):
        whole[part_of.get(label, parts[0])].append((index, 0.0, 1.0))
    return whole, rule


def hold_out(
    labels: Sequence[str], parts: Sequence[str], kind: str, sizes: Sequence[int] | None = None
) -> tuple[dict[str, str], str]:
    """Choose a tenth of the labels, at least one, for each part but the first; returns their parts, and the rule.

    The choice follows a hash of the labels, so it hardly changes when files are added. With ``sizes``, a label with
    more than a fifth of the total is chosen only if there is no other.
    """
    total = dict.fromkeys(labels, 0)
    for label, size in zip(labels, sizes or [], strict=False):
        total[label] += size
    large = 2 * HELD_OUT * sum(total.values())
    order = sorted(total, key=lambda label: (total[label] > large, hashed(label)))
    count = max(1, round(HELD_OUT * len(order)))
    part_of: dict[str, str] = {}
    for index, part in enumerate(parts[1:]):
        part_of |= dict.fromkeys(order[index * count : (index + 1) * count], part)
    return part_of, f"{count} of {len(order)} {kind}s each for {' and '.join(parts[1:])}, by hash"


def hashed(name: str) -> str:
    """Return the key by which names are sorted to choose some of them."""
    return hashlib.sha256(name.encode()).hexdigest()
