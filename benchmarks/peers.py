"""Networks and programs of others, each run in a process of its own by speed.py, with the Python of .venv-peers.

    .venv-peers/bin/python benchmarks/peers.py step NAME STEPS      -> audio-s/s of float32 training steps, 16 x 2 s
    .venv-peers/bin/python benchmarks/peers.py file NAME IN OUT     -> seconds and peak MB, from file to file at 16 kHz

There `denoiser` is the package of that name by Facebook Research, not this one. The weights are random where a package
brings none: speed does not depend on them.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from enhancers import PEERS, RATE, System, at_speech_rate
from resident import watched

if TYPE_CHECKING:  # what does not need it is not to be charged with it
    from torch import Tensor, nn

BATCH, SECONDS = 16, 2


def spectral_mask() -> "tuple[nn.Module, Callable[[Tensor], Tensor]]":
    """Return SpeechBrain's recurrent mask on magnitudes, alone and between an STFT and its inverse."""
    import torch
    from speechbrain.lobes.models.MetricGAN import EnhancementGenerator

    net, window = EnhancementGenerator(), torch.hamming_window(512)

    def run(x: "Tensor") -> "Tensor":
        spectrum = torch.stft(x[:, 0], 512, 256, window=window, return_complex=True)
        magnitude = torch.log1p(spectrum.abs()).transpose(1, 2)
        mask = net(magnitude, torch.ones(len(x))).transpose(1, 2)
        return torch.istft(spectrum * mask, 512, 256, window=window, length=x.shape[-1])[:, None]

    return net, run


def network(name: str) -> "tuple[nn.Module, Callable[[Tensor], Tensor]]":
    """Return a network, and its result for ``[B, 1, N]``, of the same shape."""
    if name == "spectral mask":
        return spectral_mask()
    net = waveform_network(name)
    return net, net


def waveform_network(name: str) -> "nn.Module":
    if name.startswith("Demucs"):
        from denoiser.demucs import Demucs

        return Demucs(hidden=int(name.split("=")[1]))
    from asteroid.models import ConvTasNet, DCUNet

    if name == "DCUNet-20":
        return DCUNet("DCUNet-20", fix_length_mode="pad", sample_rate=RATE)
    return ConvTasNet(n_src=1, sample_rate=RATE)


def step(name: str, steps: int) -> dict[str, float]:
    import torch

    net, run = network(name)
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-4)
    clean = 0.1 * torch.randn(BATCH, 1, RATE * SECONDS)
    noisy = clean + 0.1 * torch.randn_like(clean)
    times = []
    for _ in range(steps + 1):
        begin = time.perf_counter()
        loss = (run(noisy) - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    parameters = sum(p.numel() for p in net.parameters())
    return {"audio_s_per_s": BATCH * SECONDS / statistics.median(times[1:]), "parameters": parameters}


def enhancer(name: str) -> System:
    if not name.startswith("Demucs"):
        return at_speech_rate(PEERS[name])
    import torch

    net = waveform_network(name).eval()

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return net(torch.from_numpy(x)[None, None])[0, 0].numpy()

    return run


def enhance(name: str, source: str, target: str) -> dict[str, float]:
    run = enhancer(name)
    run(np.zeros(RATE, np.float32) + 1e-3 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32))
    found: dict[str, float] = {}
    with watched(found):
        begin = time.perf_counter()
        x, rate = soundfile.read(source, dtype="float32")
        soundfile.write(target, run(x), rate, subtype="PCM_16")
        found["seconds"] = time.perf_counter() - begin
    return found


if __name__ == "__main__":
    what, name, *rest = sys.argv[1:]
    print(json.dumps(step(name, int(rest[0])) if what == "step" else enhance(name, *rest)))
