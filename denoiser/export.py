"""Export of a network as an ONNX file, for programs other than this one."""

import copy
import logging
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from denoiser.errors import CheckpointError, ConfigError, DenoiserError, brief
from denoiser.filesystem import atomic_write
from denoiser.inference.denoiser import Denoiser
from denoiser.models import MODELS
from denoiser.models.causal import pad_with_silence
from denoiser.models.heads import HEADS

SPECTRAL = ("sample_rate", "n_fft", "hop", "power", "level_seconds", "bands", "bands_from", "two_levels")
OPSET = 18  # of December 2022: onnxruntime reads it from 1.14 on
IR_VERSION = 8
TOLERANCE = 1e-4  # largest difference of an output value, which lies in [-1, 1]


def export(denoiser: Denoiser, target: str | Path) -> float:
    """Write the network of ``denoiser`` as an ONNX file; return how much its output differs at most from torch's.

    The file maps ``features`` ``[B, inputs, F, T]`` to ``output`` ``[B, outputs, F, T]``, after the activation of the
    head, for any B and T. Raises CheckpointError where the network cannot be exported or differs by more than 1e-4;
    DenoiserError for a missing package; ConfigError where ``target`` cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() != ".onnx":
        raise ConfigError(f"out={target}: expected a name that ends in .onnx")
    if denoiser.causal:
        advice = "export one that was trained with model.causal=false"
        raise CheckpointError(f"a causal network keeps its state from frame to frame, which has no ONNX form; {advice}")
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DenoiserError(f'exporting needs the package {error.name}: pip install "denoiser[export]"') from error
    net = _Exportable(copy.deepcopy(denoiser.net).cpu(), denoiser.head.activation).eval()
    channels, bins = denoiser.inputs, denoiser.spectral.bins
    example = torch.zeros(2, channels, bins, 2 * net.stride + 1)
    try:
        content = _without_paths(_graph(net, example), _metadata(denoiser)).SerializeToString()
    except Exception as error:  # tracing may raise whatever the code of the network does
        name = type(denoiser.net).__name__
        raise CheckpointError(f"torch cannot export {name}: {brief(error.__cause__ or error)}") from error
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    # Another number of signals and of frames than in the example.
    frames = 2 * int(net.net.context) + 3 * net.stride + 5
    features = torch.rand(1, channels, bins, frames, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (exported,) = session.run(["output"], {"features": features.numpy()})
    with torch.no_grad():
        difference = float((torch.from_numpy(exported) - net(features)).abs().max())
    if not difference <= TOLERANCE:
        raise CheckpointError(f"{target}: not written: its output would differ from the network's by {difference:.2g}")
    try:
        with atomic_write(target) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"out={target}: cannot be written ({error.strerror})") from error
    return difference


class _Exportable(nn.Module):
    """A network with the activation of its head. Pads to whole strides in a form that torch can trace."""

    def __init__(self, net: Any, activation: nn.Module) -> None:
        super().__init__()
        self.net, self.activation, self.stride = net, activation, int(net.stride)

    def forward(self, features: Tensor) -> Tensor:
        frames = features.shape[-1]
        whole = (frames + self.stride - 1) // self.stride * self.stride
        return self.activation(self.net(pad_with_silence(features, 0, whole - frames)))[..., :frames]


def _graph(net: nn.Module, example: Tensor) -> Any:
    """Return the network as an onnx.ModelProto for any number of signals and frames."""
    dynamic = {0: torch.export.Dim("batch"), 3: torch.export.Dim("frames", min=1)}
    # Torch warns of packages that are not needed and of its own deprecations.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(dynamic,),
            input_names=["features"],
            output_names=["output"],
            verbose=False,
        )
    assert program is not None  # dynamo=True
    return program.model_proto


def _metadata(denoiser: Denoiser) -> dict[str, Any]:
    """Return what a program needs to know beside the graph: spectral settings, head, blocks, version."""
    spectral, net, head = denoiser.spectral, denoiser.net, denoiser.head
    names = {kind: name for name, kind in (*MODELS.items(), *HEADS.items())}
    return {
        "model": names.get(type(net), type(net).__name__),
        "denoiser_version": version("denoiser"),
        **{name: getattr(spectral, name) for name in SPECTRAL},
        "peak": float(spectral.peak),
        "stride": int(net.stride),
        "context": int(net.context),
        "head": names[type(head)],
        **{name: getattr(head, name) for name in ("limit", "taps", "lowest") if hasattr(head, name)},
    }


def _without_paths(model: Any, metadata: dict[str, Any]) -> Any:
    """Replace what torch notes in a graph, stack traces with paths of this machine, by ``metadata``."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for end in (*graph.input, *graph.output):
        end.type.tensor_type.shape.dim[3].dim_param = "frames"
    model.ClearField("metadata_props")
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=str(value))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "denoiser", metadata["denoiser_version"]
    return model
