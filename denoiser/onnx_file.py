"""An ONNX file as something that may come from a stranger: what has to hold before onnxruntime sees it.

At most ``MAX_BYTES`` are read, into memory, and refused unless they are a plain graph with the settings it was
exported with: all weights inside, operators of ONNX's own that only compute (nothing custom, no loops or
functions), metadata that fit the graph and each other, and no tensor that outgrows the input by far.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from denoiser.models import heads
from denoiser.audio.reader import MAX_RATE, MIN_RATE

SPECTRAL = {"sample_rate": int, "n_fft": int, "hop": int, "power": float, "peak": float}
BLOCKS = {"stride": int, "context": int}
HEAD = {"head": str, "limit": float, "taps": int, "lowest": int}
UNSTATED = {"head": "noise", "limit": "1", "taps": "5", "lowest": "64"}  # before there were others, it had none
TEXT = ("model", "denoiser_version")

# What spectrogram networks are made of. None of these reads a file, runs a subgraph or holds anything but numbers.
OPERATORS = frozenset(
    """Abs Add AveragePool BatchNormalization Cast Clip Concat Constant Conv ConvTranspose DepthToSpace
    DequantizeLinear Div Elu Erf Exp Expand Flatten GRU Gather Gemm GlobalAveragePool HardSigmoid HardSwish
    Identity InstanceNormalization LSTM LayerNormalization LeakyRelu Log LogSoftmax MatMul Max MaxPool Min Mish
    Mod Mul Neg PRelu Pad Pow QuantizeLinear Reciprocal ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid
    Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where""".split()
)
# The ones by which a graph works out shapes, on a few integers at a time.
_ARITHMETIC = frozenset("Add Cast Concat Constant Div Gather Max Min Mod Mul Neg Reshape Slice Squeeze Sub".split())

MAX_BYTES = 1 << 30
MAX_NODES = 4096
MAX_FRAMES = 1 << 12  # of stride and of context; unet14 has 64 and 512
MAX_GROWTH = 4096  # values in the network per value that goes in
_FEW = 64  # values; what holds more is a weight and no shape
_LONG = 4096  # frames, half a minute: long enough for what grows with the square of time


def read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The file as bytes of which nothing is unchecked, and its metadata by name, numbers as numbers.

    Raises ValueError, or what protobuf and onnx raise, for anything that cannot be trusted.
    """
    import onnx

    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"over {MAX_BYTES >> 20} MB")
    model = onnx.load_model_from_string(data)
    model.DiscardUnknownFields()  # what onnxruntime may know and the checks below do not
    settings = _settings(model)
    bins, head = settings["n_fft"] // 2 + 1, head_of(settings)
    _check_graph(model, bins, head.inputs, head.outputs)
    data = model.SerializeToString()
    onnx.checker.check_model(data)
    for frames in (trial_frames(settings["stride"], settings["context"]), _LONG):
        _check_sizes(model, head.inputs, bins, frames)
    return data, settings


def head_of(settings: dict[str, Any]) -> heads.Head:
    """The head that checked metadata name, with those of its arguments that they state."""
    arguments = inspect.signature(heads.HEADS[settings["head"]]).parameters
    return heads.build(settings["head"], **{key: settings[key] for key in HEAD if key in arguments})


def trial_frames(stride: int, context: int) -> int:
    """Frames of the first input a network gets: a block with its context, and more than a stride to each side."""
    return 2 * context + 3 * stride + 1


