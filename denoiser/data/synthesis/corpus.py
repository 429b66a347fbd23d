"""Embedded corpus of synthetic speech in synthetic noise, written in the layout of VCTK-DEMAND."""

import json
import math
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from tqdm import tqdm

from denoiser import audio
from denoiser.data.activity import active_power
from denoiser.data.synthesis.noises import NOISES, Response, pink, shape, unit
from denoiser.data.synthesis.voices import SENTENCES, SPEAKERS, Array, Voice, espeak, resample, speak
from denoiser.errors import ConfigError, CorpusError
from denoiser.filesystem import atomic_folder

CORPUS = "denoiser synthetic"
MARKER = "synthetic.json"  # holds the settings of a corpus; the last file written
FORMAT = 1  # raised when the same settings would give other samples
RATE = 48_000  # Hz; speech ends at 11 kHz
SECONDS = 3.3  # of a mean utterance
LEVEL = (-30.0, -22.0)  # dBFS of active speech
FLOOR = -75.0  # dBFS of the room: no recording has the digital silence of espeak
PEAK = 0.99
SETS = {"train": "trainset_28spk", "test": "testset"}
SNRS = {"train": (0.0, 5.0, 10.0, 15.0), "test": (2.5, 7.5, 12.5, 17.5)}  # dB, as in VCTK-DEMAND


def _timbre(speaker: str) -> Response:
    """Return the gain of a speaker's voice above 40 Hz: a tilt within ±1.5 dB an octave, two bumps within ±4 dB."""
    rng = np.random.default_rng(int(speaker[1:]))
    tilt = rng.uniform(-1.5, 1.5)
    heights = rng.uniform(-4, 4, 2)
    centres = np.log2(rng.uniform([300, 2000], [1500, 6000]))

    def gain(f: Array) -> Array:
        octave = np.log2(np.clip(f, 100, 10_000))
        bumps = heights @ np.exp(-0.5 * ((octave - centres[:, None]) / 0.5) ** 2)
        highpass = f**4 / (f**4 + 40**4)
        return 10 ** ((tilt * (octave - np.log2(1000)) + bumps) / 20) * highpass

    return gain


def _in_room(rng: Generator, speech: Array) -> Array:
    """Add the first reflections of a small room: 6 within 28 ms that fall from -11 to -24 dB."""
    heard = speech.copy()
    for delay in rng.uniform(0.0015, 0.028, 6):
        shift = int(delay * RATE)
        decibels = -(10 + 500 * delay)
        heard[shift:] += rng.choice([-1, 1]) * 10 ** (decibels / 20) * speech[:-shift]
    return heard


def _record(rng: Generator, text: str, speaker: str, voice: Voice) -> Array:
    """Return an utterance as if recorded in a room, with 0.1 to 0.4 s of the room's own noise around it."""
    silence = (rng.uniform(0.1, 0.4, 2) * RATE).astype(int)
    speech = np.pad(resample(speak(rng, text, voice), RATE), silence)
    speech = _in_room(rng, shape(speech, RATE, _timbre(speaker)))
    speech *= 10 ** (rng.uniform(*LEVEL) / 20) / np.sqrt(active_power(torch.from_numpy(speech), RATE).item())
    return speech + 10 ** (FLOOR / 20) * pink(rng, len(speech), RATE)


@dataclass(frozen=True)
class Utterance:
    """Plan of one pair of files: what is said, in which noise, and the seed of all random choices."""

    name: str
    split: str
    text: str
    noise: str
    snr: float  # dB
    seed: tuple[int, ...]

    def write(self, root: Path) -> None:
        """Write clean and noisy = clean + noise, both lowered by one factor where they would pass 0.99."""
        rng = np.random.default_rng(self.seed)
        speaker = self.name.split("_")[0]
        clean = _record(rng, self.text, speaker, SPEAKERS[self.split][speaker])
        noise = unit(NOISES[self.split][self.noise](rng, len(clean), RATE))
        noise_power = active_power(torch.from_numpy(clean), RATE).item() / 10 ** (self.snr / 10)
        noisy = clean + noise * np.sqrt(noise_power)
        both = np.stack([clean, noisy])
        both *= min(1, PEAK / np.abs(both).max())
        for side, samples in zip(("clean", "noisy"), torch.from_numpy(both).float(), strict=True):
            path = root / f"{side}_{SETS[self.split]}_wav" / f"{self.name}.wav"
            audio.write(path, samples[None], RATE, subtype="PCM_16")


