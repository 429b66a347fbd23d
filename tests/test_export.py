"""The network as an ONNX file: the same output, or no file."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ROOT, checkpoint_of
from denoiser import Denoiser, __version__, models
from denoiser.cli import export as command
from denoiser.errors import CheckpointError, ConfigError, DenoiserError
from denoiser.export import export
from denoiser.spectral import Spectral
from untrained import build

onnx = pytest.importorskip("onnx", reason='needs pip install "denoiser[export]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "denoiser[export]"')
pytest.importorskip("onnxscript", reason='needs pip install "denoiser[export]"')

UNET = {"name": "unet", "depth": 2, "width": 2, "convs": 1}
RECURRENT = {"stem": 8, "widths": [4], "hidden": 4, "causal": False, "segment": 2}


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return build(**UNET)


@pytest.fixture(scope="module")
def exported(denoiser, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export(denoiser, path)
    return path


def test_the_file_says_all_that_is_needed_without_this_program_and_nothing_about_this_machine(denoiser, exported):
    model = onnx.load_model(exported)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "model": "unet", "denoiser_version": __version__, "sample_rate": "16000", "n_fft": "510", "hop": "128",
        "power": "0.3", "level_seconds": "0.0", "peak": "5.0", "stride": "2", "context": str(denoiser.net.context),
        "head": "noise", "bands": "0", "bands_from": "8000",
    }  # fmt: skip
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for batch, frames in ((1, 1), (3, 37), (1, 64)):
        magnitude = torch.rand(batch, 1, 256, frames) * 2 - 1
        (noise,) = session.run(["output"], {"features": magnitude.numpy()})
        with torch.no_grad():
            assert np.abs(noise - denoiser.net(magnitude).tanh().numpy()).max() < 1e-4
    for secret in (str(ROOT), sys.prefix, os.path.expanduser("~") + "/", ".py"):
        assert secret.encode() not in exported.read_bytes()


@pytest.mark.parametrize(
    "model",
    [
        {**UNET, "norm": "batch", "upsampling": "nearest", "residual": True, "bottleneck": "gru", "reach": 2},
        {**UNET, "convolution": "grouped", "groups": 2, "gates": True, "bottleneck": "attention", "reach": 8,
         "upsampling": "subpixel", "stem": 2, "head": {"name": "filter", "taps": 3}},
        {**RECURRENT, "name": "crn", "widths": [4, 8], "head": {"name": "complex"}},
        {**RECURRENT, "name": "dualpath", "head": {"name": "phase"}},
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_network_can_be_exported(tmp_path, model):
    torch.manual_seed(0)
    denoiser = Denoiser.build(model, {"peak": 5.0}).eval()
    for layer in denoiser.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    assert 0 < export(denoiser, tmp_path / "m.onnx") < 1e-4
    metadata = {entry.key: entry.value for entry in onnx.load_model(tmp_path / "m.onnx").metadata_props}
    head = model.get("head", {"name": "noise"})
    assert metadata["head"] == head["name"]
    assert metadata.get("taps") == ("3" if "taps" in head else None)


class Differs(nn.Module):
    stride, context = 1, 0

    def forward(self, magnitude):
        return magnitude * (0.31 if torch.compiler.is_exporting() else 0.3)


class Branches(nn.Module):
    stride, context = 1, 0

    def forward(self, magnitude):
        return magnitude if magnitude.mean() > 0 else -magnitude


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Differs(), "would differ"),
        (Branches(), "torch cannot export Branches"),
        (models.build("crn", stem=8, widths=[4], hidden=8), "keeps its state from frame to frame"),
    ],
)
def test_no_file_is_written_of_a_network_that_cannot_be_exported(tmp_path, net, message):
    (tmp_path / "m.onnx").write_text("an older one")
    with pytest.raises(CheckpointError, match=message) as error:
        export(Denoiser(net, Spectral(peak=5.0)), tmp_path / "m.onnx")
    assert str(error.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "an older one"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_in_one_line(denoiser, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DenoiserError, match=rf'{package}: pip install "denoiser\[export\]"'):
        export(denoiser, tmp_path / "m.onnx")


def test_a_target_that_cannot_be_written_is_refused(denoiser, tmp_path):
    (tmp_path / "file").touch()
    for target, message in (("m.pt", "ends in .onnx"), ("file/m.onnx", "cannot be written")):
        with pytest.raises(ConfigError, match=message):
            export(denoiser, tmp_path / target)


def test_the_command_writes_into_the_current_folder_and_prints_one_line(denoiser, here, capfd):
    name = "my [best], a=b.ckpt"
    torch.save(checkpoint_of(denoiser, model=UNET), name)
    command.main([f"ckpt={name}"])
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(r"my \[best\], a=b\.ckpt -> my \[best\], a=b\.onnx: 0\.\d MB, its output .* [0-9.]+e-.*\n", out)
    assert sorted(os.listdir()) == sorted([name, "my [best], a=b.onnx"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "ckpt missing"),
        (["best.ckpt"], "best.ckpt: no such setting.*Settings are key=value"),
        (["chpt=best.ckpt"], "no such setting; did you mean ckpt"),
        (["ckpt=nothing.ckpt"], "no such checkpoint"),
        (["ckpt=text.ckpt"], "not a checkpoint"),
        (["ckpt=small", "half=true"], "half=true: only for checkpoints"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused_in_one_line(here, arguments, message):
    Path("text.ckpt").write_text("text")
    with pytest.raises(DenoiserError, match=message):
        command.main(arguments)