def brief(error: BaseException | str) -> str:
    """What an error says, in one printable line: its text may quote the file."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return (text if len(text) <= 200 else f"{text[:197]}...") or type(error).__name__


def _settings(model: Any) -> dict[str, Any]:
    found = {entry.key: entry.value for entry in model.metadata_props}
    found = {**UNSTATED, **found}
    expected = {*SPECTRAL, *BLOCKS, *HEAD, *TEXT}
    if missing := sorted(expected - set(found)):
        raise ValueError(f"its metadata state no {', '.join(missing)}")
    if unknown := sorted(set(found) - expected):
        raise ValueError(f"unknown metadata {unknown[0]!r}")
    settings: dict[str, Any] = {name: found[name] for name in TEXT}
    for name, kind in (SPECTRAL | BLOCKS | HEAD).items():
        try:
            settings[name] = kind(found[name])
        except ValueError:
            raise ValueError(f"{name} in its metadata is no number: {found[name]!r}") from None
    rate, n_fft, stride, context = (settings[name] for name in ("sample_rate", "n_fft", "stride", "context"))
    limits = {
        "sample_rate": MIN_RATE <= rate <= MAX_RATE,
        "n_fft": 2 <= n_fft <= rate,  # a window of a second
        "head": settings["head"] in heads.HEADS,
        "limit": 0 < settings["limit"] <= 10,
        "taps": settings["taps"] in range(1, heads.MAX_TAPS + 1, 2),
        "lowest": 1 <= settings["lowest"] <= n_fft // 2 + 1,
        "stride": 1 <= stride <= MAX_FRAMES,
        "context": 0 <= context <= MAX_FRAMES and context % max(stride, 1) == 0,
        # Of a signal with an RMS of 1, so at most half the window times a crest factor; see Spectral.
        "peak": 1e-6 <= settings["peak"] <= n_fft * 1e3,
    }
    for name, holds in limits.items():
        if not holds:
            raise ValueError(f"{name}={settings[name]} in its metadata is implausible")
    return settings  # hop and power are Spectral's to check


def _check_graph(model: Any, bins: int, inputs: int, outputs: int) -> None:
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise ValueError(f"{len(graph.node)} operators, more than {MAX_NODES}")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise ValueError("it holds functions, training or sparse weights")
    if len(model.opset_import) != 1:
        raise ValueError(f"{len(model.opset_import)} sets of operators, expected ONNX's own")
    domains = {entry.domain for entry in model.opset_import} | {node.domain for node in graph.node}
    if foreign := sorted(domains - {"", "ai.onnx"}):
        raise ValueError(f"operators of the custom domain {foreign[0]!r}")
    if other := sorted({node.op_type for node in graph.node} - OPERATORS):
        raise ValueError(f"operator {other[0]!r}, none that a network of this program is made of")
    for tensor in _tensors(graph):
        if tensor.data_location or tensor.external_data:
            raise ValueError(f"weights {tensor.name!r} in another file")
        if tensor.data_type == tensor.STRING:
            raise ValueError(f"weights {tensor.name!r} that are text")
    for ends, name, channels in ((graph.input, "input", inputs), (graph.output, "output", outputs)):
        if len(ends) != 1:
            raise ValueError(f"{len(ends)} {name}s, expected one")
        tensor_type = ends[0].type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor_type.shape.dim]
        if tensor_type.elem_type != 1 or shape != [None, channels, bins, None]:
            shown = ", ".join("any" if size is None else str(size) for size in shape)
            expected = f"floats [any, {channels}, {bins}, any] by its head and n_fft"
            raise ValueError(f"an {name} of shape [{shown}], expected {expected}")


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise ValueError(f"a graph inside its operator {node.op_type!r}")
            if attribute.sparse_tensors or attribute.HasField("sparse_tensor"):
                raise ValueError(f"sparse weights in its operator {node.op_type!r}")
            yield from attribute.tensors
            if attribute.HasField("t"):
                yield attribute.t


def _check_sizes(model: Any, channels: int, bins: int, frames: int) -> None:
    """Raise ValueError where a tensor inside is too large, empty, or of unknown size, for ``[1, 1, F, T]``.

    A few bytes ask for any amount of memory: padding by 2**40, or an output joined to itself 40 times. So shapes are
    worked out first, operator by operator: what depends on shapes alone is computed, the rest ONNX's own inference
    says. It aborts the process (onnx 1.23, Slice) where a tensor is empty, so nothing empty gets there.
    """
    from onnx import defs, helper, numpy_helper, shape_inference

    graph, total = model.graph, 0
    few = {t.name: numpy_helper.to_array(t) for t in graph.initializer if math.prod(t.dims) <= _FEW}
    types = {t.name: helper.make_tensor_type_proto(t.data_type, list(t.dims)) for t in graph.initializer}
    types[graph.input[0].name] = helper.make_tensor_type_proto(1, [1, channels, bins, frames])
    for node in graph.node:
        inputs, outputs = ([name for name in names if name] for names in (node.input, node.output))
        value = _from_shapes(node, inputs, few, types)
        if value is not None:
            few[outputs[0]] = value
            types[outputs[0]] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            continue
        if inputs and 0 in _sizes(types[inputs[0]]):
            raise ValueError(f"nothing to compute {outputs[0]!r} from")
        # onnx 1.23 takes an Expand by a shape it does not know for one that changes nothing. Quantised biases are none.
        for name in inputs if node.op_type != "DequantizeLinear" else ():
            if types[name].tensor_type.elem_type in (6, 7) and name not in few:
                raise ValueError(f"integers {name!r} that cannot be known before it runs")
        types |= shape_inference.infer_node_outputs(
            defs.get_schema(node.op_type, model.opset_import[0].version),
            node,
            {name: types[name] for name in inputs},
            {name: numpy_helper.from_array(few[name]) for name in inputs if name in few},
            model.opset_import,
        )
        for name in outputs:
            sizes = _sizes(types[name]) if name in types else [-1]
            if min(sizes, default=1) < 1:
                raise ValueError(f"the size of {name!r} inside it cannot be known before it runs")
            total += math.prod(sizes)
        if total > MAX_GROWTH * channels * bins * frames:
            raise ValueError(f"over {total} values in the network for {channels * bins * frames} that go in")


def _from_shapes(node: Any, inputs: list[str], few: dict[str, np.ndarray], types: dict[str, Any]) -> np.ndarray | None:
    """What an operator makes of shapes alone, computed; None where it is given more than a few numbers."""
    from onnx.reference import ReferenceEvaluator

    if node.op_type == "Shape":
        span = {attribute.name: attribute.i for attribute in node.attribute}
        return np.array(_sizes(types[inputs[0]]))[span.get("start", 0) : span.get("end")]
    if node.op_type not in _ARITHMETIC or not all(name in few for name in inputs):
        return None
    with np.errstate(all="ignore"):
        value = np.asarray(*ReferenceEvaluator(node).run(None, {name: few[name] for name in inputs}))
    if value.size > _FEW:
        raise ValueError(f"{value.size} numbers {node.output[0]!r} to work out a shape by")
    return value


def _sizes(kind: Any) -> list[int]:
    """Each axis of a tensor's type, -1 where it is unknown."""
    shape = kind.tensor_type.shape if kind.tensor_type.HasField("shape") else None
    return [-1] if shape is None else [d.dim_value if d.HasField("dim_value") else -1 for d in shape.dim]
