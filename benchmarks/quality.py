"""Quality of enhanced recordings beside other packages on PyPI: the same files, metrics and run.

``python benchmarks/quality.py PAIRS [CHECKPOINT ...] [pictures=FOLDER]``: PAIRS is a folder in the layout of
VCTK-DEMAND, of which the test pairs are scored, or one with noisy/ and clean/. Without checkpoints: those that come
with the package. The others run if they are there: ``pip install noisereduce pyrnnoise webrtc-noise-gain logmmse``.
Pictures are of the first checkpoint, on the first recording and on that in the middle.

Every system is given each recording once, whole, on one thread, at 16 kHz (RNNoise at 48 kHz); the result is scored at
16 kHz. A late output is moved back by the lag, up to 40 ms, at which it correlates best with the clean.
"""

import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, audio, figures, models
from denoiser.checkpoint import SHIPPED
from denoiser.data import pairs
from denoiser.evaluation import metrics, tables
from enhancers import PEERS, System

RATE = 16_000
METRICS = ("pesq", "stoi", "si_sdr", "csig", "cbak", "covl")
LAG = RATE // 25


def ours(denoiser: Denoiser) -> System:
    return lambda noisy: denoiser.enhance(noisy, RATE)


def aligned(enhanced: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """``enhanced``, as long as ``clean`` and moved back by the lag at which they correlate best."""
    size = 2 * len(clean)
    enhanced = np.pad(np.asarray(enhanced, np.float32)[:size], (0, max(0, size - len(enhanced))))
    spectrum = np.fft.rfft(enhanced, 2 * size) * np.fft.rfft(clean, 2 * size).conj()
    lag = int(np.argmax(np.fft.irfft(spectrum)[:LAG]))
    return enhanced[lag : lag + len(clean)]


def load(root: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    folders = pairs.vctk_demand(root) if any(root.glob("*testset_wav")) else pairs.folders(root)
    matched, problems = pairs.match(*(folders.test or folders.train))
    if problems or not matched.names:
        sys.exit(f"{root}: {problems or 'no pairs'}")
    read = [[audio.resample(*audio.read(path), RATE)[0].numpy() for path in paths] for paths in matched.files]
    return [(noisy, clean) for noisy, clean in read]


def draw(recordings: list[tuple[np.ndarray, np.ndarray]], systems: dict[str, System], name: str, folder: Path) -> None:
    for number, index in enumerate((0, len(recordings) // 2), start=1):
        noisy, clean = recordings[index]
        parts = {"noisy": noisy, name: systems[name](noisy), "clean": clean}
        figure = figures.figure({title: torch.from_numpy(x) for title, x in parts.items()}, RATE)
        figure.savefig(folder / f"quality_{number}.png", dpi=80)


def main() -> None:
    given = [word for word in sys.argv[1:] if not word.startswith("pictures=")]
    if not given:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    recordings, checkpoints = load(Path(given[0])), given[1:] or list(SHIPPED)
    seconds = sum(len(noisy) for noisy, _ in recordings) / RATE
    rows, systems, sizes = [], {"untouched": lambda noisy: noisy}, {}
    for name, (package, build) in PEERS.items():
        try:
            systems[f"{name} ({package} {version(package)})"] = build()
        except (ImportError, PackageNotFoundError) as error:
            print(f"{name}: left out, {error}; pip install {package}", file=sys.stderr)
    for name in checkpoints:
        denoiser = Denoiser.from_checkpoint(name, "cpu")
        systems[f"denoiser, {name}"] = ours(denoiser)
        sizes[f"denoiser, {name}"] = f"{models.count_parameters(denoiser.net) / 1e6:.2f} M"
    for name, system in tqdm(systems.items(), disable=None):
        system(recordings[0][0])  # warm
        begin = time.perf_counter()
        outputs = [system(noisy) for noisy, _ in recordings]
        factor = (time.perf_counter() - begin) / seconds
        scores = metrics.mean(
            [metrics.score(torch.from_numpy(clean), torch.from_numpy(aligned(out, clean)), RATE, METRICS)
             for out, (_, clean) in zip(outputs, recordings, strict=True)]
        )  # fmt: skip
        cells = [tables.number(metric, scores[metric]) for metric in METRICS]
        rows.append([name, *cells, sizes.get(name, ""), "" if name == "untouched" else f"{factor:.3f}"])
    for word in sys.argv[1:]:
        if word.startswith("pictures="):
            draw(recordings, systems, f"denoiser, {checkpoints[0]}", Path(word.partition("=")[2]))
    header = [
        f"{len(recordings)} files",
        *(metrics.METRICS[m].heading for m in METRICS),
        "parameters",
        "real-time factor",
    ]
    print("|", " | ".join(header), "|")
    print("|---" * len(header) + "|")
    for row in rows:
        print("|", " | ".join(row), "|")
    print("\n" + ", ".join(f"{package} {release}" for package, release in tables.versions().items()))


if __name__ == "__main__":
    main()
