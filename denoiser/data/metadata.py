"""What is known of an utterance besides its sound: noise type, SNR, speaker."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from denoiser import filesystem
from denoiser.data.pairs import speaker

LOGS = "log_t*set*.txt"  # log_testset.txt, log_trainset_28spk.txt, log_trainset_56spk.txt; not log_readme.txt
SPEAKER = re.compile(r"[A-Za-z]*\d+")  # p232, LS1034, 1089; not the take of take_1
MAX_SPEAKERS = 20


@dataclass
class Logs:
    """What the log files of VCTK-DEMAND say: ``{name: (noise type, SNR in dB)}``, and how many lines said nothing."""

    noises: dict[str, tuple[str, float]] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    ignored: int = 0

    def __str__(self) -> str:
        names = ", ".join(path.name for path in self.files) or "no log file"
        return f"{names} (lines ignored: {self.ignored})" if self.ignored else names


def read_logs(*folders: Path) -> Logs:
    """The log files in these folders and in ``logfiles/`` in them, as ``logfiles.zip`` unpacks.

    A line is ``<name> <noise type> <SNR in dB>``. Others are counted, and so is a file that cannot be read.
    """
    logs = Logs()
    found = {
        os.path.realpath(path): path
        for f in folders
        for place in (f, f / "logfiles")
        for path in sorted(place.glob(LOGS))
    }
    for path in found.values():
        try:
            lines = filesystem.read_text(path, "utf-8-sig", "replace").splitlines()
        except OSError:
            logs.ignored += 1
            continue
        logs.files.append(path)
        for words in filter(None, map(str.split, lines)):
            try:
                name, noise, snr = words[0].removesuffix(".wav"), words[1], float(words[2])
            except (IndexError, ValueError):
                logs.ignored += 1
                continue
            if len(words) == 3 and math.isfinite(snr):
                logs.noises[name] = (noise, snr)
            else:
                logs.ignored += 1
    return logs


def gather(names: Sequence[str], logs: Logs) -> dict[str, dict[str, Any]]:
    """``{name: {"noise_type": str, "snr_db": float, "speaker": str}}``, each only where it is known.

    The log knows a name by its last part. Names tell speakers if all begin with one (see
    :func:`~denoiser.data.pairs.speaker`), 2 to 20 in all, who have two files each on average.
    """
    found: dict[str, dict[str, Any]] = {}
    speakers = Counter(map(speaker, names))
    told = 2 <= len(speakers) <= min(MAX_SPEAKERS, len(names) / 2) and all(map(SPEAKER.fullmatch, speakers))
    for name in names:
        noise = logs.noises.get(name, logs.noises.get(name.rsplit("/", 1)[-1]))
        found[name] = dict(zip(("noise_type", "snr_db"), noise, strict=True)) if noise else {}
        if told and speaker(name) != name:
            found[name]["speaker"] = speaker(name)
    return found
