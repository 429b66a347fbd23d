"""Speed of one training step of unet10 with its data at hand, and the limits of the machine's arithmetic and memory.

    python benchmarks/floor.py [bf16|float32] [steps=6] [cpu|cuda] [batch=16]

Prints JSON: audio-seconds per second of the bare step (network, loss, Adam; no data path, no Lightning); the seconds
that its multiplications would take at the rate of one large matrix product, and that its convolutions' inputs, outputs
and gradients would take at the rate of a copy, both measured here. The larger is the floor.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from denoiser import losses, startup
from denoiser.inference.denoiser import Denoiser
from denoiser.spectral import Spectrum

BATCH, FRAMES = 16, 256
PASSES = 3  # of each product: the output, the gradient of the input, that of the weights


def seconds(work: Callable[[], object], rounds: int) -> float:
    def done() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    work()
    times = []
    for _ in range(rounds):
        done()
        begin = time.perf_counter()
        work()
        done()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def traffic(net: nn.Module, x: Tensor) -> tuple[int, int]:
    """Count the multiplications, and the values in and out of the convolutions, of one pass over ``x``."""
    macs, values, handles = 0, 0, []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, values
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        macs += module.weight.numel() * places[:, 0].numel()  # type: ignore[operator, union-attr]
        values += inputs[0].numel() + output.numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            handles.append(module.register_forward_hook(count))
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return macs, values


def main(precision: str = "bf16", rounds: int = 6, device: str = "cpu", batch: int = BATCH) -> None:
    dtype = {"bf16": torch.bfloat16, "float32": torch.float32}[precision]
    torch.manual_seed(0)
    denoiser = Denoiser.build({"name": "unet"}, {"peak": 5.0}).train().to(device)
    spectral, loss = denoiser.spectral, losses.Huber()
    optimizer = torch.optim.Adam(denoiser.parameters(), 1e-3)
    shape = (batch, spectral.bins, FRAMES)
    noisy, clean = (Spectrum(spectral, magnitude=torch.rand(shape, device=device) - 0.5) for _ in range(2))

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            estimate = denoiser.estimate(noisy)
        optimizer.zero_grad()
        loss(estimate, clean, noisy).backward()
        optimizer.step()

    took = seconds(step, rounds)
    macs, values = traffic(denoiser.net, noisy.magnitude.unsqueeze(1))
    size = 2048 if device == "cpu" else 8192
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    product = seconds(lambda: a @ b, 10) / size**3
    block = torch.rand(1 << (26 if device == "cpu" else 30), device=device)
    copy = seconds(lambda: block.clone(), 5) / (2 * block.numel() * 4)
    audio = batch * FRAMES / spectral.frame_rate
    found = {
        "audio_s_per_s": audio / took,
        "step_s": took,
        "arithmetic_s": PASSES * macs * product,
        "memory_s": PASSES * values * dtype.itemsize * copy,
        "gmacs_per_second": 1e-9 / product,
        "gb_per_second": 1e-9 / copy,
    }
    print(json.dumps({**found, "share_of_floor": max(found["arithmetic_s"], found["memory_s"]) / took}))


if __name__ == "__main__":
    startup.keep_freed_memory()
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]), *sys.argv[3:4], *map(int, sys.argv[4:5]))
