"""ONNX files: bytes and graphs that somebody else made."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzzing.checkpoints import MODELS, SPECTRAL, refused_cleanly
from benchmarks.fuzzing.mutation import NUMBERS, damaged
from denoiser import Denoiser


def exported(folder: Path) -> list[bytes]:
    """Two networks as files; kept for the next process, as exporting takes seconds."""
    from denoiser.export import export

    found = []
    for index in (0, 4):
        if not (kept := folder.parent.parent / f"{index}.onnx").exists():
            torch.manual_seed(0)
            export(Denoiser.build(MODELS[index], {**SPECTRAL, "peak": 5.0}).eval(), kept)
        found.append(kept.read_bytes())
    return found


def onnx_bytes(folder: Path) -> Callable[[random.Random, Path], None]:
    """Damage anywhere, most of it in the graph and the metadata."""
    pool = exported(folder)

    def attempt(rng: random.Random, folder: Path) -> None:
        (folder / "m.onnx").write_bytes(damaged(rng, rng.choice(pool), pool, 4096))
        refused_cleanly(folder / "m.onnx", folder, rng)

    return attempt


def onnx_graph(folder: Path) -> Callable[[random.Random, Path], None]:
    """A graph that is whole and says something else: operators, attributes, edges, shapes, types, metadata."""
    import onnx

    pool = [onnx.load_model_from_string(content) for content in exported(folder)]
    from denoiser.onnx_file import OPERATORS

    operators = [*sorted(OPERATORS), "If", "Loop", "Scan", "Random", "NonZero", "Tile", "Range", "ConstantOfShape"]

    def attempt(rng: random.Random, folder: Path) -> None:
        model = onnx.ModelProto()
        model.CopyFrom(rng.choice(pool))
        for _ in range(rng.choice([1, 1, 2, 4])):
            rng.choice(GRAPH)(rng, model, operators)
        try:
            data = model.SerializeToString()
        except Exception:
            data = b""
        (folder / "m.onnx").write_bytes(data)
        refused_cleanly(folder / "m.onnx", folder, rng)

    return attempt


def _operator(rng: random.Random, model: Any, operators: list[str]) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(operators)


def _attribute(rng: random.Random, model: Any, operators: list[str]) -> None:
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    attribute = rng.choice(attributes)
    number = rng.choice(NUMBERS)
    number = number - (1 << 64) if number >= 1 << 63 else number
    chance = rng.random()
    if attribute.ints and chance < 0.6:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice([number, -1, 2, 3])
    elif chance < 0.7:
        attribute.i = rng.choice([number, -1, 2])
    elif chance < 0.8:
        attribute.type = rng.randrange(15)
    elif chance < 0.9:
        attribute.f = rng.choice([float("nan"), 1e38, -1.0])
    else:
        attribute.s = rng.choice([b"", b"linear", b"nearest", b"\xff\xfe", b"reflect"])


def _edge(rng: random.Random, model: Any, operators: list[str]) -> None:
    names = [name for node in model.graph.node for name in [*node.input, *node.output]]
    node = rng.choice(model.graph.node)
    ends = rng.choice([node.input, node.output])
    if ends:
        ends[rng.randrange(len(ends))] = rng.choice([*names, "", "nowhere", "features"])


def _shape(rng: random.Random, model: Any, operators: list[str]) -> None:
    tensor = rng.choice(model.graph.initializer)
    number = rng.choice(NUMBERS)
    number = number - (1 << 64) if number >= 1 << 63 else number
    chance = rng.random()
    if chance < 0.4 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = number
    elif chance < 0.6:
        tensor.data_type = rng.randrange(26)
    elif chance < 0.7:
        tensor.external_data.add(key="location", value=rng.choice(["/etc/passwd", "../../x", "m.onnx"]))
        tensor.data_location = 1
    else:
        tensor.raw_data = damaged(rng, tensor.raw_data)


def _small(rng: random.Random, model: Any, operators: list[str]) -> None:
    """The few numbers that shapes, paddings and slices are made of."""
    found = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == 7 and len(tensor.raw_data) // 8 * 8 == len(tensor.raw_data) > 0
    ]
    if found:
        tensor = rng.choice(found)
        values = np.frombuffer(tensor.raw_data, "<i8").copy()
        number = rng.choice(NUMBERS)
        values[rng.randrange(len(values))] = rng.choice([number - (1 << 64) if number >= 1 << 63 else number, -1, -2])
        tensor.raw_data = values.tobytes()


def _metadata(rng: random.Random, model: Any, operators: list[str]) -> None:
    entry = rng.choice(model.metadata_props)
    value = rng.choice([str(rng.choice(NUMBERS)), "", "nan", "-1", "1e400", "x\ny\x1b[31m", "9" * 5000, "phase", "0.5"])
    if rng.random() < 0.8:
        entry.value = value
    else:
        model.metadata_props.add(key=rng.choice(["ort_config", "hop", "a\nb"]), value=value)


def _node(rng: random.Random, model: Any, operators: list[str]) -> None:
    nodes = model.graph.node
    if rng.random() < 0.5:
        del nodes[rng.randrange(len(nodes))]
    else:
        nodes.insert(rng.randrange(len(nodes) + 1), rng.choice(nodes))


def _ends(rng: random.Random, model: Any, operators: list[str]) -> None:
    end = rng.choice([*model.graph.input, *model.graph.output])
    if rng.random() < 0.5:
        end.type.tensor_type.elem_type = rng.randrange(20)
    else:
        end.type.tensor_type.shape.dim[rng.randrange(4)].dim_value = rng.choice([0, 1, 64, 256, 1 << 40])


GRAPH = [_operator, _attribute, _attribute, _edge, _shape, _small, _small, _metadata, _node, _ends]
