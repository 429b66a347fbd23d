"""Cost of a causal network in blocks of 10 ms on one thread: mean, worst, and where the time goes.

    python benchmarks/live.py [blocks=10000]

The network is untrained: its weights do not change its cost.
"""

import sys
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from denoiser import Denoiser, models
from denoiser.inference.stream import Stream

RATES = {
    "16k": {"sample_rate": 16_000, "n_fft": 510, "hop": 128},
    "48k_bands": {"sample_rate": 48_000, "n_fft": 1530, "hop": 384, "bands": 32, "bands_from": 8_000},
}
NETS = {
    "crn": {"name": "crn"},
    "crn, narrow": {"name": "crn", "widths": [16, 24, 32], "hidden": 128},
    "crn, tiny": {"name": "crn", "stem": 16, "widths": [8], "hidden": 32},
}
WARM_UP = 100  # blocks
PROFILED = 50  # frames


def build(net: dict, spectral: dict) -> Denoiser:
    torch.manual_seed(0)
    model = {**net, "head": {"name": "mask"}}
    denoiser = Denoiser.build(model, {**spectral, "peak": 5.0, "level_seconds": 2.0}).eval()
    models.fold(denoiser.net, last_in_float32=denoiser.head.bf16)
    return denoiser


def milliseconds(work: Callable[[], object], times: int) -> torch.Tensor:
    """Return the sorted times of so many calls."""
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        took.append(time.perf_counter() - begin)
    return 1000 * torch.tensor(took).sort().values


def calls_of(stream: Stream, block: torch.Tensor) -> float:
    """Return the number of PyTorch's operators that run for a frame."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        for _ in range(PROFILED):
            stream.process(block)
    return sum(event.count for event in found.key_averages()) / PROFILED


@torch.no_grad()
def row(name: str, rate: str, blocks: int) -> str:
    denoiser = build(NETS[name], RATES[rate])
    spectral = denoiser.spectral
    stream = denoiser.stream(spectral.sample_rate)
    block = 0.1 * torch.randn(1, spectral.sample_rate // 100)
    milliseconds(lambda: stream.process(block), WARM_UP)
    took = milliseconds(lambda: stream.process(block), blocks)
    frame, memory = torch.randn(1, denoiser.head.inputs, spectral.bins, 1), {}
    network = milliseconds(lambda: denoiser.net(frame, memory), 300)
    calls = calls_of(stream, 0.1 * torch.randn(1, spectral.hop))
    weights = sum(parameter.numel() for parameter in denoiser.net.parameters()) / 1e6
    cells = [
        name, rate, f"{weights:.2f} M", f"{took.mean():.2f}", f"{took[0]:.2f}", f"{took[len(took) // 2]:.2f}",
        f"{took[len(took) * 99 // 100]:.2f}", f"{took[-1]:.2f}", f"{network[len(network) // 2]:.2f}", f"{calls:.0f}",
    ]  # fmt: skip
    return " | ".join(cells)


def main(blocks: int) -> None:
    torch.set_num_threads(1)
    heads = "network | spectral | weights | mean ms | least | median | 99 % | worst | network alone | calls a frame"
    print("|", heads, "|")
    print("|" + "---|" * 10)
    for rate in RATES:
        for name in NETS:
            print("|", row(name, rate, blocks), "|", flush=True)


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    main(int(given.get("blocks", 10_000)))
