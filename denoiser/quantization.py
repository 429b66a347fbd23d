"""A network's ONNX file in whole numbers: 8 bits for weights and for what passes between the layers."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoiser.data.synthesis.generated import KINDS
from denoiser.data.synthesis.noises import unit
from denoiser.inference.denoiser import Denoiser
from denoiser.spectral import Spectral

SECONDS, FRAMES = 4.0, 240  # of each sound that ranges are taken from, and of what is looked at of it
SNRS = (0, 15)  # dB
PITCHES = (100, 200)  # Hz, of the voices


def quantized(model: Any, denoiser: Denoiser) -> bytes:
    """The exported graph ``model`` of a denoiser, quantised: weights by channel, activations by the range that they
    take on made voices in made noises.

    As Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference"
    (2018), after training. The last convolution and what bounds it stay as they are. A level is divided out before
    and magnitudes are scaled to [-1, 1], so ranges depend little on the sounds: on real recordings, ranges from these
    and from the recordings themselves differ by 0.001 PESQ.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Sounds(CalibrationDataReader):
        def __init__(self) -> None:
            self.waiting = calibration(denoiser)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"features": features.numpy()} for features in self.waiting), None)

    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"node{index}"
    last = [node.name for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Sigmoid", "Tanh")][-2:]
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        target = Path(folder) / "quantized.onnx"
        quantize_static(
            model, str(target), Sounds(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=last,
        )  # fmt: skip
        return target.read_bytes()


@torch.no_grad()
def calibration(denoiser: Denoiser) -> Iterator[Tensor]:
    """What the network is given of made voices in each kind of made noise, ``[1, inputs, F, FRAMES]`` each."""
    rate = denoiser.sample_rate
    samples = round(SECONDS * rate)
    for index, kind in enumerate(KINDS):
        rng = np.random.default_rng(index)
        noise = torch.from_numpy(unit(KINDS[kind](rng, samples, rate))).float()
        for snr in SNRS:
            noisy = (voice(samples, rate, PITCHES[index % 2]) + noise * 10 ** (-snr / 20))[None]
            features = denoiser.head.features(denoiser.spectral(noisy, Spectral.level(noisy)))
            yield features[..., :FRAMES]


def voice(samples: int, rate: int, pitch: float) -> Tensor:
    """Harmonics of a gliding ``pitch`` in three syllables a second, ``[samples]``, RMS 1."""
    time = torch.arange(samples, dtype=torch.float64) / rate
    phase = (pitch * (1 + 0.15 * torch.sin(4 * time))).cumsum(0) * 2 * torch.pi / rate
    tone = torch.stack([torch.sin(k * phase) / k for k in range(1, 20)]).sum(0)
    spoken = tone * torch.sin(18 * time).clamp(min=0)
    return (spoken / spoken.square().mean().sqrt()).float()
