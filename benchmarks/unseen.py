"""Scores of weights on mixtures of speech and noise that were trained on, and that were not.

    python benchmarks/unseen.py best SPEECH[,SPEECH] NOISE [files=60]
    .venv-peers/bin/python benchmarks/unseen.py best SPEECH[,SPEECH] NOISE beside=DeepFilterNet3

Systems of other packages, named in enhancers.py and separated by semicolons, get the same mixtures of 16 kHz, at the
rate that they are made for.

The folders are those of the training, without data.test_root, data.speaker or data.recording: so their split is the
same. A mixture has one recorded noise, 0 to 20 dB below the speech, and no room, filter or telephone.
"""

import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before another package that is called denoiser

import numpy as np
import torch
from torch import Tensor

from denoiser import Denoiser, audio
from denoiser.data.mixture.datamodule import MixtureData
from denoiser.data.mixture.mix import FixedMixtures
from denoiser.evaluation import metrics
from distance import METRICS, cell
from enhancers import PEERS, Peer
from quality import aligned, ours

PLAIN = dict.fromkeys(("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant"), 0)
MIX = {**PLAIN, "snr": (0, 20), "noises": 1, "highpass": 30, "level": (-26, -26)}
PARTS = {"train": "heard in training", "test": "never heard"}


def main(weights: str, speech: str, noise: str, files: int, beside: str) -> None:
    others = [name for name in beside.split(";") if name]
    if unknown := [name for name in others if name not in PEERS]:
        sys.exit(f"beside={unknown[0]}: unknown; expected names among {'; '.join(PEERS)}")
    spectral = Denoiser.from_checkpoint(weights, "cpu").spectral.narrow()
    rate = spectral.sample_rate
    systems = {weights: ours(weights, rate)} | {name: PEERS[name] for name in others}
    data = MixtureData(spectral, speech=speech.split(","), noise=noise, mix=MIX)
    data.setup()
    material = {**data.material}
    print(f"PESQ / STOI / SI-SDR dB\n\n| speech | noise | noisy | {' | '.join(systems)} |")
    print(f"|---|---|---|{'---|' * len(systems)}")
    for voices, noises in product(PARTS, PARTS):
        data.material["val"] = {"speech": material[voices]["speech"], "noise": material[noises]["noise"]}
        mixtures = FixedMixtures(data.mixtures("val"), None, files)
        items = [mixtures[index] for index in range(len(mixtures))]
        cleans = [item["clean"] for item in items]
        results = [[item["noisy"] for item in items]]
        results += [enhanced(peer, results[0], cleans, rate) for peer in systems.values()]
        cells = []
        for found in results:
            pairs = zip(cleans, found, strict=True)
            cells.append(cell([metrics.score(clean, result, rate, METRICS) for clean, result in pairs]))
        print(f"| {PARTS[voices]} | {PARTS[noises]} | {' | '.join(cells)} |", flush=True)


def enhanced(peer: Peer, noisy: list[Tensor], cleans: list[Tensor], rate: int) -> list[Tensor]:
    """Return the results ``[N]`` of a system at ``rate``, without its delay."""
    system = peer.build()
    outputs = []
    for waveform in noisy:
        output = system(audio.resample(waveform[None], rate, peer.rate)[0].numpy())
        outputs.append(audio.resample(torch.from_numpy(np.array(output, np.float32))[None], peer.rate, rate)[0].numpy())
    recordings = [(before.numpy(), clean.numpy()) for before, clean in zip(noisy, cleans, strict=True)]
    return aligned(outputs, recordings, rate)[0]


if __name__ == "__main__":
    settings = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    names = [argument for argument in sys.argv[1:] if "=" not in argument]
    if len(names) != 3:
        sys.exit(__doc__)
    main(*names, files=int(settings.get("files", 60)), beside=settings.get("beside", ""))
