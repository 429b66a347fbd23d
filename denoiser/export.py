"""A checkpoint's network as an ONNX file: ``python -m denoiser export ckpt=best.ckpt out=model.onnx``."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from denoiser import __version__, onnx_file, onnx_net, quantization
from denoiser.errors import CheckpointError, ConfigError, DenoiserError
from denoiser.filesystem import atomic_write
from denoiser.inference.denoiser import Denoiser
from denoiser.models import MODELS
from denoiser.models.causal import with_silence
from denoiser.models.heads import HEADS
from denoiser.onnx_file import brief

OPSET, IR_VERSION = 18, 8  # of December 2022: onnxruntime reads them from 1.14 on
LONG_SECONDS = 17.0  # of audio that the file is checked on: more than one block
INT8_TOLERANCE = 0.1  # of full scale; shipped networks, of which a hundredth is usual, have 0.02


class Exported(NamedTuple):
    """A written file, its size in bytes, and by how much of full scale its waveforms differ at most."""

    path: Path
    size: int
    difference: float


def export(denoiser: Denoiser, target: str | Path, int8: bool = False) -> Exported:
    """Write the network of ``denoiser`` to ``target``, read it back, and compare what both enhance.

    The file maps ``features`` ``[B, inputs, F, T]`` to the network's bounded ``output`` ``[B, outputs, F, T]``, for any
    B and T; its metadata state head, spectral settings, stride and context. With ``int8`` it is quantised
    (:mod:`denoiser.quantization`). Raises CheckpointError, and leaves no file, where the network cannot be exported or
    the file's waveforms differ by more than 1e-4 of full scale, or quantised by 0.1; DenoiserError where a package is
    missing or ``target`` cannot be written.
    """
    target = Path(target)
    if target.suffix.lower() != ".onnx":
        raise ConfigError(f"out={target}: expected a name that ends in .onnx")
    denoiser = copy.deepcopy(denoiser).cpu().eval()
    denoiser.precision, denoiser.fast = "32", None
    try:
        with atomic_write(target) as partial:
            size = partial.write_bytes(to_onnx(denoiser, int8))
            net, spectral, head = onnx_net.load(partial, "cpu")
            difference = _difference(denoiser, Denoiser(net, spectral, head=head))
            if not difference <= (tolerance := INT8_TOLERANCE if int8 else onnx_net.TOLERANCE):
                raise CheckpointError(
                    f"{target}: not written: the exported network differs from the checkpoint's by {difference:.2g} of "
                    f"full scale, and rounding explains no more than {tolerance}"
                )
    except OSError as error:
        raise ConfigError(f"out={target}: cannot be written ({error.strerror})") from error
    return Exported(target, size, difference)


def to_onnx(denoiser: Denoiser, int8: bool = False) -> bytes:
    """The network of ``denoiser`` as an ONNX file, unchecked. Raises CheckpointError where torch cannot export it."""
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise DenoiserError(f'exporting needs the package {error.name}: pip install "denoiser[export]"') from error
    net, spectral, head = denoiser.net, denoiser.spectral, denoiser.head
    if denoiser.causal:
        raise CheckpointError(
            f"a causal {type(net).__name__} remembers all that came before, which a graph over blocks cannot: export "
            "one that was trained with model.causal=false"
        )
    example = torch.zeros(2, head.inputs, spectral.bins, 2 * int(net.stride) + 1)
    dynamic = {0: torch.export.Dim("batch"), 3: torch.export.Dim("frames", min=1)}
    try:
        bounded = _AnyLength(net, head.activation).eval()
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                bounded, (example,), dynamo=True, opset_version=OPSET, dynamic_shapes=(dynamic,),
                input_names=["features"], output_names=["output"], verbose=False,
            )  # fmt: skip
    except Exception as error:  # whatever tracing the network's own code raises
        raise CheckpointError(f"torch cannot export {type(net).__name__}: {brief(error.__cause__ or error)}") from error
    assert program is not None  # dynamo=True
    model = _plain(program.model_proto, denoiser)
    if int8:
        model = _plain(onnx.load_model_from_string(quantization.quantized(model, denoiser)), denoiser)
    return model.SerializeToString()


class _AnyLength(nn.Module):
    """A network that gets its frames in whole strides: ``-frames % stride``, its own way, is more than torch traces."""

    def __init__(self, net: Any, activation: nn.Module) -> None:
        super().__init__()
        self.net, self.activation, self.stride = net, activation, int(net.stride)

    def forward(self, features: Tensor) -> Tensor:
        frames = features.shape[-1]
        whole = (frames + self.stride - 1) // self.stride * self.stride
        return self.activation(self.net(with_silence(features, 0, whole - frames)))[..., :frames]


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of what torch's exporter prints, logs and warns of; what goes wrong, it raises."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _plain(model: Any, denoiser: Denoiser) -> Any:
    """The exported graph with our metadata and no others: torch's hold stack traces, with the paths of this machine."""
    graph, net = model.graph, denoiser.net
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for end in (*graph.input, *graph.output):  # torch calls the frames of the output u0
        end.type.tensor_type.shape.dim[3].dim_param = "frames"
    model.ClearField("metadata_props")
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION, "denoiser", __version__
    model.doc_string = (
        "With head noise: scaled magnitude [B, 1, F, T] to scaled noise; the estimate: features - 2 output."
    )
    name = next((name for name, kind in MODELS.items() if type(net) is kind), type(net).__name__)
    numbers = {key: kind(getattr(denoiser.spectral, key)) for key, kind in onnx_file.SPECTRAL.items()}
    numbers |= {key: kind(getattr(net, key)) for key, kind in onnx_file.BLOCKS.items()}
    head = next(name for name, kind in HEADS.items() if type(denoiser.head) is kind)
    numbers |= {"head": head, "limit": 1.0}
    numbers |= {key: getattr(denoiser.head, key) for key in onnx_file.HEAD if hasattr(denoiser.head, key)}
    del model.opset_import[1:]  # of what it uses nothing
    for key, value in {"model": name, "denoiser_version": __version__, **numbers}.items():
        model.metadata_props.add(key=key, value=str(value))
    return model


def _difference(one: Denoiser, other: Denoiser) -> float:
    """The largest by which what they enhance differs: noise and a voice of full scale, of one frame and up."""
    rate, hop = one.sample_rate, one.spectral.hop
    samples = round(LONG_SECONDS * rate)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(samples, generator=generator) * 2 - 1
    voice = quantization.voice(samples, rate, 120) + 0.05 * noise
    both = torch.stack([noise, voice / voice.abs().max()])
    lengths = (1, hop * (int(one.net.stride) + 1), samples)
    pairs = ((one.enhance(both[:, :n], rate), other.enhance(both[:, :n], rate)) for n in lengths)
    return max(float((a - b).abs().max()) for a, b in pairs)
