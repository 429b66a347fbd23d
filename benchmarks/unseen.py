"""Scores of weights on mixtures of speech and noise that were trained on, and that were not.

    python benchmarks/unseen.py best SPEECH[,SPEECH] NOISE [files=60]

The folders are those of the training, without data.test_root, data.speaker or data.recording: so their split is the
same. A mixture has one recorded noise, 0 to 20 dB below the speech, and no room, filter or telephone.
"""

import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before another package that is called denoiser

from denoiser import Denoiser
from denoiser.data.mixture.datamodule import MixtureData
from denoiser.data.mixture.mix import FixedMixtures
from denoiser.evaluation import metrics

METRICS = ("pesq", "stoi", "si_sdr")
PLAIN = dict.fromkeys(("babble", "generated", "filtered", "narrow", "speechless", "noiseless", "reverberant"), 0)
MIX = {**PLAIN, "snr": (0, 20), "noises": 1, "highpass": 30, "level": (-26, -26)}
PARTS = {"train": "heard in training", "test": "never heard"}


def main(weights: str, speech: str, noise: str, files: int) -> None:
    denoiser = Denoiser.from_checkpoint(weights, "cpu")
    spectral = denoiser.spectral.narrow()
    rate = spectral.sample_rate
    data = MixtureData(spectral, speech=speech.split(","), noise=noise, mix=MIX)
    data.setup()
    material = {**data.material}
    print("| speech | noise | PESQ | STOI | SI-SDR dB |\n|---|---|---:|---:|---:|")
    for voices, noises in product(PARTS, PARTS):
        data.material["val"] = {"speech": material[voices]["speech"], "noise": material[noises]["noise"]}
        mixtures = FixedMixtures(data.mixtures("val"), None, files)
        before, after = [], []
        for item in (mixtures[index] for index in range(len(mixtures))):
            enhanced = denoiser.enhance(item["noisy"], rate)
            before.append(metrics.score(item["clean"], item["noisy"], rate, METRICS))
            after.append(metrics.score(item["clean"], enhanced, rate, METRICS))
        old, new = metrics.mean(before), metrics.mean(after)
        scores = " | ".join(f"{old[name]:.3g} → {new[name]:.3g}" for name in METRICS)
        print(f"| {PARTS[voices]} | {PARTS[noises]} | {scores} |", flush=True)


if __name__ == "__main__":
    settings = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    names = [argument for argument in sys.argv[1:] if "=" not in argument]
    if len(names) != 3:
        sys.exit(__doc__)
    main(*names, files=int(settings.get("files", 60)))