def _plan(split: str, minutes: float, seed: int) -> list[Utterance]:
    """Return the utterances of a split: speakers take turns, and four rounds have every noise at every SNR once."""
    stream = list(SETS).index(split)
    rng = np.random.default_rng([seed, stream])
    snrs, texts = SNRS[split], SENTENCES[split]
    noises, speakers = list(NOISES[split]), list(SPEAKERS[split])
    order, offsets = rng.permutation(len(noises)), rng.permutation(len(noises))
    reading = [rng.permutation(len(texts)) for _ in speakers]
    plan = []
    for i in range(max(round(60 * minutes / SECONDS), 4)):  # 4: the two held out, two to train on
        turn, who = divmod(i, len(speakers))
        round_, place = divmod(i, len(noises))
        if place == 0:
            order = rng.permutation(len(noises))
        noise = order[place]
        snr = snrs[(offsets[noise] + round_) % len(snrs)]
        name = f"{speakers[who]}_{turn + 1:03d}"
        text = texts[reading[who][turn % len(texts)]]
        # A seed does not end in 0: [a, b] and [a, b, 0] are one stream.
        plan.append(Utterance(name, split, text, noises[noise], snr, (seed, stream, i + 1)))
    return plan


def _enter_worker() -> None:
    """Leave Ctrl-C to the parent process, and compute with one thread: their number may change the bits of a sum."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _write_all(plan: list[Utterance], root: Path, workers: int) -> None:
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _enter_worker)
    try:
        written = pool.map(partial(Utterance.write, root=root), plan, chunksize=2)
        list(tqdm(written, "synthetic corpus", len(plan), unit="utterance", disable=None))
    finally:
        pool.shutdown(cancel_futures=True)


def _settings_in(root: Path) -> dict[str, Any] | None:
    """Return the settings of the corpus in ``root``, None where there is nothing. CorpusError for anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    with suppress(OSError, ValueError):
        found = json.loads((root / MARKER).read_text())
        if isinstance(found, dict) and found.get("corpus") == CORPUS:
            return found
    raise CorpusError(f"{root}: exists and is not a synthetic corpus ({MARKER} missing or not ours); choose another")


def write_corpus(root: Path, minutes: float, test_minutes: float, seed: int = 0, workers: int | None = None) -> None:
    """Write the corpus of these settings to ``root``, or return at once where it is.

    A corpus of other settings is replaced. The same settings give the same bits, for any number of ``workers``:
    processes, by default one per processor, 8 at most. ``minutes`` of training audio, and of the test's, are about.

    Raises ConfigError for a setting out of range, CorpusError where ``root`` holds anything but such a corpus or cannot
    be written, and DenoiserError if espeak-ng is missing or does not work.
    """
    for name, value in (("minutes", minutes), ("test_minutes", test_minutes), ("seed", seed)):
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(f"{name}={value}, expected 0 or more")
    settings = {"corpus": CORPUS, "format": FORMAT, "seed": seed, "sample_rate": RATE}
    settings |= {"minutes": minutes, "test_minutes": test_minutes}
    root = Path(root).resolve()
    if _settings_in(root) == settings:
        return
    with espeak():
        pass  # or say that it is missing before processes are started
    plans = {"train": _plan("train", minutes, seed), "test": _plan("test", test_minutes, seed)}
    try:
        with atomic_folder(root) as folder:
            new, old = folder / "new", folder / "old"
            _write_all([*plans["train"], *plans["test"]], new, workers or min(os.cpu_count() or 1, 8))
            for split, plan in plans.items():
                log = "".join(sorted(f"{u.name} {u.noise} {u.snr:g}\n" for u in plan))
                (new / f"log_{SETS[split]}.txt").write_text(log)
            (new / MARKER).write_text(json.dumps(settings, indent=1) + "\n")
            if _settings_in(root) == settings:
                return  # another process was faster
            if root.exists():
                root.rename(old)
            new.rename(root)
    except OSError as error:
        raise CorpusError(f"{root}: cannot be written ({error})") from error
