"""Make noise from the sounds of games and of a synthesiser in Debian: python benchmarks/noises.py FOLDER.

The packages hold ambience (weather, water, day and night), work, animals, engines, footsteps, weapons and music, most
at 44.1 kHz; others are brought to it. Long sounds are kept, at most a minute of each, of music half a minute from its
middle. Short ones of the same folder are joined, in random order, with random loudness and pauses. Folders that are
named after voices are left out. data.noise= takes the result. Needs apt-get, dpkg-deb and 10 GB.
"""

import os
import random
import re
import sys
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads

import torch
from torch import Tensor

from denoiser import audio
from denoiser.errors import DenoiserError
from voices import RATE, faded, unpack

PACKAGES = (
    "0ad-data",
    "flightgear-data-base",
    "lincity-ng-data",
    "sonic-pi-samples",
    "torcs-data",
    "unknown-horizons",
    "widelands-data",
)
SUFFIXES = (".flac", ".ogg", ".wav")
VOICES = re.compile(r"voice|/death/|/tcas/|/mk-viii/|/atc/", re.IGNORECASE)
LONG_SECONDS = 6  # a sound of so many is a recording of its own
MOST_SECONDS = 60
MUSIC_SECONDS = 30
JOINED_SECONDS = 15  # of short sounds


def sounds(package: str, folder: Path) -> list[Path]:
    """Unpack a package, and the sounds in archives inside it; return the paths of all sounds."""
    unpack([package], folder)
    for archive in sorted(folder.rglob("public.zip")):
        with zipfile.ZipFile(archive) as content:
            inside = [name for name in content.namelist() if name.endswith(SUFFIXES)]
            content.extractall(archive.parent, inside)
    found = (path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and not path.is_symlink())
    return [path for path in found if not VOICES.search(path.relative_to(folder).as_posix())]


def read(path: Path) -> Tensor:
    """Return a sound ``[N]`` at 44.1 kHz, its loudest part at an RMS of 0.05; empty if it is silent."""
    sound, rate = audio.read(path)
    sound = audio.resample(sound.mean(0, keepdim=True), rate, RATE)[0]
    sound = sound - sound.mean()
    if not len(sound):
        return sound
    loudest = sound.unfold(0, min(len(sound), 4410), 4410).square().mean(-1).amax().sqrt()
    return sound * (0.05 / loudest) if loudest > 1e-4 else sound[:0]


def write(path: Path, sound: Tensor) -> float:
    """Write a recording; return its seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, (sound * min(1.0, 0.9 / float(sound.abs().max().clamp(min=1e-9))))[None], RATE)
    return len(sound) / RATE


def recordings(group: str, paths: list[Path], target: Path) -> float:
    """Write the recordings of a folder of sounds; return their seconds."""
    rng = random.Random(group)
    seconds, short = 0.0, []
    for path in paths:
        try:
            sound = read(path)
        except DenoiserError as error:
            print(f"left out: {error}")
            continue
        if len(sound) < LONG_SECONDS * RATE:
            short += [sound] if len(sound) else []
            continue
        kept = round((MUSIC_SECONDS if "music" in path.as_posix().lower() else MOST_SECONDS) * RATE)
        first = max(0, (len(sound) - kept) // 2)
        seconds += write(target / group / f"{path.name}.flac", faded(sound[first : first + kept]))
    rng.shuffle(short)
    parts: list[Tensor] = []
    for number, sound in enumerate(short):
        pause = torch.zeros(round(rng.choice((0, rng.uniform(0, 0.5))) * RATE))
        parts += [faded(sound) * 10 ** (rng.uniform(-6, 6) / 20), pause]
        if sum(map(len, parts)) >= JOINED_SECONDS * RATE or number == len(short) - 1:
            seconds += write(target / group / f"joined_{number:03d}.flac", torch.cat(parts))
            parts = []
    return seconds


def main(target: Path) -> None:
    total = 0.0
    for package in PACKAGES:
        with tempfile.TemporaryDirectory() as folder:
            groups = defaultdict(list)
            for path in sounds(package, Path(folder)):
                groups["-".join([package, *path.parts[-3:-1]])].append(path)
            for group, paths in sorted(groups.items()):
                seconds = recordings(group, paths, target)
                total += seconds
                print(f"{group}: {seconds:.0f} s of {len(paths)} sounds", flush=True)
    print(f"{total / 60:.0f} minutes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).resolve())
