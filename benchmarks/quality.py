"""Quality of enhanced recordings beside other packages on PyPI: the same files, metrics and run.

    .venv-peers/bin/python benchmarks/quality.py PAIRS [CHECKPOINT ...] [--write docs/results.md] [--pictures docs]

PAIRS is a folder in the layout of VCTK-DEMAND, of which the test pairs are scored, or one with noisy/ and clean/.
Without checkpoints: those that come with the package. The others come by ``make peers``; one that is not there is left
out, with a line that says so. ``--write`` puts the tables between the marks ``<!-- quality -->`` of a file. Pictures
are of the first checkpoint, on the first recording and on that in the middle.

Every system is given each recording once, whole, at the rate that it is made for: of files at 48 kHz, these themselves
or 16 kHz. Its delay is measured over all files, the lag at which its results correlate best with the clean, and taken
out; results keep the length of their recordings. Scores are taken at 16 kHz, and those above 8 kHz at 48 kHz.
"""

import argparse
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from denoiser import Denoiser, audio, figures, models
from denoiser.checkpoint import SHIPPED
from denoiser.data import pairs
from denoiser.evaluation import dnsmos, metrics, tables
from enhancers import FULL, PEERS, RATE, Peer

METRICS = ("pesq", "stoi", "si_sdr", "csig", "cbak", "covl", *dnsmos.NAMES)
LAGS = (-0.02, 0.1)  # seconds that a result may be early or late
EDGE = 8_000  # Hz, the end of the band of systems at 16 kHz
DOMINANCE = 10.0  # noise dominates where it is stronger than the clean by this factor of power
MARKS = ("<!-- quality -->", "<!-- /quality -->")
Pair = tuple[np.ndarray, np.ndarray]  # noisy and clean, float32 [N]


def find(root: Path) -> list[tuple[Path, Path]]:
    folders = pairs.vctk_demand(root) if any(root.glob("*testset_wav")) else pairs.folders(root)
    matched, problems = pairs.match(*(folders.test or folders.train))
    if problems or not matched.names:
        sys.exit(f"{root}: {problems or 'no pairs'}")
    return [(noisy, clean) for noisy, clean in matched.files]


def load(root: Path, rate: int = RATE) -> list[Pair]:
    read = [[audio.resample(*audio.read(path), rate)[0].numpy() for path in paths] for paths in find(root)]
    return [(noisy, clean) for noisy, clean in read]


def ours(name: str, rate: int) -> Peer:
    denoiser = Denoiser.from_checkpoint(name, "cpu")
    parameters = f"{models.count_parameters(denoiser.net) / 1e6:.2f} M"
    return Peer("", lambda: lambda noisy: denoiser.enhance(noisy, rate), rate, parameters)


def cpu_seconds() -> float:
    """Return the CPU time of this process, of all its threads, and of the processes that it waited for."""
    return sum(os.times()[:4])


def delay(outputs: list[np.ndarray], recordings: list[Pair], rate: int) -> int:
    """Return the lag in samples, at most that of ``LAGS``, at which all outputs together fit the clean best."""
    lags = np.arange(round(LAGS[0] * rate), round(LAGS[1] * rate) + 1)
    total = np.zeros(len(lags))
    for output, (_, clean) in zip(outputs, recordings, strict=True):
        size = len(output) + len(clean)
        correlation = np.fft.irfft(np.fft.rfft(output, size) * np.fft.rfft(clean, size).conj(), size)
        total += correlation[lags] / (np.linalg.norm(output) * np.linalg.norm(clean) + 1e-9)
    return int(lags[np.argmax(total)])


def moved_back(output: np.ndarray, lag: int, length: int) -> Tensor:
    """Return an output without its delay, ``[length]``; zeros stand where it has nothing."""
    output = np.pad(output, (max(0, -lag), length + abs(lag)))[max(0, lag) :]
    return torch.from_numpy(output[:length].astype(np.float32))


def aligned(outputs: list[np.ndarray], recordings: list[Pair], rate: int) -> tuple[list[Tensor], int]:
    """Return the outputs without their common delay, as long as the recordings, and that delay in samples."""
    lag = delay(outputs, recordings, rate)
    both = zip(outputs, recordings, strict=True)
    return [moved_back(output, lag, len(clean)) for output, (_, clean) in both], lag


