"""A network read from an ONNX file and run by onnxruntime, in the place of the one it was exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from denoiser import onnx_file
from denoiser.devices import resolve_device
from denoiser.errors import CheckpointError, ConfigError, DenoiserError
from denoiser.models.heads import Head
from denoiser.onnx_file import brief
from denoiser.spectral import Spectral

TOLERANCE = 1e-4  # of full scale: more than rounding in another order ever makes
QUANTISED = 0.05  # some steps of 8 bits: where floats round in another order, a step may be taken


class OnnxNet(nn.Module):
    """``[B, inputs, F, T]`` → ``[B, outputs, F, T]`` in [-1, 1], bounded as its head bounds it, by onnxruntime.

    Any number of threads may call it at once. It has no parameters and cannot be trained; it takes tensors on any
    device and computes on the session's own. Raises CheckpointError where the session fails, or returns anything
    but numbers of that shape.
    """

    def __init__(self, session: Any, stride: int, context: int, outputs: int = 1) -> None:
        super().__init__()
        self.session = session  # an onnxruntime.InferenceSession
        self.stride, self.context, self.outputs = stride, context, outputs

    def forward(self, features: Tensor) -> Tensor:
        given = features.detach().to("cpu", torch.float32).contiguous().numpy()
        try:
            (output,) = self.session.run(None, {self.session.get_inputs()[0].name: given})
        except Exception as error:  # onnxruntime has a class for each of its status codes, without a common one
            raise CheckpointError(f"the ONNX network fails on {list(given.shape)}: {brief(error)}") from error
        expected = (given.shape[0], self.outputs, *given.shape[2:])
        if output.shape != expected or np.isnan(output).any():
            what = "NaN" if output.shape == expected else f"shape {list(output.shape)}"
            raise CheckpointError(f"the ONNX network returns {what} for an input of {list(given.shape)}")
        # Bounded, as every network here is: infinity from a stranger's file must not reach anyone's ears.
        return torch.from_numpy(output).clamp(-1, 1).to(features.device)


def load(path: str | Path, device: str = "auto") -> tuple[OnnxNet, Spectral, Head]:
    """The network of an exported file, the spectral representation it works in and its head, on ``device``.

    ``auto`` is a GPU where there is one that this onnxruntime can use, else the CPU. The file may come from a
    stranger: see :mod:`denoiser.onnx_file`. Raises CheckpointError where it is missing, damaged, too large, or
    anything but a network that ``denoiser.export`` could have written, ConfigError for a device that is not there,
    DenoiserError where a package is missing.
    """
    path = Path(path)
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise DenoiserError(f'{path}: ONNX needs the package {error.name}: pip install "denoiser[export]"') from error
    where = _resolve(device, onnxruntime.get_available_providers())
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected an ONNX file")
    try:
        data, settings = onnx_file.read(path)
        spectral = Spectral(**{name: settings[name] for name in onnx_file.SPECTRAL})
        head = onnx_file.head_of(settings)
        head.activation = nn.Identity()  # it is in the file
        net = OnnxNet(_session(data, where), settings["stride"], settings["context"], head.outputs)
        _try(net, head.inputs, spectral.bins, QUANTISED if b"QuantizeLinear" in data else TOLERANCE)
    except Exception as error:  # protobuf, onnx and onnxruntime raise some twenty kinds for a damaged file
        raise CheckpointError(f"{path}: not a network that this program exported ({brief(error)})") from error
    if where.type == "cuda" and "CUDAExecutionProvider" not in net.session.get_providers():
        raise ConfigError(f"device={device}: onnxruntime could not start CUDA; use device=cpu")
    return net, spectral.to(where), head


def _resolve(device: str, providers: list[str]) -> torch.device:
    where = resolve_device(device)
    if where.type == "cuda" and "CUDAExecutionProvider" not in providers:
        if device != "auto":
            raise ConfigError(
                f"device={device}: this onnxruntime computes on the CPU only; use device=cpu, or install "
                "onnxruntime-gpu in its place"
            )
        return torch.device("cpu")
    return where


def _session(data: bytes, where: torch.device) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; its log says it twice, and in colour
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside another load, sleeping is faster
    # Else bytes 4 to 8 could say that this is onnxruntime's own format, which nobody has checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    providers: list[Any] = ["CPUExecutionProvider"]
    if where.type == "cuda":
        # TF32 keeps 10 bits of the mantissa: too few for TOLERANCE.
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": where.index or 0, "use_tf32": "0"}))
    return onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=0)


def _try(net: OnnxNet, inputs: int, bins: int, tolerance: float) -> None:
    """Raise ValueError where a block with the context that the file claims differs from the whole."""
    stride, context = net.stride, net.context
    shape = (2, inputs, bins, onnx_file.trial_frames(stride, context))
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = net(x)[..., stride + context : 2 * stride + context]
    block = net(x[..., stride:-stride])[..., context : context + stride]
    difference = float((whole - block).abs().max())
    if difference > tolerance:
        wrong = f"stride={stride}, context={context} in its metadata are wrong"
        raise ValueError(f"{wrong}: blocks differ from the whole by {difference:.2g}")
