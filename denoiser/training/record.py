"""What a run leaves of itself for others to judge by: ``run.json`` beside its checkpoints."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from denoiser import filesystem, ranks
from denoiser.errors import DenoiserError
from denoiser.filesystem import atomic_write

RECORD = "run.json"
KEYS = (
    "status reason name seed overrides choices config parameters macs_per_second device processes precision "
    "batch_audio_seconds fit_seconds audio_seconds_per_second real_time_factor monitor mode best best_epoch checkpoint "
    "validation test curve split versions hardware started ended"
).split()
STATUSES = ("finished", "failed", "diverged", "pruned", "interrupted", "running")


class RecordError(DenoiserError, ValueError):
    """A run's record that is not there, or damaged."""


def write(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``run.json``: all of KEYS, null where not given; NaN and infinity are null. Returns what was written.

    Of several processes only the first one writes.
    """
    content: dict[str, Any] = plain({**dict.fromkeys(KEYS), **record})
    if ranks.place().rank == 0:
        with atomic_write(folder / RECORD) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return content


def read(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder``; RecordError where there is none that can be read."""
    path = Path(folder, RECORD)
    try:
        record = json.loads(filesystem.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read as a run's record ({error})") from error
    if not isinstance(record, dict) or record.get("status") not in STATUSES:
        raise RecordError(f"{path}: no run's record: expected an object whose status is one of {', '.join(STATUSES)}")
    return {**dict.fromkeys(KEYS), **record}


def find(parents: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Every record below these folders, by path, each with its ``folder``; of one that is damaged, a line on stderr."""
    found = []
    for path in sorted({path for parent in parents for path in Path(parent).rglob(RECORD)}):
        try:
            found.append({**read(path.parent), "folder": str(path.parent)})
        except RecordError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def plain(value: Any) -> Any:
    """As JSON has it: a number that is none becomes null, a path a text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def relative(value: Any) -> Any:
    """Absolute paths, wherever in a configuration, as seen from the launch folder."""
    if isinstance(value, Mapping):
        return {key: relative(item) for key, item in value.items()}
    if isinstance(value, list):
        return [relative(item) for item in value]
    return os.path.relpath(value) if isinstance(value, str) and os.path.isabs(value) else value


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S")
