"""The network as an ONNX file: the same sound, or no file."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MODEL, ROOT, run_command
from torch import nn
from untrained import build, noisy_voice

from denoiser import Denoiser, __version__, audio, onnx_file
from denoiser.cli import export as command
from denoiser.errors import CheckpointError, ConfigError, DenoiserError
from denoiser.export import export
from denoiser.spectral import Spectral

onnx = pytest.importorskip("onnx", reason='needs pip install "denoiser[export]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "denoiser[export]"')
pytest.importorskip("onnxscript", reason='needs pip install "denoiser[export]"')


@pytest.fixture
def model(exported):
    """The exported file, parsed, to be changed."""
    return onnx.load_model(exported)


def test_the_file_enhances_as_the_checkpoint_does(denoiser, exported):
    again = Denoiser.from_checkpoint(exported)
    assert again.sample_rate == 16_000
    for noisy, rate in (
        (torch.rand(1) - 0.5, 16_000),
        (torch.rand(3, 2, 1_000) - 0.5, 8_000),
        (noisy_voice(1.3, 44_100), 44_100),
        (noisy_voice(18.0, 16_000), 16_000),  # longer than a block
    ):
        assert (again.enhance(noisy, rate) - denoiser.enhance(noisy, rate)).abs().max() < 1e-4
    assert not again.enhance(torch.zeros(2, 8_000), 16_000).any()


def test_the_file_is_complete_for_someone_without_this_program(denoiser, exported, model):
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata == {
        "model": "unet", "denoiser_version": __version__, "sample_rate": "16000", "n_fft": "510", "hop": "128",
        "power": "0.3", "peak": "5.0", "stride": "4", "context": str(denoiser.net.context),
        "head": "noise", "limit": "1.0",
    }  # fmt: skip
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    for batch, frames in ((1, 1), (3, 37), (1, 64)):
        magnitude = torch.rand(batch, 1, 256, frames) * 2 - 1
        (noise,) = session.run(["output"], {"features": magnitude.numpy()})
        with torch.no_grad():
            assert np.abs(noise - denoiser.net(magnitude).tanh().numpy()).max() < 1e-4


def test_the_file_says_nothing_about_the_machine_it_was_made_on(exported):
    content = exported.read_bytes()
    for secret in (str(ROOT), sys.prefix, os.path.expanduser("~") + "/", ".py"):
        assert secret.encode() not in content


def test_every_setting_of_the_spectral_representation_travels():
    assert list(inspect.signature(Spectral).parameters) == list(onnx_file.SPECTRAL)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "batch", "upsampling": "nearest"},
        {"upsampling": "subpixel"},
        {
            "residual": True,
            "gates": True,
            "convolution": "separable",
            "time_levels": 0,
            "bottleneck": "gru",
            "reach": 2,
        },
        {"convolution": "grouped", "groups": 2, "bottleneck": "attention", "reach": 8},
    ],
    ids=str,
)
def test_every_variant_can_be_exported(tmp_path, changes):
    denoiser = build(**{"name": "unet", "depth": 2, "width": 2, "convs": 1, **changes})
    for layer in denoiser.modules():  # statistics that a training would have left
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    path, size, difference = export(denoiser, tmp_path / "m.onnx")
    assert size == path.stat().st_size
    assert 0 < difference < 1e-4


class Pointwise(nn.Module):
    """A scale, learnt; the smallest network there is."""

    stride, context = 1, 0

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, magnitude):
        return torch.tanh(self.scale * magnitude)


class Differs(Pointwise):
    def forward(self, magnitude):
        return torch.tanh((self.scale + (0.01 if torch.compiler.is_exporting() else 0)) * magnitude)


class Branches(Pointwise):
    def forward(self, magnitude):
        return magnitude if magnitude.mean() > 0 else -magnitude


class Forgets(Pointwise):
    context = 0  # though 8 frames to each side reach into a block

    def forward(self, magnitude):
        return torch.tanh(nn.functional.avg_pool2d(magnitude, (1, 17), 1, (0, 8)))


@pytest.mark.parametrize(
    ("net", "message"),
    [(Differs, "differs from"), (Branches, "torch cannot export Branches"), (Forgets, "blocks differ")],
)
def test_a_file_that_would_enhance_differently_is_not_written(tmp_path, net, message):
    (tmp_path / "m.onnx").write_text("an older one")
    denoiser = Denoiser(net(), Spectral(peak=5.0)).train()
    with pytest.raises(CheckpointError, match=message) as error:
        export(denoiser, tmp_path / "m.onnx")
    assert str(error.value).isprintable()
    assert denoiser.training  # only a copy was in evaluation
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert (tmp_path / "m.onnx").read_text() == "an older one"


def test_threads_may_share_one(exported):
    shared = Denoiser.from_checkpoint(exported, device="cpu")
    clips = [noisy_voice(0.5 + 0.1 * seed, 16_000, seed) for seed in range(8)]
    alone = [shared.enhance(clip, 16_000) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda clip: shared.enhance(clip, 16_000), clips))
    assert all((a - b).abs().max() < 1e-6 for a, b in zip(alone, together, strict=True))


def test_infer_takes_the_file_for_a_checkpoint(denoiser, exported, tmp_path):
    noisy = 0.1 * noisy_voice(0.5, 16_000)
    audio.write(tmp_path / "talk.wav", noisy, 16_000, subtype="FLOAT")
    result = run_command("infer.py", f"ckpt={exported}", "input=talk.wav", "device=cpu", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (audio.read(tmp_path / "talk_enhanced.wav")[0] - denoiser.enhance(noisy, 16_000)).abs().max() < 1e-4


# Mistakes.


def test_a_device_that_onnxruntime_cannot_use_is_refused(exported, monkeypatch):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime computes on CUDA")
    with pytest.raises(ConfigError, match="not there"):
        Denoiser.from_checkpoint(exported, device="cuda:99")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # a GPU that torch could use
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="computes on the CPU only; use device=cpu"):
        Denoiser.from_checkpoint(exported, device="cuda")
    assert Denoiser.from_checkpoint(exported, device="auto").spectral.window.device.type == "cpu"


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_one_line(denoiser, exported, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    advice = rf'{package}: pip install "denoiser\[export\]"'
    with pytest.raises(DenoiserError, match=advice):
        export(denoiser, tmp_path / "m.onnx")
    if package != "onnxscript":
        with pytest.raises(DenoiserError, match=advice):
            Denoiser.from_checkpoint(exported)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_beside_and_says_so_in_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    small = {"name": "unet", "depth": 1, "width": 2, "convs": 1}
    denoiser = build(**small)
    weights = {f"denoiser.{key}": value for key, value in denoiser.state_dict().items()}
    description = {"model": small, "spectral": {"sample_rate": 16_000}}
    name = "my [best], a=b.ckpt"
    torch.save({"hyper_parameters": description, "state_dict": weights}, name)
    command.main([f"ckpt={name}"])
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(
        r"my \[best\], a=b\.ckpt -> my \[best\], a=b\.onnx: 0\.0 MB, .* [0-9.]+e-\d\d of full .*\n", out
    )
    assert sorted(os.listdir()) == sorted([name, "my [best], a=b.onnx"])
    noisy = noisy_voice(0.5, 16_000)
    again = Denoiser.from_checkpoint("my [best], a=b.onnx")
    assert (again.enhance(noisy, 16_000) - denoiser.enhance(noisy, 16_000)).abs().max() < 1e-4
    os.rename(name, "small")
    command.main(["ckpt=./small", "out=mine.ckpt"])  # and not the weights of that name
    assert Path("mine.ckpt").stat().st_size < 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "ckpt missing"),
        (["ckpt="], "ckpt missing"),
        (["best.ckpt"], "best.ckpt: settings are key=value"),
        (["chpt=best.ckpt"], "no such setting; did you mean ckpt"),
        (["ckpt=nothing.ckpt"], "no such checkpoint"),
        (["ckpt=model.onnx"], "already"),
        (["ckpt=text.ckpt"], "not a checkpoint"),
    ],
)
def test_a_mistake_is_refused(exported, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("text.ckpt").write_text("text")
    shutil.copy(exported, "model.onnx")
    with pytest.raises(DenoiserError, match=message):
        command.main(arguments)


def test_a_target_that_cannot_be_written_is_refused(denoiser, tmp_path):
    (tmp_path / "file").touch()
    for target, message in (("m.pt", "ends in .onnx"), ("file/m.onnx", "cannot be written")):
        with pytest.raises(ConfigError, match=message):
            export(Denoiser(Pointwise(), Spectral(peak=5.0)), tmp_path / target)


def test_the_command_fails_with_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "denoiser", "export", "ckpt=nothing.ckpt"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "0"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: nothing.ckpt: no such checkpoint\n"


@pytest.mark.parametrize("name", ["crn", "dualpath"])
@pytest.mark.parametrize("head", ["complex", "phase"])
def test_a_recurrent_network_with_several_channels_can_be_exported(name, head, tmp_path):
    torch.manual_seed(0)
    model = {
        "name": name,
        "stem": 8,
        "widths": [4, 8],
        "hidden": 8,
        "causal": False,
        "segment": 8,
        "head": {"name": head},
    }
    denoiser = Denoiser.build(model, {"peak": 5.0}).eval()
    export(denoiser, tmp_path / "m.onnx")
    noisy = noisy_voice(0.7, 16_000)
    again = Denoiser.from_checkpoint(tmp_path / "m.onnx", "cpu")
    assert (again.enhance(noisy, 16_000) - denoiser.enhance(noisy, 16_000)).abs().max() < 1e-4


def test_a_causal_network_is_not_exported(tmp_path):
    denoiser = Denoiser.build({"name": "crn", "stem": 8, "widths": [4], "hidden": 8}, {"peak": 5.0}).eval()
    with pytest.raises(CheckpointError, match="remembers all that came before"):
        export(denoiser, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_eight_bits_are_a_quarter_of_the_size_and_sound_the_same(tmp_path):
    denoiser = Denoiser.from_checkpoint("small", "cpu")
    path, size, difference = export(denoiser, tmp_path / "m.onnx", int8=True)
    assert size < 0.3 * 4 * sum(p.numel() for p in denoiser.net.parameters())
    assert 1e-4 < difference < 0.1
    noisy = noisy_voice(3.0, 16_000)
    expected = denoiser.enhance(noisy, 16_000)
    again = Denoiser.from_checkpoint(path)
    whole = again.enhance(noisy, 16_000)
    assert (whole - expected).norm() < 0.05 * expected.norm()
    assert str(tmp_path).encode() not in path.read_bytes()
    assert not again.enhance(torch.zeros(1, 8_000), 16_000).any()


def test_a_filter_s_arguments_travel(tmp_path):
    denoiser = Denoiser.build({**MODEL, "head": {"name": "filter", "taps": 3, "lowest": 40}}, {"peak": 5.0}).eval()
    path, _, difference = export(denoiser, tmp_path / "m.onnx")
    again = Denoiser.from_checkpoint(path)
    assert (again.head.taps, again.head.lowest, again.head.reach) == (3, 40, 2)
    assert difference < 1e-4
    model = onnx.load_model(path)
    entry = next(entry for entry in model.metadata_props if entry.key == "taps")
    entry.value = "4"
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match="taps=4"):
        Denoiser.from_checkpoint(path)


def test_eight_bits_are_onnx_s(tmp_path):
    with pytest.raises(ConfigError, match="int8=true"):
        command.main(["ckpt=small", f"out={tmp_path}/m.ckpt", "int8=true"])
