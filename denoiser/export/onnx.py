"""A model as an ONNX file, waveform in and waveform out, for programs other than this one."""

import copy
import logging
import math
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoiser.errors import CheckpointError, ConfigError, DenoiserError, brief
from denoiser.export.step import CausalStep, Step
from denoiser.filesystem import atomic_write
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.estimator import Estimator
from denoiser.inference.exported import ExportedFrames, ExportedStep
from denoiser.inference.level import Level, RunningOffset
from denoiser.inference.options import Options
from denoiser.level import AT_ONCE
from denoiser.models import MODELS
from denoiser.models.heads import HEADS

OPSET = 18  # of December 2022: onnxruntime reads it from 1.14 on
IR_VERSION = 8
LARGE = 4096  # values of a tensor that is worth storing in 16 bits
TOLERANCE = 1e-4  # largest difference of a sample, in a signal of RMS 1
EDGES: dict[str, Any] = {"replicate": "edge", "constant": "constant"}  # names of torch, and of numpy.pad
# The file takes so many at once. Those of the level are one more, and another one for a shift.
MOST_FRAMES = AT_ONCE - 2


def export(denoiser: Denoiser, target: str | Path, rate: int | None = None) -> float:
    """Write ``denoiser`` as an ONNX file; return how much its result differs at most from torch's.

    The file enhances recordings at the rate of the model; with ``rate``, at that rate, where a model with bands needs
    no other one. docs/inference.md says how it is used. The file of a causal model gives a
    single result, without shifts. Raises CheckpointError where the model cannot be exported or the result differs by
    more than 1e-4; DenoiserError for a missing package; ConfigError where ``target`` cannot be
    written, or the model works at another rate.
    """
    target = Path(target)
    if target.suffix.lower() != ".onnx":
        raise ConfigError(f"out={target}: expected a name that ends in .onnx")
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DenoiserError(f'exporting needs the package {error.name}: pip install "denoiser[export]"') from error
    denoiser = copy.deepcopy(denoiser).cpu().eval()
    denoiser.precision = "32"
    estimator = denoiser.at(rate or denoiser.sample_rate)
    if rate not in (None, estimator.sample_rate):
        rates = sorted({denoiser.sample_rate, denoiser.spectral.narrow_rate})
        raise ConfigError(f"rate={rate}: this model works at {' or '.join(map(str, rates))} Hz")
    noisy = _changing_noise(estimator)
    try:
        # Tracing takes half a minute: a name that cannot be written is refused before it.
        with atomic_write(target) as partial:
            content, enhanced = _traced(estimator, noisy)
            difference = float(np.abs(enhanced - _expected(denoiser, estimator, noisy)).max())
            if not difference <= TOLERANCE:
                found = f"its output would differ from the model's by {difference:.2g}"
                raise CheckpointError(f"{target}: not written: {found}")
            partial.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"out={target}: cannot be written ({error.strerror})") from error
    return difference


