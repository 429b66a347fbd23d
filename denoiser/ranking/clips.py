"""The same few test clips through several models, to listen to and to look at."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from denoiser.audio import mp3
from denoiser.data.datamodule import PairedData
from denoiser.data.mixture.datamodule import MixtureData
from denoiser.data.synthesis import corpus
from denoiser.data.synthesis.datamodule import SyntheticData
from denoiser.errors import CorpusError, DenoiserError, building
from denoiser.evaluation.page import base64_of
from denoiser.figures import decibels, loudest
from denoiser.inference.denoiser import Denoiser
from denoiser.ranking.comparability import split_names
from denoiser.ranking.configuration import Configuration, Record
from denoiser.spectral import Spectral
from denoiser.training.folder import SPLIT

CLIPS = 4
SECONDS = 10.0  # of a clip at most
SPEECH = ("babble", "cafe", "crowd", "restaurant", "voices")  # noises of people, the hardest: one of them is heard
RANGE = 80  # dB that a spectrogram shows
# What a record may name: looked up here, never imported by its name. Runs are shared, and code could be anything's.
DATA: dict[str, Any] = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in (PairedData, SyntheticData, MixtureData)
}
ROOTS = ("root", "speech", "noise", "test_root")  # where a corpus lies, of conf/data


@dataclass
class Clip:
    """A test file: ``sounds`` are noisy, each configuration's best run by label, and clean, ``[N]`` at ``rate`` Hz."""

    name: str
    facts: str
    rate: int
    sounds: dict[str, Tensor]

    @property
    def seconds(self) -> float:
        return len(self.sounds["noisy"]) / self.rate

    def players(self) -> dict[str, str]:
        """Each as MP3, for a ``data:`` address."""
        return {label: base64_of(mp3(sound[None], self.rate)) for label, sound in self.sounds.items()}

    def pictures(self) -> dict[str, str]:
        """The spectrogram of each as WebP, 80 dB below the loudest of all; none where matplotlib is missing."""
        try:
            from matplotlib import colormaps
            from PIL import Image
        except ImportError:
            return {}
        levels = {label: decibels(sound, self.rate) for label, sound in self.sounds.items()}
        top, pictures = loudest(levels.values()), {}
        for label, level in levels.items():
            grey = ((level - top + RANGE) / RANGE).clamp(0, 1).flip(0).numpy()
            buffer = io.BytesIO()
            Image.fromarray(colormaps["magma"](grey, bytes=True)[..., :3]).save(buffer, "webp", quality=60)
            pictures[label] = base64_of(buffer.getvalue())
        return pictures


