"""Distance of our weights to DeepFilterNet3 on the same files: by SNR, speaker and band, and where it is largest.

    .venv-peers/bin/python benchmarks/distance.py PAIRS [CHECKPOINT] [PICTURES]     # PAIRS as for quality.py, 48 kHz

Pictures of the five files of the largest distance in PESQ are written into the folder PICTURES.
"""

import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before another package that is called denoiser

from denoiser import audio, figures
from denoiser.evaluation import metrics
from enhancers import PEERS
from quality import FULL, RATE, aligned, find, load, ours

THEIRS = "DeepFilterNet3"
BANDS = (0, 60, 250, 500, 1000, 2000, 4000, 8000, 16_000)  # Hz
METRICS = ("pesq", "stoi", "si_sdr")
LARGEST = 5


def main(pairs: Path, name: str, pictures: Path | None) -> None:
    recordings, names = load(pairs, FULL), [noisy.stem for noisy, _ in find(pairs)]
    cleans = [torch.from_numpy(clean) for _, clean in recordings]
    results = {"untouched": [torch.from_numpy(noisy) for noisy, _ in recordings]}
    for label, system in ((name, ours(name, FULL).build()), (THEIRS, PEERS[THEIRS].build())):
        outputs = [np.asarray(system(noisy), np.float32) for noisy, _ in recordings]
        results[label], _ = aligned(outputs, recordings, FULL)
    scores = {label: [*map(scored, cleans, found)] for label, found in results.items()}

    snr = [row["si_sdr"] for row in scores["untouched"]]
    thirds = np.argsort(np.argsort(snr)) * 3 // len(snr)
    table("SNR", [("low", "middle", "high")[third] for third in thirds], scores)
    table("speaker", [each.split("_")[0] for each in names], scores)
    by_band(cleans, results)

    distance = [theirs["pesq"] - mine["pesq"] for mine, theirs in zip(scores[name], scores[THEIRS], strict=True)]
    print("\n| file | SNR dB | PESQ: noisy, ours, theirs | SI-SDR dB: ours, theirs |\n|---|---|---|---|")
    for row in np.argsort(distance)[::-1][:LARGEST]:
        pesq = ", ".join(f"{scores[label][row]['pesq']:.2f}" for label in results)
        si_sdr = ", ".join(f"{scores[label][row]['si_sdr']:.1f}" for label in (name, THEIRS))
        print(f"| {names[row]} | {snr[row]:.1f} | {pesq} | {si_sdr} |")
        if pictures:
            pictures.mkdir(parents=True, exist_ok=True)
            shown = {label: found[row][None] for label, found in results.items()} | {"clean": cleans[row][None]}
            figures.save_figure(pictures / f"{names[row]}.png", figures.figure(shown, FULL, names[row]))


def scored(clean: Tensor, result: Tensor) -> dict[str, float]:
    clean, result = (audio.resample(each[None], FULL, RATE)[0] for each in (clean, result))
    return metrics.score(clean, result, RATE, METRICS)


def table(title: str, groups: list[str], scores: dict[str, list[dict[str, float]]]) -> None:
    """Print the mean scores of each group of files."""
    rows = defaultdict(list)
    for row, group in enumerate(groups):
        rows[group].append(row)
    print(f"\n| {title} | files | {' | '.join(scores)} |\n|---|---|{'---|' * len(scores)}")
    for group, members in rows.items():
        cells = []
        for found in scores.values():
            cells.append(cell([found[row] for row in members]))
        print(f"| {group} | {len(members)} | {' | '.join(cells)} |")


def cell(scores: list[dict[str, float]]) -> str:
    """Return the means of the scores of several files, of ``METRICS``."""
    mean = metrics.mean(scores)
    return f"{mean['pesq']:.2f} / {mean['stoi']:.3f} / {mean['si_sdr']:.1f}"


def by_band(cleans: list[Tensor], results: dict[str, list[Tensor]]) -> None:
    """Print the power of the clean over that of the error in each band, of all files together."""
    print(f"\n| Hz | {' | '.join(results)} |\n|---|{'---|' * len(results)}")
    powers = {label: sum(map(band_powers, cleans, found)) for label, found in results.items()}
    for band, edges in enumerate(pairwise(BANDS)):
        cells = [f"{10 * np.log10(clean / error):.1f}" for clean, error in (each[:, band] for each in powers.values())]
        print(f"| {edges[0]} to {edges[1]} | {' | '.join(cells)} |")


def band_powers(clean: Tensor, result: Tensor) -> np.ndarray:
    """Return the powers of the clean and of the error, ``[2, bands]``."""
    spectra = torch.fft.rfft(torch.stack([clean, result - clean]).double()).abs().square().numpy()
    places = [round(edge * len(clean) / FULL) for edge in BANDS]
    return np.stack([spectra[:, low:high].sum(1) for low, high in pairwise(places)], axis=1)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0]), given[1] if len(given) > 1 else "best", Path(given[2]) if len(given) > 2 else None)
