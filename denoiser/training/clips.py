"""Clips that a finished run leaves for listening: the same few validation files, noisy, clean and enhanced."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from denoiser import audio
from denoiser.filesystem import atomic_write, write_text
from denoiser.inference.denoiser import Denoiser

FOLDER = "clips"  # in a run's folder
INDEX = "clips.json"  # in that folder
KINDS = ("noisy", "enhanced", "clean")
SECONDS = 10.0  # of a clip, at most


def write(folder: Path, record: Mapping[str, Any], data: Any, count: int) -> None:
    """Enhance ``count`` validation files with a run's checkpoint and write them as MP3 to ``<folder>/clips``.

    ``clips.json`` lists them: name, noise type and SNR where they are known, and the file of each kind. Those of an
    earlier end of the run are deleted.
    """
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    if count == 0 or record["checkpoint"] is None:
        return
    denoiser = Denoiser.from_checkpoint(folder / record["checkpoint"], str(record["device"]))
    rate = denoiser.sample_rate
    dataset = data.val_dataloader().dataset
    facts = {name: data.facts(name) for name in dataset.names}
    clips = []
    for number, name in enumerate(choose(facts, count), 1):
        item = dataset[dataset.names.index(name)]
        sounds = {kind: item[kind].reshape(-1)[: round(SECONDS * rate)] for kind in ("noisy", "clean")}
        sounds["enhanced"] = torch.as_tensor(denoiser.enhance(sounds["noisy"], rate)).cpu()
        clip = {"name": name, **facts[name]}
        for kind in KINDS:
            clip[kind] = f"{number}_{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[-60:]}_{kind}.mp3"
            with atomic_write(folder / FOLDER / clip[kind]) as partial:
                partial.write_bytes(audio.mp3(sounds[kind][None], rate))
        clips.append(clip)
    write_text(folder / FOLDER / INDEX, json.dumps(clips, indent=1) + "\n")


def choose(facts: Mapping[str, Mapping[str, Any]], count: int) -> list[str]:
    """Choose files evenly over their noise types and SNRs, or names: the same for every run of a corpus."""
    noise = {name: (str(known.get("noise_type", "")), known.get("snr_db", 0.0)) for name, known in facts.items()}
    ordered = sorted(facts, key=lambda name: (noise[name], name))
    count = min(count, len(ordered))
    return [ordered[(2 * i + 1) * len(ordered) // (2 * count)] for i in range(count)]


def read(folder: Path) -> Sequence[Mapping[str, Any]]:
    """Return the list of the clips in a run's folder, each kind as a path; empty if there are none."""
    try:
        clips = json.loads((folder / FOLDER / INDEX).read_text(encoding="utf-8"))
        return [{**clip, **{kind: folder / FOLDER / Path(clip[kind]).name for kind in KINDS}} for clip in clips]
    except (OSError, ValueError, KeyError, TypeError):
        return []
