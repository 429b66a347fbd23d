"""A stranger's ONNX file can do nothing but compute."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import noisy_voice

from denoiser import Denoiser, onnx_file
from denoiser.errors import CheckpointError, ConfigError

onnx = pytest.importorskip("onnx", reason='needs pip install "denoiser[export]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "denoiser[export]"')
pytest.importorskip("onnxscript", reason='needs pip install "denoiser[export]"')
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def model(exported):
    """The exported file, parsed, to be changed."""
    return onnx.load_model(exported)


# A stranger's file.


def test_precision_is_that_of_the_file(exported):
    with pytest.raises(ConfigError, match=r"precision=bf16: .* is ONNX, which computes in 32 bits"):
        Denoiser.from_checkpoint(exported, "cpu", "bf16")


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        Denoiser.from_checkpoint(path, device="cpu")
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sample_rate", None, "state no sample_rate"),
        ("sample_rate", "fast", "sample_rate in its metadata is no number: 'fast'"),
        ("sample_rate", "10", "sample_rate=10 in its metadata is implausible"),
        ("sample_rate", "9" * 5_000, "no number"),
        ("n_fft", "512", r"expected floats \[any, 1, 257, any\]"),
        ("n_fft", "99999999999", "implausible"),
        ("hop", "0", "0 < hop"),
        ("power", "nan", "0 < power"),
        ("peak", "nan", "implausible"),
        ("peak", "-1", "implausible"),
        ("peak", "1e38", "implausible"),
        ("stride", "0", "implausible"),
        ("stride", "1", "stride=1, context=28 in its metadata are wrong"),
        ("context", "0", "blocks differ from the whole"),
        ("context", "30", "implausible"),
        ("context", "4000000000", "implausible"),
        ("ort_config", "{}", "unknown metadata 'ort_config'"),
        ("a\nb\x1b[31m", "x", "unknown metadata"),
    ],
)
def test_metadata_that_lie_are_refused(model, tmp_path, key, value, message):
    metadata = {entry.key: entry.value for entry in model.metadata_props} | {key: value}
    del model.metadata_props[:]
    helper.set_model_props(model, {k: v for k, v in metadata.items() if v is not None})
    assert re.search(message, refused(tmp_path / "m.onnx", model.SerializeToString()))


def node(model, kind: str):
    return next(node for node in model.graph.node if node.op_type == kind)


def weight(model, name: str):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def elsewhere(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/hostname")


def elsewhere_in_a_constant(model):
    value = numpy_helper.from_array(np.zeros(4, dtype="float32"), "w")
    value.external_data.add(key="location", value="/etc/hostname")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=value))


def custom_operator(model):
    node(model, "Tanh").domain = "com.stranger"
    model.opset_import.add(domain="com.stranger", version=1)


def loop(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["magnitude"], ["unused"], then_branch=body, else_branch=body))


def subgraph(model):
    node(model, "Tanh").attribute.append(helper.make_attribute("body", helper.make_graph([], "body", [], [])))


def function(model):
    model.functions.append(
        helper.make_function("", "Tanh", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], model.opset_import)
    )


def padded_to_a_terabyte(model):
    pads = numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 0, 0, 1 << 31]), "far")
    model.graph.initializer.append(pads)
    node(model, "Pad").input[1] = "far"


def joined_to_itself_forty_times(model):
    last = node(model, "Tanh").output[0]
    for index in range(40):
        model.graph.node.append(helper.make_node("Concat", [last, last], [f"twice_{index}"], axis=1))
        last = f"twice_{index}"


def shape_of_a_million_numbers(model):
    first = next(n for n in model.graph.node if n.op_type == "Shape").output[0]
    for index in range(20):
        model.graph.node.append(helper.make_node("Concat", [first, first], [f"twice_{index}"], axis=0))
        first = f"twice_{index}"


def size_that_depends_on_the_sound(model):
    for name, value in (("first", [0, 0, 0, 0]), ("last", [1, 1, 1, 1]), ("flat", [-1])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    model.graph.node.append(helper.make_node("Slice", ["features", "first", "last"], ["one"]))
    model.graph.node.append(helper.make_node("Reshape", ["one", "flat"], ["one_flat"]))
    model.graph.node.append(helper.make_node("Cast", ["one_flat"], ["loudness"], to=TensorProto.INT64))
    model.graph.node.append(helper.make_node("Expand", ["features", "loudness"], ["unknown"]))


def nothing_sliced(model):  # onnx 1.23 aborts the process on it
    for name, value in (("empty", np.zeros((0, 4), "f")), ("one", np.array([1])), ("back", np.array([-1]))):
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.node.append(helper.make_node("MatMul", ["empty", "magnitude"], ["none"]))
    model.graph.node.append(helper.make_node("Slice", ["none", "one", "one", "one", "back"], ["sliced"]))


def two_outputs(model):
    model.graph.output.append(helper.make_tensor_value_info("tanh_too", TensorProto.FLOAT, ["b", 1, 256, "t"]))
    model.graph.node.append(helper.make_node("Tanh", ["magnitude"], ["tanh_too"]))


def of_one_length(model):
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64


def cut_short(model):
    model.graph.node[-1].CopyFrom(
        helper.make_node("Identity", [node(model, "Tanh").output[0]], model.graph.node[-1].output)
    )


def not_a_number(model):
    weight(model, "net.head.weight").raw_data = np.full((1, 4, 1, 1), np.nan, "f").tobytes()


def text(model):
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"rm -rf"]))


def too_little_data(model):
    model.graph.initializer[0].dims[0] = 1 << 40


def a_later_onnx(model):
    model.opset_import[0].version = 9_999


def no_operators(model):
    del model.graph.node[:]


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (elsewhere, "in another file"),
        (elsewhere_in_a_constant, "in another file"),
        (custom_operator, "custom domain 'com.stranger'|expected ONNX's own"),
        (loop, "operator 'If'"),
        (subgraph, "a graph inside"),
        (function, "functions"),
        (padded_to_a_terabyte, "values in the network"),
        (joined_to_itself_forty_times, "values in the network"),
        (shape_of_a_million_numbers, "numbers 'twice_"),
        (size_that_depends_on_the_sound, "integers .loudness. that cannot be known"),
        (nothing_sliced, "not a network"),
        (two_outputs, "2 outputs"),
        (of_one_length, r"an input of shape \[any, 1, 256, 64\]"),
        (cut_short, r"returns shape"),
        (not_a_number, "returns NaN"),
        (text, "text"),
        (too_little_data, "not a network"),
        (a_later_onnx, "not a network"),
        (no_operators, "not a network"),
    ],
)
def test_graphs_that_do_more_than_compute_are_refused(model, tmp_path, attack, message):
    attack(model)
    assert re.search(message, refused(tmp_path / "m.onnx", model.SerializeToString()))


def test_what_is_no_onnx_file_is_refused(exported, tmp_path, monkeypatch):
    content = exported.read_bytes()
    for other in (b"", b"not a network", b"\x00" * 1_000, content[:-1_000], content[1_000:]):
        assert "not a network that this program exported" in refused(tmp_path / "m.onnx", other)
    (tmp_path / "folder.onnx").mkdir()
    for missing in ("folder.onnx", "nothing.onnx"):
        with pytest.raises(CheckpointError, match="expected an ONNX file"):
            Denoiser.from_checkpoint(tmp_path / missing)
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1 << 10)
    assert "over" in refused(tmp_path / "m.onnx", content)


def test_a_file_is_never_taken_for_another_format_than_the_one_checked(model, tmp_path):
    model.producer_name = "ORTM"  # at bytes 4 to 8: the mark of onnxruntime's own format
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert (tmp_path / "m.onnx").read_bytes()[4:8] == b"ORTM"
    assert Denoiser.from_checkpoint(tmp_path / "m.onnx").sample_rate == 16_000


def test_infinity_does_not_reach_the_ears(model, tmp_path):
    bounded = node(model, "Tanh")
    bounded.CopyFrom(helper.make_node("Exp", bounded.input, bounded.output))
    weight(model, "net.head.weight").raw_data = np.full((1, 4, 1, 1), 1e3, "f").tobytes()
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    magnitude = torch.rand(1, 1, 256, 40) * 2 - 1
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    assert np.isinf(session.run(None, {"features": magnitude.numpy()})[0]).any()
    enhanced = Denoiser.from_checkpoint(tmp_path / "m.onnx", device="cpu").enhance(noisy_voice(0.5, 16_000), 16_000)
    assert torch.isfinite(enhanced).all()


def test_damaged_files_are_refused_or_work(exported, tmp_path):
    content, accepted = exported.read_bytes(), 0
    for seed in range(60):
        rng = random.Random(seed)
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 5])):
            # most of the file are weights: half of the damage goes to the graph and the metadata around them
            position = rng.choice([rng.randrange(len(damaged)), rng.randrange(300), -1 - rng.randrange(4_000)])
            if rng.random() < 0.8:
                damaged[position] = rng.randrange(256)
            else:
                del damaged[position : position + rng.randrange(1, 30)]
        (tmp_path / "m.onnx").write_bytes(damaged)
        try:
            denoiser = Denoiser.from_checkpoint(tmp_path / "m.onnx", device="cpu")
            assert torch.isfinite(denoiser.enhance(torch.rand(900) - 0.5, 16_000)).all()
            accepted += 1
        except CheckpointError:
            continue
    assert 0 < accepted < 60
