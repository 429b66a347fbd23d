"""What a run leaves of itself for others to judge by: ``run.json`` beside its checkpoints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from denoiser.errors import DenoiserError

RECORD = "run.json"


def read(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder``; DenoiserError where there is none that can be read."""
    path = Path(folder, RECORD)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DenoiserError(f"{path}: cannot be read as a run's record ({error})") from error
    if not isinstance(record, dict) or "status" not in record:
        raise DenoiserError(f"{path}: no run's record: expected an object with a status")
    return record


def find(parents: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Every record below these folders, by path, each with its ``folder``; of one that is damaged, a line on stderr."""
    found = []
    for path in sorted({path for parent in parents for path in Path(parent).rglob(RECORD)}):
        try:
            found.append({**read(path.parent), "folder": str(path.parent)})
        except DenoiserError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found
