"""Words that a speech recogniser reads otherwise than in the clean recording: noisy, and enhanced by each checkpoint.

    pip install pocketsphinx   # comes with its model of American English
    python benchmarks/recogniser.py SPEECH NOISE [NOISE ...]   # folders

Each recording is mixed with the noises of each folder at 10 dB SNR. The reference is not a transcript, but the
recogniser's own text of the clean recording.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from pocketsphinx import Decoder
from torch import Tensor

from denoiser import Denoiser, audio
from denoiser.data.activity import active_power

RATE, SNR = 16_000, 10.0


def load(path: Path) -> Tensor:
    return audio.resample(*audio.read(path), RATE).mean(0)


def distance(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Return the least number of words to insert, delete or exchange."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(wanted, 1):
        before, row = row, [i]
        for j, other in enumerate(found, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (word != other)))
    return row[-1]


def read_words(decoder: Decoder, waveform: Tensor) -> list[str]:
    samples = (waveform.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes()
    decoder.start_utt()
    decoder.process_raw(samples, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr.split() if found else []


def main(speech: str, *noises: str) -> None:
    decoder = Decoder(samprate=float(RATE), loglevel="FATAL")
    systems = {name: Denoiser.from_checkpoint(name, "cpu") for name in ("best", "small")}
    changed = dict.fromkeys(["noisy", *systems], 0)
    total = 0
    for index, path in enumerate(audio.list_files(speech)):
        clean = load(path)
        wanted = read_words(decoder, clean)
        for folder in noises:
            files = audio.list_files(folder)
            noise = load(files[index % len(files)])
            noise = noise.repeat(-(-len(clean) // len(noise)))[: len(clean)]
            ratio = active_power(clean, RATE) / active_power(noise, RATE)
            noisy = clean + noise * (ratio / 10 ** (SNR / 10)).sqrt()
            heard = {"noisy": noisy, **{name: system.enhance(noisy, RATE) for name, system in systems.items()}}
            for name, waveform in heard.items():
                changed[name] += distance(wanted, read_words(decoder, waveform))
            total += len(wanted)
    for name, count in changed.items():
        print(f"{name:6} {100 * count / total:.1f} % of {total} words changed")


if __name__ == "__main__":
    main(*sys.argv[1:])
