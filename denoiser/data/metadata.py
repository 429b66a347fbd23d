"""Metadata of utterances: noise type, SNR and speaker, from log files and names."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from denoiser import filesystem
from denoiser.data.split import PREFIX, speaker

LOGS = "log_t*set*.txt"  # log_testset.txt, log_trainset_28spk.txt, log_trainset_56spk.txt; not log_readme.txt
SPEAKER = re.compile(r"[A-Za-z]*\d+")  # p232, LS1034, 1089; not the take of take_1
MAX_SPEAKERS = 20


@dataclass
class Logs:
    """Log files of VCTK-DEMAND: ``{name: (noise type, SNR in dB)}``, and the number of ignored lines."""

    noises: dict[str, tuple[str, float]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    ignored: int = 0

    def __str__(self) -> str:
        names = ", ".join(path.name for path in self.files) or "no log file"
        return f"{names} (lines ignored: {self.ignored})" if self.ignored else names


def read_logs(*folders: Path) -> Logs:
    """Read the log files in these folders, and in ``logfiles/`` in them, where ``logfiles.zip`` is unpacked.

    A line is ``<name> <noise type> <SNR in dB>``. Other lines, and files that cannot be read, count as ignored.
    """
    places = [place for folder in folders for place in (folder, folder / "logfiles")]
    files = {os.path.realpath(path): path for place in places for path in sorted(place.glob(LOGS))}
    logs = Logs()
    for path in files.values():
        try:
            lines = filesystem.read_text(path, "utf-8-sig", "replace").splitlines()
        except OSError:
            logs.ignored += 1
            continue
        logs.files.append(path)
        for line in lines:
            if not line.strip():
                continue
            entry = _parse(line.split())
            if entry is None:
                logs.ignored += 1
            else:
                name, noise, snr = entry
                logs.noises[name] = (noise, snr)
    return logs


def _parse(words: Sequence[str]) -> tuple[str, str, float] | None:
    """Return the name of the utterance, the noise type and the SNR, or None for a line of another form."""
    try:
        name, noise, text = words
        snr = float(text)
    except ValueError:
        return None
    return (name.removesuffix(".wav"), noise, snr) if math.isfinite(snr) else None


def gather(names: Sequence[str], logs: Logs) -> dict[str, dict[str, Any]]:
    """Return ``{name: {"noise_type": str, "snr_db": float, "speaker": str}}``, with those entries that are known.

    A log file has the last part of a name. Speakers count as known if all names begin with one, there are 2 to 20, and
    they have two files each on average.
    """
    speakers = {name: speaker(name, PREFIX) for name in names}
    distinct = set(speakers.values())
    known = 2 <= len(distinct) <= min(MAX_SPEAKERS, len(names) / 2) and all(map(SPEAKER.fullmatch, distinct))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        noise = logs.noises.get(name, logs.noises.get(name.rsplit("/", 1)[-1]))
        found[name] = dict(zip(("noise_type", "snr_db"), noise, strict=True)) if noise else {}
        if known and speakers[name] != name:
            found[name]["speaker"] = speakers[name]
    return found
