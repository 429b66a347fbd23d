"""Is bfloat16 with channels_last equal in quality to plain float32, and how much faster?

    python benchmarks/precision.py [steps] [seeds]

Trains unet10 on the embedded corpus from the same weights on the same batches, in both, and prints the
speed and the validation loss and SI-SDR of each, all measured in this one run.
"""

from __future__ import annotations

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads

import torch

from denoiser import metrics, models, report
from denoiser.data.datamodule import SyntheticData
from denoiser.enhance import Denoiser
from denoiser.spectral import Spectral

BATCH = 8


def train(data: SyntheticData, seed: int, steps: int, fast: bool) -> tuple[float, float, float]:
    """Audio-seconds per second, validation loss, validation SI-SDR in dB."""
    torch.manual_seed(seed)
    denoiser = Denoiser(models.build("unet"), data.spectral)
    if not fast:
        denoiser.net.to(memory_format=torch.contiguous_format)
    optimizer, loss = torch.optim.Adam(denoiser.net.parameters(), 1e-3), torch.nn.HuberLoss()
    data.seed, step, times = seed, 0, []
    while step < steps:
        loader = data.train_dataloader()
        loader.sampler.set_epoch(step)
        for batch in loader:
            begin = time.perf_counter()
            patches = data.patches(batch)
            torch.manual_seed(step)  # the same dropout in both
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                noise = denoiser.noise(patches["noisy"])
            value = loss(noise.float(), patches["noise"])
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(denoiser.net.parameters(), 0.02)
            optimizer.step()
            times.append((time.perf_counter() - begin) / len(batch["noisy"]))
            step += 1
            if step == steps:
                break
    denoiser.eval()
    losses, scores = [], []
    with torch.no_grad():
        for batch in data.val_dataloader():
            magnitudes = [data.spectral.magnitude(batch[k], batch["level"])[:, None] for k in ("noisy", "clean")]
            target = data.spectral.difference(*magnitudes)
            losses.append(float(loss(denoiser.noise(magnitudes[0]), target)))
            enhanced = denoiser.enhance(batch["noisy"], denoiser.sample_rate)
            scores.append(metrics.si_sdr(batch["clean"][0], enhanced[0], denoiser.sample_rate))
    seconds = data.frames / data.spectral.frame_rate
    return seconds / statistics.median(times), statistics.mean(losses), statistics.mean(scores)


def main(steps: int = 150, seeds: int = 2) -> None:
    data = SyntheticData(Spectral(), "data/synthetic", layout="vctk_demand", batch_size=BATCH)
    data.prepare_data()
    data.setup()
    data.spectral.fit(data.calibration())
    rows = []
    for seed in range(seeds):
        for fast in (False, True):
            speed, loss, score = train(data, seed, steps, fast)
            name = "bfloat16, channels_last" if fast else "float32, contiguous"
            rows.append([f"{name}, seed {seed}", f"{speed:.1f}", f"{loss:.6f}", f"{score:.2f}"])
            print(rows[-1], file=sys.stderr, flush=True)
    machine = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    print(f"unet10, {steps} steps of {BATCH} patches, torch {torch.__version__}, {machine}")
    print(report.table(["training", "audio-s/s", "val/loss", "val/si_sdr dB"], rows))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
