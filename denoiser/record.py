"""What a run leaves of itself: ``run.json`` beside its checkpoints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from denoiser.audio import replacing

RECORD = "run.json"


def write(folder: Path, record: dict[str, Any]) -> None:
    """Write ``run.json`` whole or not at all; NaN and infinity become null."""
    text = json.dumps(json.loads(json.dumps(record, default=str), parse_constant=lambda _: None), indent=2)
    with replacing(Path(folder) / RECORD) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The record in ``folder``; OSError where there is none, ValueError where it is damaged."""
    record = json.loads((Path(folder) / RECORD).read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise ValueError(f"{folder}: {RECORD} holds no record")
    return record


def find(parents: Iterable[Path]) -> list[dict[str, Any]]:
    """Every record below ``parents``, with its ``folder``; one line on stderr for each that is damaged."""
    found = []
    for path in sorted({path for parent in parents for path in Path(parent).rglob(RECORD)}):
        try:
            found.append({**read(path.parent), "folder": str(path.parent)})
        except (OSError, ValueError) as error:
            print(f"{path}: damaged, left out: {error}", file=sys.stderr)
    return found
