"""Metadata of utterances: noise type, SNR and speaker, from log files and names."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from denoiser import filesystem
from denoiser.data.split import PREFIX, speaker

LOGS = "log_t*set*.txt"  # log_testset.txt, log_trainset_28spk.txt, log_trainset_56spk.txt; not log_readme.txt
SPEAKER = re.compile(r"[A-Za-z]*\d+")  # p232, LS1034, 1089; not the take of take_1
MAX_SPEAKERS = 20


def read_logs(*folders: Path) -> dict[str, tuple[str, float]]:
    """Return ``{name: (noise type, SNR in dB)}`` from the log files of VCTK-DEMAND in these folders.

    They may also lie in ``logfiles/``. Lines other than ``<name> <noise type> <SNR>``, and files that cannot be read,
    are ignored.
    """
    logs: dict[str, tuple[str, float]] = {}
    places = [place for folder in folders for place in (folder, folder / "logfiles")]
    for path in [path for place in places for path in sorted(place.glob(LOGS))]:
        try:
            lines = filesystem.read_text(path, "utf-8-sig", "replace").splitlines()
        except OSError:
            continue
        for line in lines:
            with suppress(ValueError):
                name, noise, snr = line.split()
                if math.isfinite(float(snr)):
                    logs[name.removesuffix(".wav")] = (noise, float(snr))
    return logs


def gather(names: Sequence[str], logs: Mapping[str, tuple[str, float]]) -> dict[str, dict[str, Any]]:
    """Return ``{name: {"noise_type": str, "snr_db": float, "speaker": str}}``, with those entries that are known.

    Speakers count as known if all names begin with one, there are 2 to 20, and they have two files each on average.
    """
    speakers = {name: speaker(name, PREFIX) for name in names}
    distinct = set(speakers.values())
    known = 2 <= len(distinct) <= min(MAX_SPEAKERS, len(names) / 2) and all(map(SPEAKER.fullmatch, distinct))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        # A log file has the last part of a name.
        noise = logs.get(name, logs.get(name.rsplit("/", 1)[-1]))
        found[name] = dict(zip(("noise_type", "snr_db"), noise, strict=True)) if noise else {}
        if known and speakers[name] != name:
            found[name]["speaker"] = speakers[name]
    return found
