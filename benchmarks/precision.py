"""Quality and speed of training in bfloat16 with channels_last, beside plain float32.

    python benchmarks/precision.py [steps] [seeds]

Trains unet10 on the embedded corpus from the same weights on the same batches in both, the learning rate
falling to zero, and prints the speed on full batches and the validation loss and SI-SDR of each, over the
seeds, all measured in this one run.
"""

import os
import statistics
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads

import torch

from denoiser import losses, models
from denoiser.data.synthesis.datamodule import SyntheticData
from denoiser.evaluation import metrics, tables
from denoiser.inference.denoiser import Denoiser
from denoiser.spectral import Spectral
from denoiser.training.schedules import cosine

QUALITY = {"batch_size": 2, "frames": 64}  # many small steps tell most in little time
SPEED = {"batch_size": 8, "frames": 256}  # as a training uses them
SPEED_STEPS = 6


def make(data: SyntheticData, seed: int, fast: bool) -> Denoiser:
    torch.manual_seed(seed)
    denoiser = Denoiser(models.build("unet"), data.spectral)
    if not fast:
        denoiser.net.to(memory_format=torch.contiguous_format)
    return denoiser


def train(data: SyntheticData, denoiser: Denoiser, steps: int, fast: bool) -> float:
    """Audio-seconds per second, of the median step."""
    optimizer, loss = torch.optim.Adam(denoiser.net.parameters(), 1e-3), losses.Huber()
    schedule = cosine(optimizer, steps)
    step, times = 0, []
    while step < steps:
        loader = data.train_dataloader()
        loader.batch_sampler.sampler.set_epoch(step)
        for batch in list(loader)[: steps - step]:
            begin = time.perf_counter()
            patches = data.patches(data.waveforms(batch))
            torch.manual_seed(step)  # the same dropout in both
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                estimate = denoiser.estimate(patches["noisy"])
            value = loss(estimate, patches["clean"], patches["noisy"])
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(denoiser.net.parameters(), 0.02)
            optimizer.step()
            schedule.step()
            seconds = len(batch["level"]) * data.frames / data.spectral.frame_rate
            times.append((time.perf_counter() - begin) / seconds)
            step += 1
    return 1 / statistics.median(times)


@torch.no_grad()
def validate(data: SyntheticData, denoiser: Denoiser) -> tuple[float, float]:
    """Return validation loss and SI-SDR in dB, both by the float32 network, as inference runs it."""
    denoiser.eval()
    loss, values, scores = losses.Huber(), [], []
    for batch in data.val_dataloader():
        noisy, clean = (data.spectral(batch[name], batch["level"]) for name in ("noisy", "clean"))
        values.append(float(loss(denoiser.estimate(noisy), clean, noisy)))
        enhanced = denoiser.enhance(batch["noisy"], denoiser.sample_rate)
        scores.append(metrics.si_sdr(batch["clean"][0], enhanced[0], denoiser.sample_rate))
    return statistics.mean(values), statistics.mean(scores)


def main(steps: int = 400, seeds: int = 3) -> None:
    data = SyntheticData(Spectral(), "data/synthetic", layout="vctk_demand")
    data.prepare_data()
    data.setup()
    data.spectral.fit(data.calibration())
    rows = []
    for fast in (False, True):
        data.batch_size, data.frames = SPEED.values()
        speed = train(data, make(data, 0, fast), SPEED_STEPS, fast)
        data.batch_size, data.frames = QUALITY.values()
        results = []
        for seed in range(seeds):
            data.seed = seed
            denoiser = make(data, seed, fast)
            train(data, denoiser, steps, fast)
            results.append(validate(data, denoiser))
            print(fast, seed, *results[-1], file=sys.stderr, flush=True)
        cells = [
            f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values) if seeds > 1 else 0:.{digits}f}"
            for values, digits in zip(zip(*results, strict=True), (5, 2), strict=True)
        ]
        rows.append(["bfloat16, channels_last" if fast else "float32, contiguous", f"{speed:.1f}", *cells])
    machine = f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    print(f"unet10, {steps} steps, {seeds} seeds; {machine}")
    print(tables.table(["training", "audio-s/s", "val/loss", "val/si_sdr dB"], rows))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