def choose(names: Sequence[str], facts: Mapping[str, Mapping[str, Any]], count: int = CLIPS) -> list[str]:
    """Clips evenly over the noise types, one of people among them, and over the SNRs; else over the names.

    It follows from what the files are, never from a result.
    """
    names = sorted(names)
    types = sorted({str(facts.get(name, {}).get("noise_type", "")) for name in names})
    people = [t for t in types if t.startswith(SPEECH)][:1]
    others = [t for t in types if t not in people]
    wanted = max(1, min(count, len(types)) - len(people))
    types = people + [others[i * len(others) // wanted] for i in range(wanted) if others]
    chosen: list[str] = []
    for i in range(min(count, len(names))):
        kind = types[i % len(types)]
        pool = [n for n in names if str(facts.get(n, {}).get("noise_type", "")) == kind]
        if set(pool) <= set(chosen):
            pool = names
        pool = sorted(pool, key=lambda n: (float(facts.get(n, {}).get("snr_db", 0)), n))
        first = i * len(pool) // count
        chosen.append(next(n for n in pool[first:] + pool[:first] if n not in chosen))
    return chosen


def make(
    configurations: Sequence[Configuration], facts: Mapping[str, Mapping[str, Any]], count: int = CLIPS
) -> tuple[list[Clip], list[str]]:
    """The clips of the first one's test set, through the best run of each, on the CPU; and what could not be heard.

    A configuration that trained or validated on one of them is left out. Raises DenoiserError where the corpus is gone.
    """
    data, rate = _test_set(configurations[0].runs[0])
    dataset = data.test_dataloader().dataset
    names = _names(dataset)
    known = {name: {**facts.get(name, {}), **data.facts(name)} for name in names}
    clips = []
    for name in choose(names, known, count):
        item = dataset[names.index(name)]
        sounds = {kind: item[kind].reshape(-1)[: round(SECONDS * rate)] for kind in ("noisy", "clean")}
        clips.append(Clip(name, _words(known[name]), rate, sounds))
    problems, heard = [], {clip.name for clip in clips}
    for configuration in configurations:
        run = configuration.runs[0]
        folder = Path(run["folder"])
        if seen := heard & _seen(folder):
            problems.append(f"{configuration.label} is not heard: {len(seen)} of the clips are not of its test set")
            continue
        try:
            denoiser = Denoiser.from_checkpoint(folder / (run.get("checkpoint") or "checkpoints/best.ckpt"), "cpu")
        except DenoiserError as error:
            problems.append(f"{configuration.label} is not heard: {error}")
            continue
        for clip in clips:
            enhanced = denoiser.enhance(clip.sounds["noisy"], clip.rate)
            clip.sounds[configuration.label] = torch.as_tensor(enhanced)
    for clip in clips:
        clip.sounds["clean"] = clip.sounds.pop("clean")  # the last
    return clips, problems


def _names(dataset: Any) -> list[str]:
    """Of the utterances or mixtures of a test set, in its order."""
    names = list(getattr(dataset, "names", None) or dataset.facts)
    if len(names) != len(dataset):  # two mixtures of one name
        names = [dataset[index]["name"] for index in range(len(dataset))]
    return names


def _test_set(run: Record) -> tuple[Any, int]:
    """The datamodule a run was tested with, set up, and its rate in Hz."""
    settings = dict(run["config"].get("data") or {})
    target = settings.pop("_target_", None)
    if target is None:
        raise CorpusError(f"{run['folder']}: its record does not say what it was tested on")
    for key in ROOTS:
        places = settings.get(key)
        for place in places if isinstance(places, list) else [places]:
            if place and not Path(str(place)).expanduser().exists():
                raise CorpusError(f"data.{key}={place} is not there any more (from where this command runs)")
    spectral = Spectral(**run["config"]["spectral"])
    settings.pop("_convert_", None)
    if "download" in settings:
        settings["download"] = False
    if not Path(str(settings.get("cache"))).is_dir():  # nothing is written where only a record says so
        settings.pop("cache", None)
    with building("data", DATA, str(target), {}) as kind:
        data = kind(**settings, spectral=spectral)
    if isinstance(data, SyntheticData):  # whose own method would replace an embedded corpus of other settings
        _check_synthetic(data)
        PairedData.prepare_data(data)
    else:
        data.prepare_data()
    data.setup()
    if not data.same_split(Path(run["folder"]) / SPLIT):
        raise CorpusError(f"the corpus of {run['folder']} has other files now")
    return data, spectral.sample_rate


def _check_synthetic(data: SyntheticData) -> None:
    try:
        written = json.loads((data.root / corpus.MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"data.root={data.root} holds no embedded corpus any more") from error
    for key, value in (("minutes", data.minutes), ("test_minutes", data.test_minutes), ("seed", data.corpus_seed)):
        if written.get(key) != value:
            raise CorpusError(f"data.root={data.root} holds an embedded corpus of other settings now ({key})")


def _seen(folder: Path) -> set[str]:
    """The names that a run trained or validated on."""
    names = split_names(folder)
    return {name for part in ("train", "val") for name in names.get(part) or ()}


def _words(facts: Mapping[str, Any]) -> str:
    """``cafe noise, SNR 2.5 dB, speaker p232``."""
    words = [f"{facts['noise_type']} noise"] if "noise_type" in facts else []
    words += [f"SNR {float(facts['snr_db']):g} dB"] if "snr_db" in facts else []
    words += [f"speaker {facts['speaker']}"] if "speaker" in facts else []
    return ", ".join(words)
