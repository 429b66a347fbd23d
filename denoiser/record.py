"""What a training run leaves of itself beside its checkpoints: ``run.json``, read as plain data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from denoiser.errors import ConfigError

RECORD = "run.json"


def read(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder``; ConfigError where there is none, or it is damaged."""
    path = Path(folder) / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("config"), dict):
        raise ConfigError(f"{path}: damaged, no record of a run in it")
    return record


def find(parents: Path | Sequence[Path]) -> list[dict[str, Any]]:
    """Every record below these folders, each with its ``folder``; of a damaged one ``status`` and ``reason`` alone."""
    found: dict[Path, dict[str, Any]] = {}
    for parent in [parents] if isinstance(parents, str | Path) else parents:
        for path in sorted(Path(parent).rglob(RECORD)):
            try:
                record = read(path.parent)
            except ConfigError as error:
                record = {"status": "damaged", "reason": str(error).partition(": ")[2]}
            found.setdefault(path.resolve(), {**record, "folder": str(path.parent)})
    return list(found.values())