def above_edge(waveform: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(waveform)
    spectrum[: round(EDGE * len(waveform) / FULL)] = 0
    return torch.fft.irfft(spectrum, len(waveform))


def upper_scores(noisy: Tensor, clean: Tensor, enhanced: Tensor) -> dict[str, float]:
    """Return SI-SDR above ``EDGE``, and there the power in dB that is left where noise dominates; all at ``FULL``."""
    window = torch.hann_window(1024)
    first = round(EDGE * len(window) / FULL)
    powers = [
        torch.stft(x, len(window), window=window, return_complex=True)[first:].abs() ** 2
        for x in (noisy, clean, enhanced, noisy - clean)
    ]
    dominated = powers[3] > DOMINANCE * powers[1]
    before, after = (float(power[dominated].sum()) for power in (powers[0], powers[2]))
    return {
        "si_sdr": metrics.si_sdr(above_edge(clean), above_edge(enhanced), FULL),
        "residual": 10 * np.log10(max(after, 1e-12) / max(before, 1e-12)),
    }


def measure(name: str, peer: Peer, recordings: dict[int, list[Pair]], upper: bool) -> tuple[list[str], list[str]]:
    """Return the rows of a system in both tables, without its name."""
    system, given = peer.build(), recordings[peer.rate]
    system(given[0][0])  # warm
    begin = cpu_seconds()
    outputs = [np.asarray(system(noisy), np.float32) for noisy, _ in tqdm(given, desc=name, disable=None, leave=False)]
    cost = (cpu_seconds() - begin) / (sum(len(noisy) for noisy, _ in given) / peer.rate)
    results, lag = aligned(outputs, given, peer.rate)
    scores = []
    for result, (_, clean) in zip(results, tqdm(recordings[RATE], desc=name, disable=None, leave=False), strict=True):
        result = audio.resample(result, peer.rate, RATE)[: len(clean)]
        scores.append(metrics.score(torch.from_numpy(clean), result, RATE, METRICS))
    mean = metrics.mean(scores)
    above = ["", ""]
    if upper and peer.rate == FULL:
        found = metrics.mean(
            [
                upper_scores(torch.from_numpy(noisy), torch.from_numpy(clean), result)
                for result, (noisy, clean) in zip(results, given, strict=True)
            ]
        )
        above = [f"{found['si_sdr']:.1f}", f"{found['residual']:.1f}"]
    own = [f"{1e3 * lag / peer.rate:.1f}", peer.parameters, f"{cost:.3f}"] if name != "untouched" else ["", "", ""]
    return [tables.number(metric, mean[metric]) for metric in METRICS], [*above, f"{peer.rate // 1000} kHz", *own]


def draw(recordings: list[Pair], denoiser: Denoiser, name: str, folder: Path) -> None:
    for number, index in enumerate((0, len(recordings) // 2), start=1):
        noisy, clean = recordings[index]
        parts = {"noisy": noisy, name: denoiser.enhance(noisy, RATE), "clean": clean}
        figure = figures.figure({title: torch.from_numpy(x) for title, x in parts.items()}, RATE)
        figure.savefig(folder / f"quality_{number}.png", dpi=80)


def put(path: Path, text: str) -> None:
    """Replace what stands between the marks of a file."""
    before, *rest = re.split("|".join(MARKS), path.read_text(encoding="utf-8"))
    if len(rest) != 2:
        sys.exit(f"{path}: has no {MARKS[0]} with its {MARKS[1]}")
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{rest[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("checkpoints", nargs="*", default=SHIPPED)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if package := next(filter(None, map(metrics.missing_package, METRICS)), None):
        sys.exit(f'{package} is missing, which the scores need; pip install "denoiser[metrics]"')
    is_full = min(audio.probe(path).sample_rate for paths in find(options.pairs) for path in paths) >= FULL
    own_rate = FULL if is_full else RATE
    recordings = {rate: load(options.pairs, rate) for rate in (RATE, FULL)}
    systems = {"untouched": Peer("", lambda: lambda noisy: noisy, own_rate)}
    systems |= PEERS | {f"denoiser, {name}": ours(name, own_rate) for name in options.checkpoints}
    quality, others, missing = [], [], []
    load_before = os.getloadavg()[0]
    for name, peer in tqdm(systems.items(), disable=None):
        try:
            title = f"{name} ({peer.package} {version(peer.package)})" if peer.package else name
            scores, facts = measure(name, peer, recordings, is_full)
        except (ImportError, OSError, RuntimeError) as error:
            missing.append(f"{name}: left out, {error}; make peers installs {peer.package}")
            print(missing[-1], file=sys.stderr)
            continue
        quality.append([title, *scores])
        others.append([title, *facts])
        print(" | ".join([title, *scores, *facts]), file=sys.stderr, flush=True)
    headings = [metrics.METRICS[metric].heading for metric in METRICS]
    count = f"{len(recordings[RATE])} files"
    header = [count, "above 8 kHz: SI-SDR dB", "residual dB", "input", "delay ms", "parameters", "CPU s per s"]
    # The package of that name in .venv-peers is another one.
    versions = [f"{package} {release}" for package, release in tables.versions().items() if package != "denoiser"]
    loads = f"Load of the {os.cpu_count()} cores: {load_before:.1f} before, {os.getloadavg()[0]:.1f} after."
    text = "\n\n".join([tables.table([count, *headings], quality), tables.table(header, others), *missing, loads])
    text += f"\n{', '.join(versions)}."
    print(text)
    if options.write:
        put(options.write, text)
    if options.pictures:
        denoiser = Denoiser.from_checkpoint(options.checkpoints[0], "cpu")
        draw(recordings[RATE], denoiser, f"denoiser, {options.checkpoints[0]}", options.pictures)


if __name__ == "__main__":
    main()
