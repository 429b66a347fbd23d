"""DNSMOS P.835: ratings by listeners, estimated from a recording alone, without a clean one.

C. K. A. Reddy, V. Gopal, R. Cutler, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric to
evaluate noise suppressors", ICASSP 2022. The package ``speechmos`` brings the network, and only its file is used: the
package's function also computes a rating that nobody asks for here, for which it needs librosa and numba.
"""

import math
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from denoiser.losses.dnsmos import RATE, SCALES

WINDOW = 144_160  # samples that the network takes, 9.01 s
# A window takes half a second of computing, so an hour at one window per second would take half an hour.
MAX_WINDOWS = 16
NAMES = tuple(SCALES)
PACKAGES = ("speechmos", "onnxruntime")


def ratings(waveform: Tensor) -> dict[str, float]:
    """Return SIG, BAK and OVRL of ``[N]`` at 16 kHz, 1 to 5, the mean over windows that begin every second.

    A recording that is shorter than a window is repeated; beyond 25 s, 16 windows are spread evenly. Also defined for
    silence, but NaN without a sample, or where a package is missing.
    """
    try:
        network = _network()
    except ImportError:
        return dict.fromkeys(NAMES, math.nan)
    if not len(waveform):
        return dict.fromkeys(NAMES, math.nan)
    waveform = waveform.clamp(-1, 1)
    while len(waveform) < WINDOW:
        waveform = torch.cat([waveform, waveform])
    count = max(1, len(waveform) // RATE - WINDOW // RATE)
    starts = np.arange(count) * RATE
    if count > MAX_WINDOWS:
        starts = np.linspace(0, len(waveform) - WINDOW, MAX_WINDOWS).astype(int)
    raw = np.stack([network(waveform[start : start + WINDOW].numpy()) for start in starts])
    scaled = {name: np.polynomial.Polynomial(scale)(raw[:, i]) for i, (name, scale) in enumerate(SCALES.items())}
    return {name: float(values.mean()) for name, values in scaled.items()}


@cache
def _network() -> Callable[[np.ndarray], np.ndarray]:
    """Return the network: float32 ``[WINDOW]`` to its three outputs."""
    import onnxruntime

    model = (files("speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx").read_bytes()
    options = onnxruntime.SessionOptions()
    # As many threads as everything else has; onnxruntime would take all cores in each scoring process.
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda window: session.run(None, {"input_1": window[None]})[0][0]
