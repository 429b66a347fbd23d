"""Ratings by listeners, estimated by DNSMOS P.835 from a recording alone, with a gradient."""

from functools import lru_cache
from importlib.resources import files
from itertools import pairwise

import torch
from torch import Tensor, nn

from denoiser.audio import resample
from denoiser.errors import ConfigError
from denoiser.spectral import Spectrum

RATE = 16_000
FRAME = 320  # samples of a frame of the rating network, which begin half a frame apart
CHANNELS = (1, 128, 64, 64, 32, 32, 32, 64)  # before and after its convolutions
POOLED = (3, 4, 5)  # the convolutions that a pooling follows
SHORTEST = FRAME // 2 * (2 ** len(POOLED) + 1)  # samples that leave a frame after the poolings
BEST = 5.0
LEVEL = 0.05  # RMS of the noisy recording, which is 1 in training; the ratings depend on the level
SILENT = 1e-3  # power of a crop, of a noisy signal of RMS 1, with too little speech to be rated
# Coefficients of 1, x and x², from the network's output to the scale of the listeners.
SCALES = {
    "dnsmos_sig": (0.0052439, 1.22083953, -0.08397278),
    "dnsmos_bak": (-0.39604546, 1.60915514, -0.13166888),
    "dnsmos_ovrl": (0.04602535, 1.11546468, -0.06766283),
}


class Dnsmos(nn.Module):
    """Points that the estimate lacks to the best rating overall, 0 to 4: for a very small share of a loss.

    C. K. A. Reddy, V. Gopal, R. Cutler, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to
    evaluate noise suppressors" (2022). It rates one crop of a batch, chosen at random among those with speech, as the
    network takes more computing than the one that is trained. Needs the packages speechmos, which has the weights, and
    onnx, which reads them: ``pip install "denoiser[metrics]"``.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            rating_network(torch.device("cpu"))
        except ImportError as error:
            raise ConfigError(f'loss Dnsmos needs {error.name}; install it: pip install "denoiser[metrics]"') from None

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        heard = (clean.waveform.square().mean(-1) > SILENT).nonzero()[:, 0]
        if not len(heard):
            return estimate.waveform.sum() * 0
        crop = heard[torch.randint(len(heard), ())]
        with torch.autocast(clean.waveform.device.type, enabled=False):
            waveform = resample(estimate.waveform[crop] * LEVEL, estimate.spectral.narrow_rate, RATE)
            waveform = waveform.repeat(-(-SHORTEST // len(waveform)))
            overall = rating_network(waveform.device)(waveform[None].clamp(-1, 1))["dnsmos_ovrl"]
        return BEST - overall[0]


class RatingNetwork(nn.Module):
    """The network of DNSMOS P.835: waveforms ``[B, N]`` at 16 kHz to the ratings ``[B]`` of :data:`SCALES`."""

    def __init__(self) -> None:
        super().__init__()
        # A trained relative of the Fourier transform.
        self.real, self.imaginary = (nn.Linear(FRAME, FRAME // 2 + 1, bias=False) for _ in range(2))
        layers: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            if index in POOLED:
                layers.append(nn.MaxPool2d(2))
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        frames = waveform.unfold(-1, FRAME, FRAME // 2)
        power = self.real(frames).square() + self.imaginary(frames).square()
        features = torch.log10(power.clamp(min=1e-12)).unsqueeze(1)
        # The loudest place of each channel counts, wherever it lies in time or frequency.
        outputs = self.dense(self.convolutions(features).amax((-2, -1)))
        scaled = zip(SCALES.items(), outputs.T, strict=True)
        return {name: a + b * x + c * x.square() for (name, (a, b, c)), x in scaled}


# Weights that are made in inference mode could not be trained through later.
@lru_cache(maxsize=2)
@torch.inference_mode(False)
def rating_network(device: torch.device) -> RatingNetwork:
    """Return the network with the weights of the package ``speechmos``; ImportError without it or ``onnx``."""
    import onnx
    import onnx.numpy_helper

    model = onnx.load_from_string((files("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx").read_bytes())
    arrays = {each.name: onnx.numpy_helper.to_array(each).copy() for each in model.graph.initializer}
    network = RatingNetwork()
    names = [("real", "time2freq/stft-real"), ("imaginary", "time2freq/stft-imag")]
    weights = {f"{own}.weight": arrays[f"{theirs}/kernel:0"][..., 0] for own, theirs in names}
    for index, layer in enumerate(_numbered(network.convolutions, nn.Conv2d)):
        theirs = f"conv2d_{index}" if index else "conv2d"
        weights[f"convolutions.{layer}.weight"] = arrays[f"{theirs}/kernel:0"]
        weights[f"convolutions.{layer}.bias"] = arrays[f"{theirs}/bias:0"]
    for layer, theirs in zip(_numbered(network.dense, nn.Linear), ("dense", "dense_1", "dense_3"), strict=True):
        weights[f"dense.{layer}.weight"] = arrays[f"mos_estimator_logpow/{theirs}/MatMul/ReadVariableOp/resource:0"].T
        weights[f"dense.{layer}.bias"] = arrays[f"mos_estimator_logpow/{theirs}/BiasAdd/ReadVariableOp/resource:0"]
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return network.requires_grad_(False).to(device)


def _numbered(layers: nn.Sequential, kind: type[nn.Module]) -> list[int]:
    """Return the places of the layers of one kind."""
    return [index for index, layer in enumerate(layers) if isinstance(layer, kind)]
