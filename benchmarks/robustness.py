"""Quality on recordings unlike those trained on: levels, channels, clipping, rooms, music, people, no noise.

``python benchmarks/robustness.py PAIRS [CHECKPOINT ...]``: PAIRS as for quality.py. Without checkpoints: those that
come with the package. Each row is the mean over the recordings, before -> after.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from quality import RATE, load  # isort: skip  (it sets the threads, which torch reads when it loads)

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, audio
from denoiser.checkpoint import SHIPPED
from denoiser.data.mixture import rooms
from denoiser.data.synthesis import generated
from denoiser.data.synthesis.noises import unit
from denoiser.evaluation import metrics, tables

METRICS = ("pesq", "stoi", "si_sdr")
CLIPPED = 12.0  # dB above the level of the noisy; its peaks lie 13 to 22 dB above
SNR = 10.0  # dB, of music and babble
Pair = tuple[np.ndarray, np.ndarray]  # noisy and clean, float32 [N] at 16 kHz


def narrow(x: np.ndarray) -> np.ndarray:
    low = audio.resample(torch.from_numpy(x)[None], RATE, 8_000)
    return audio.resample(low, 8_000, RATE)[0, : len(x)].numpy()


def amid(clean: np.ndarray, noise: np.ndarray) -> Pair:
    noise = unit(noise) * np.sqrt(np.mean(clean**2)) * 10 ** (-SNR / 20)
    return (clean + noise).astype(np.float32), clean


def clipped(noisy: np.ndarray, clean: np.ndarray) -> Pair:
    limit = np.sqrt(np.mean(noisy**2)) * 10 ** (CLIPPED / 20)
    return noisy.clip(-limit, limit), clean


def in_a_room(noisy: np.ndarray, clean: np.ndarray, rng: np.random.Generator) -> Pair:
    response = torch.from_numpy(rooms.simulate(rng, RATE)).float()[None]
    both = torch.cat([response, rooms.target_part(response, "early", RATE)])
    heard, early = np.fft.irfft(np.fft.rfft(clean, 2 * len(clean)) * np.fft.rfft(both.numpy(), 2 * len(clean)))
    heard, early = (x[: len(clean)].astype(np.float32) for x in (heard, early))
    return heard + noisy - clean, early


def babble(pairs: list[Pair], index: int) -> np.ndarray:
    size = len(pairs[index][1])
    return sum(unit(np.resize(pairs[(index + k) % len(pairs)][1], size)) for k in range(1, 6))


def music(size: int, rng: np.random.Generator) -> np.ndarray:
    return generated.KINDS["music"](rng, size, RATE)


def conditions(pairs: list[Pair]) -> dict[str, list[Pair]]:
    rngs = [np.random.default_rng([0, i]) for i in range(len(pairs))]
    made: dict[str, Callable[[int, np.ndarray, np.ndarray], Pair]] = {
        "as recorded": lambda i, noisy, clean: (noisy, clean),
        "15 dB louder": lambda i, noisy, clean: (5.62 * noisy, 5.62 * clean),
        "15 dB softer": lambda i, noisy, clean: (noisy / 5.62, clean / 5.62),
        "telephone, 4 kHz": lambda i, noisy, clean: (narrow(noisy), narrow(clean)),
        f"clipped at {CLIPPED:.0f} dB": lambda i, noisy, clean: clipped(noisy, clean),
        "in a room": lambda i, noisy, clean: in_a_room(noisy, clean, rngs[i]),
        f"music, {SNR:.0f} dB": lambda i, noisy, clean: amid(clean, music(len(clean), rngs[i])),
        f"babble, {SNR:.0f} dB": lambda i, noisy, clean: amid(clean, babble(pairs, i)),
        "clean": lambda i, noisy, clean: (clean, clean),
    }
    return {name: [make(i, *pair) for i, pair in enumerate(pairs)] for name, make in made.items()}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    pairs = load(Path(sys.argv[1]))
    for name in sys.argv[2:] or SHIPPED:
        denoiser = Denoiser.from_checkpoint(name, "cpu")
        rows = []
        for condition, recordings in tqdm(conditions(pairs).items(), disable=None):
            before, after = (
                metrics.mean([metrics.score(torch.from_numpy(c), torch.from_numpy(x), RATE, METRICS) for c, x in found])
                for found in (
                    [(clean, noisy) for noisy, clean in recordings],
                    [(clean, denoiser.enhance(noisy, RATE)) for noisy, clean in recordings],
                )
            )
            cells = [f"{tables.number(m, before[m])} -> {tables.number(m, after[m])}" for m in METRICS]
            rows.append([condition, *cells])
        silent = float(np.abs(denoiser.enhance(np.zeros(2 * RATE, np.float32), RATE)).max())
        print(f"\n{name}, {len(pairs)} files; of digital silence comes a peak of {silent:g}\n")
        print(tables.table(["", *(metrics.METRICS[m].heading for m in METRICS)], rows))


if __name__ == "__main__":
    main()
