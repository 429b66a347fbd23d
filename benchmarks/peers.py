"""Networks and programs of others, each run in a process of its own by speed.py, with the Python of .venv-peers.

    .venv-peers/bin/python benchmarks/peers.py step NAME STEPS      -> audio-s/s of float32 training steps, 16 x 2 s
    .venv-peers/bin/python benchmarks/peers.py file NAME IN OUT     -> seconds and peak MB, from file to file at 16 kHz

There `denoiser` is the package of that name by Facebook Research, not this one. The weights are random where a package
brings none: speed does not depend on them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

RATE, BATCH, SECONDS = 16_000, 16, 2


class SpectralMask(nn.Module):
    """SpeechBrain's recurrent mask on magnitudes, between an STFT and its inverse."""

    def __init__(self) -> None:
        super().__init__()
        from speechbrain.lobes.models.MetricGAN import EnhancementGenerator

        self.net = EnhancementGenerator()
        self.register_buffer("window", torch.hamming_window(512))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x[:, 0], 512, 256, window=self.window, return_complex=True)
        magnitude = torch.log1p(spectrum.abs()).transpose(1, 2)
        mask = self.net(magnitude, torch.ones(len(x))).transpose(1, 2)
        return torch.istft(spectrum * mask, 512, 256, window=self.window, length=x.shape[-1])[:, None]


def network(name: str) -> nn.Module:
    """``[B, 1, N]`` -> ``[B, 1, N]``."""
    if name.startswith("Demucs"):
        from denoiser.demucs import Demucs

        return Demucs(hidden=int(name.split("=")[1]))
    if name == "spectral mask":
        return SpectralMask()
    from asteroid.models import ConvTasNet, DCUNet

    if name == "DCUNet-20":
        return DCUNet("DCUNet-20", fix_length_mode="pad", sample_rate=RATE)
    return ConvTasNet(n_src=1, sample_rate=RATE)


def step(name: str, steps: int) -> dict[str, float]:
    net = network(name).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-4)
    clean = 0.1 * torch.randn(BATCH, 1, RATE * SECONDS)
    noisy = clean + 0.1 * torch.randn_like(clean)
    times = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        loss = (net(noisy) - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    parameters = sum(p.numel() for p in net.parameters())
    return {"audio_s_per_s": BATCH * SECONDS / statistics.median(times[1:]), "parameters": parameters}


def enhancer(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """float32 ``[N]`` -> ``[N]``."""
    if name.startswith("Demucs"):
        net = network(name).eval()

        def run(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return net(torch.from_numpy(x)[None, None])[0, 0].numpy()

        return run
    import quality

    return quality.PEERS[name][1]()


def peak_mb() -> float:
    """Of this process alone; ru_maxrss has in it what the one that started it held."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def enhance(name: str, source: str, target: str) -> dict[str, float]:
    run = enhancer(name)
    run(np.zeros(RATE, np.float32) + 1e-3 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32))
    begin = time.perf_counter()
    x, rate = soundfile.read(source, dtype="float32")
    soundfile.write(target, run(x), rate, subtype="PCM_16")
    return {"seconds": time.perf_counter() - begin, "peak_mb": peak_mb()}


if __name__ == "__main__":
    what, name, *rest = sys.argv[1:]
    print(json.dumps(step(name, int(rest[0])) if what == "step" else enhance(name, *rest)))