def _traced(estimator: Estimator, noisy: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Return the content of the file, and its result for ``noisy`` in onnxruntime."""
    import onnxruntime

    step = CausalStep(estimator) if estimator.causal else Step(estimator)
    try:
        content = _in_16_bits(_without_paths(_graph(step), _metadata(estimator))).SerializeToString()
        if estimator.causal:
            return content, _hop_by_hop(content, noisy)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        return content, session.run(None, {"noisy": noisy})[0]
    except Exception as error:  # tracing may raise whatever the code of the network does
        name = type(estimator.net).__name__
        raise CheckpointError(f"torch cannot export {name}: {brief(error.__cause__ or error)}") from error


def _expected(denoiser: Denoiser, estimator: Estimator, noisy: np.ndarray) -> np.ndarray:
    """Return the result of ``denoiser`` for ``noisy``."""
    # With a known offset of 0: to subtract one of 1e-10 would end the silence. A causal stream runs in torch with it.
    level = Level(torch.ones(1, 1), torch.zeros(1, 1))
    # The file of a causal model gives a single result, also where the model averages several.
    options = Options(shifts=1 if estimator.causal else None)
    stream = denoiser.stream(estimator.sample_rate, level, options)
    return np.concatenate([stream.process(noisy), stream.flush()], axis=-1)


def _graph(step: Step | CausalStep) -> Any:
    """Return the module as an onnx.ModelProto for blocks of any number of hops, or of one if it is causal."""
    hop = step.estimator.spectral.hop
    example: tuple[Tensor, ...] = (torch.zeros(1, 151 * hop),)
    inputs, outputs = ["noisy"], ["enhanced"]
    shapes = None
    if isinstance(step, CausalStep):
        example = (torch.zeros(1, hop), *step.start)
        inputs += [f"state_{number}" for number in range(len(step.start))]
        outputs += [f"next_{number}" for number in range(len(step.start))]
    else:
        frames = torch.export.Dim("frames", min=1, max=MOST_FRAMES)
        shapes = ({1: hop * frames},)
    # Torch warns of packages that are not needed and of its own deprecations.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            step,
            example,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=shapes,
            input_names=inputs,
            output_names=outputs,
            verbose=False,
        )
    assert program is not None  # dynamo=True
    return program.model_proto


def _metadata(estimator: Estimator) -> dict[str, Any]:
    """Return the facts that a program needs beside the graph; lengths in samples."""
    spectral, hop = estimator.spectral, estimator.spectral.hop
    names = {kind: name for name, kind in (*MODELS.items(), *HEADS.items())}
    metadata = {
        "denoiser_version": version("denoiser"),
        "model": names.get(type(estimator.net), type(estimator.net).__name__),
        "head": names[type(estimator.head)],
        "sample_rate": spectral.sample_rate,
        "hop": hop,
        "n_fft": spectral.n_fft,
        "level_seconds": spectral.level_seconds,
        "edge": EDGES[spectral.edge],
    }
    if estimator.causal:
        metadata["delay"] = spectral.n_fft - hop
    else:
        step = int(estimator.net.stride) * hop
        context = math.ceil(estimator.context(Options()) * hop / step) * step
        longest = min(round(estimator.block_seconds * spectral.sample_rate), MOST_FRAMES * hop - 2 * context)
        block = longest // step * step
        if block <= 0:
            seen = f"it sees {context // hop} frames on either side"
            raise ValueError(f"{seen}, and the file takes {MOST_FRAMES} at once")
        metadata |= {"context": context, "block": block}
    return metadata


def _changing_noise(estimator: Estimator) -> np.ndarray:
    """Return noise ``[1, N]`` of RMS 1 without offset: loud, soft, silent, louder, less loud, a second each."""
    size = int(estimator.spectral.frame_rate) * estimator.spectral.hop
    random = np.random.default_rng(0)
    parts = []
    for gain in (1.0, 0.05, 0.0, 3.0, 0.5):
        part = gain * random.standard_normal(size)
        parts.append(part - part.mean())
    noisy = np.concatenate(parts)
    return (noisy / noisy.std()).astype(np.float32)[None]


def _hop_by_hop(content: bytes, noisy: np.ndarray) -> np.ndarray:
    """Return the result of the file of a causal model for all of ``[1, N]``."""
    step, samples = ExportedStep(content), torch.from_numpy(noisy)
    if step.level_seconds:
        samples = samples - RunningOffset()(samples)
    frames = ExportedFrames(step)
    parts = [*frames.push(samples), *frames.flush()]
    return torch.cat(parts, dim=-1)[0].numpy()


def _without_paths(model: Any, metadata: dict[str, Any]) -> Any:
    """Replace the notes of torch in a graph, which hold paths of this machine, by ``metadata``."""
    import onnx

    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    onnx.helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "denoiser", metadata["denoiser_version"]
    return model


def _in_16_bits(model: Any) -> Any:
    """Store large weights in 16 bits where that changes none of them, as in a model of a checkpoint of 16 bits.

    A node at the beginning makes 32 bits of them again; onnxruntime does it once, when it loads the file.
    """
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size < LARGE or not np.array_equal(halves.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(halves, f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model
