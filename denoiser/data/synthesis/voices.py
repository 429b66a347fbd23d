"""Synthetic voices of espeak-ng, which the package ``espeakng-loader`` carries, and the sentences that they read."""

import _ctypes
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from denoiser import audio
from denoiser.errors import DenoiserError

if sys.platform == "win32":
    unload = _ctypes.FreeLibrary
else:
    unload = _ctypes.dlclose

Array = NDArray[Any]
ESPEAK_RATE = 22_050  # Hz
LONGEST_PATH = 150  # characters; espeak-ng keeps the path of its data in 160


class Voice(NamedTuple):
    """Settings of espeak-ng: ``language+variant``, pitch and its spread (0 to 99), words a minute."""

    espeak: str
    pitch: int
    spread: int
    rate: int


SPEAKERS = {
    # First the two that are held out for validation, so that even the smallest corpus has them.
    "train": {
        "p226": Voice("en-gb-x-rp+m1", 52, 55, 156),
        "p287": Voice("en-us+f1", 48, 55, 162),
        "p227": Voice("en-us+m2", 44, 60, 166),
        "p228": Voice("en-gb-scotland+f2", 46, 50, 158),
        "p243": Voice("en-gb-x-gbclan+m4", 58, 50, 152),
        "p230": Voice("en-us-nyc+f4", 55, 45, 168),
        "p254": Voice("en-029+m6", 50, 65, 160),
        "p231": Voice("en-gb-x-rp+linda", 38, 55, 154),
        "p256": Voice("en-us+m7", 62, 45, 172),
        "p233": Voice("en-gb-x-gbclan+Annie", 44, 35, 164),
        "p258": Voice("en-gb-scotland+max", 40, 55, 150),
        "p236": Voice("en-029+aunty", 56, 60, 170),
    },
    "test": {
        "p232": Voice("en+m3", 48, 55, 158),
        "p257": Voice("en-gb-x-gbcwmd+f3", 47, 50, 164),
    },
}
# Voices in the background, never a target, and not the same in training and test.
CROWDS = {
    "train": ["en-us+john", "en-029+grandma", "en-gb-x-rp+paul", "de+Gene", "fr+m5", "es+shelby", "nl+Andrea", "pl+f5"],
    "test": ["en+victor", "en+belinda", "sv+Mike", "it+robert", "pt+Nguyen", "fi+steph", "ro+anika", "cy+Alicia"],
}
# None of the test set is in the training set.
SENTENCES = {
    split: Path(__file__).with_name(f"sentences_{split}.txt").read_text(encoding="utf-8").splitlines()
    for split in ("train", "test")
}


@contextmanager
def espeak() -> Iterator[tuple[ctypes.CDLL, list[bytes]]]:
    """Load espeak-ng and unload it again, about 1 ms; yields it and the list that its samples are appended to.

    Kept loaded, an utterance would depend on what this process spoke before.
    """
    try:
        import espeakng_loader

        library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
    except ImportError as error:
        raise DenoiserError("espeak-ng, which speaks this corpus, is missing: pip install espeakng-loader") from error
    except (OSError, RuntimeError) as error:
        raise DenoiserError(f"espeak-ng cannot be loaded: {error}") from error
    samples: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def collect(block: int | None, count: int, _: int | None) -> int:
        if block:
            samples.append(ctypes.string_at(block, 2 * count))
        return 0

    with ExitStack() as stack:
        if len(data) > LONGEST_PATH:
            # A clone in a deep folder reaches the same data by a short name.
            short = Path(stack.enter_context(TemporaryDirectory()), "data")
            short.symlink_to(data)
            data = str(short)
        stack.callback(unload, library._handle)
        # Called before that: it ends the library's thread, which must not outlive its code.
        stack.callback(library.espeak_Terminate)
        synchronous, do_not_exit = 2, 0x8000
        if library.espeak_Initialize(synchronous, 0, os.fsencode(data), do_not_exit) != ESPEAK_RATE:
            raise DenoiserError(f"espeak-ng cannot read its data in {data}")
        library.espeak_SetSynthCallback(collect)
        yield library, samples


def speak(rng: Generator, text: str, voice: Voice) -> Array:
    """Return ``text`` at 22.05 kHz, a little off the voice's pitch and rate, without the silence around it."""
    parameters = {  # by their numbers in espeak_PARAMETER
        1: voice.rate + int(rng.integers(-8, 9)),
        2: 50,  # volume: at its default of 100 the louder variants clip
        3: voice.pitch + int(rng.integers(-4, 5)),
        4: voice.spread + int(rng.integers(-5, 6)),
    }
    with espeak() as (library, blocks):
        if library.espeak_SetVoiceByName(voice.espeak.encode()) != 0:
            raise DenoiserError(f"this espeak-ng has no voice {voice.espeak}")
        for parameter, value in parameters.items():
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_ng_SetRandSeed(ctypes.c_long(int(rng.integers(1 << 31))))
        utf8 = text.encode() + b"\0"
        library.espeak_Synth(utf8, ctypes.c_size_t(len(utf8)), 0, 0, 0, 1, None, None)
    speech = np.frombuffer(b"".join(blocks), np.int16) / 32768
    loud = np.flatnonzero(np.abs(speech) > 0.003 * np.abs(speech).max())  # -50 dB
    speech = speech[max(loud[0] - 200, 0) : loud[-1] + 200]
    fade = np.sin(np.linspace(0, np.pi / 2, 100)) ** 2  # 5 ms
    speech[:100] *= fade
    speech[-100:] *= fade[::-1]
    return speech


def resample(speech: Array, rate: int) -> Array:
    """Return speech of espeak-ng at another rate."""
    return audio.resample(torch.from_numpy(speech), ESPEAK_RATE, rate).numpy()
