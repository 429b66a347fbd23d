"""The model as an ONNX file: the same sound, also without PyTorch, or no file."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import ROOT, checkpoint_of
from denoiser import Denoiser, __version__, audio
from denoiser.cli import export as command
from denoiser.errors import CheckpointError, ConfigError, DenoiserError
from denoiser.export.onnx import export
from denoiser.inference.exported import ExportedFrames, open_step
from denoiser.inference.frames import Frames
from denoiser.inference.level import RunningOffset
from denoiser.inference.options import Options
from denoiser.spectral import Spectral
from untrained import noisy_voice

onnx = pytest.importorskip("onnx", reason='needs pip install "denoiser[export]"')
onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "denoiser[export]"')
pytest.importorskip("onnxscript", reason='needs pip install "denoiser[export]"')

UNET = {"name": "unet", "depth": 2, "width": 2, "convs": 1}
RECURRENT = {"stem": 8, "widths": [4], "hidden": 4}
BANDS = {"peak": 5.0, "level_seconds": 0.2, "sample_rate": 48_000, "n_fft": 1530, "hop": 765, "bands": 32}
DOCUMENT = (ROOT / "docs/inference.md").read_text()


def untrained(model: dict, spectral: dict) -> Denoiser:
    torch.manual_seed(0)
    denoiser = Denoiser.build(model, spectral).eval()
    for layer in denoiser.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.5, 0.5)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return denoiser


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    layers = {"norm": "batch", "upsampling": "nearest", "residual": True, "bottleneck": "gru", "reach": 2}
    return untrained(
        {**UNET, **layers, "head": {"name": "filter", "taps": 3}}, {**BANDS, "two_levels": True, "shifts": 2}
    )


@pytest.fixture(scope="module")
def exported(denoiser, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    denoiser.block_seconds = 1.0
    export(denoiser, path)
    return path


def changing_voice(seconds: float, rate: int, channels: int = 1) -> torch.Tensor:
    """Return ``[C, N]``: a voice in noise, soft in the middle, with an offset."""
    sound = noisy_voice(seconds, rate, channels=channels)
    third = sound.shape[-1] // 3
    sound[:, third : 2 * third] *= 0.03
    return sound + 0.01


def facts_of(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load_model(path).metadata_props}


def test_the_file_says_all_that_is_needed_without_this_program_and_nothing_about_this_machine(exported):
    facts = facts_of(exported)
    block, context = int(facts.pop("block")), int(facts.pop("context"))
    assert facts == {
        "model": "unet", "head": "filter", "denoiser_version": __version__, "sample_rate": "48000", "n_fft": "1530",
        "hop": "765", "level_seconds": "0.2", "edge": "edge",
    }  # fmt: skip
    assert 0.9 * 48_000 < block < 1.1 * 48_000
    # The level alone depends on a second: 0.2 s, 0.8 s to judge the loudness of a moment, a tenth of these.
    assert context > 48_000
    assert block % 765 == context % 765 == 0
    model = onnx.load_model(exported)
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    for secret in (str(ROOT), sys.prefix, os.path.expanduser("~") + "/", ".py"):
        assert secret.encode() not in exported.read_bytes()


@pytest.mark.parametrize("samples", [196_800, 256 * 765 + 195])
def test_the_program_in_the_manual_gives_the_same_sound_without_torch(denoiser, exported, here, samples):
    (program,) = re.findall(r"^```python\n(\"\"\"Enhance a recording with .*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(program.splitlines()) < 50
    Path("enhance.py").write_text(program)
    noisy = changing_voice(4.2, 48_000, channels=2)[:, :samples]
    audio.write("noisy.wav", noisy, 48_000, subtype="FLOAT")
    forbidden = "import sys; sys.modules['torch'] = sys.modules['denoiser'] = None; import enhance"
    call = f"{forbidden}; enhance.main(*sys.argv[1:])"
    subprocess.run([sys.executable, "-c", call, exported, "noisy.wav", "clean.wav"], check=True)
    clean, rate = audio.read("clean.wav")
    assert rate == 48_000
    assert (clean - denoiser.enhance(noisy, 48_000)).abs().max() < 1e-4
    assert (clean - noisy).abs().max() > 1e-2
    audio.write("other.wav", noisy, 44_100)
    refused = subprocess.run(
        [sys.executable, "-c", call, exported, "other.wav", "x.wav"], capture_output=True, text=True
    )
    assert refused.stderr == "other.wav: 44100 Hz; this model enhances recordings at 48000 Hz\n"


@pytest.mark.parametrize(
    ("model", "spectral", "rate"),
    [
        # Recordings of 16 kHz, in which the bands are silent.
        ({**UNET, "convolution": "grouped", "groups": 2, "gates": True, "bottleneck": "attention", "reach": 8,
          "upsampling": "subpixel", "stem": 2}, BANDS, 16_000),
        ({**RECURRENT, "name": "crn", "causal": False, "segment": 2, "head": {"name": "complex"}},
         {"peak": 5.0}, None),
    ],
    ids=["attention", "crn"],
)  # fmt: skip
def test_every_kind_of_network_can_be_exported(tmp_path, model, spectral, rate):
    assert 0 < export(untrained(model, spectral), tmp_path / "m.onnx", rate) < 1e-4
    facts = facts_of(tmp_path / "m.onnx")
    assert (facts["head"], facts["sample_rate"]) == (model.get("head", {"name": "noise"})["name"], "16000")
    assert facts["edge"] == ("edge" if rate else "constant")


def test_a_causal_network_is_given_a_hop_and_its_state(here):
    denoiser = untrained({**RECURRENT, "name": "crn", "head": {"name": "filter", "taps": 3}}, BANDS)
    assert export(denoiser, "live.onnx") < 1e-4
    facts = facts_of(Path("live.onnx"))
    rate, hop, delay = (int(facts[name]) for name in ("sample_rate", "hop", "delay"))
    noisy = changing_voice(1.0, rate)
    # Before the first sample and after the last lies silence, as in a live stream.
    noisy = torch.nn.functional.pad(noisy, (4 * delay, 4 * delay))[:, : noisy.shape[-1] // hop * hop]
    (lines,) = re.findall(r"^```python\n(session = .*?live\.onnx.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    parts: list[np.ndarray] = []
    given = {
        "np": np,
        "onnxruntime": onnxruntime,
        "parts": parts,
        "hops": np.split((noisy - RunningOffset()(noisy)).numpy(), noisy.shape[-1] // hop, -1),
    }
    exec(lines + "    parts.append(enhanced)", given)
    enhanced = torch.from_numpy(np.concatenate(parts, axis=-1))[:, delay:]
    stream = denoiser.stream(rate)
    expected = torch.cat([stream.process(noisy), stream.flush()], dim=-1)[:, : enhanced.shape[-1]]
    assert (enhanced - expected).abs().max() < 1e-4
    assert (enhanced - noisy[:, : enhanced.shape[-1]]).abs().max() > 1e-2


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Denoiser:
    """A causal model beside its exported step."""
    shifted = {**BANDS, "shifts": 2}  # of which the file has one
    denoiser = untrained({**RECURRENT, "name": "crn", "head": {"name": "filter", "taps": 3}}, shifted)
    path = tmp_path_factory.mktemp("live") / "live.onnx"
    export(denoiser, path)
    denoiser.exported = path
    return denoiser


@pytest.mark.parametrize(("shifts", "size"), [(1, 480), (1, 777), (1, 90_000), (2, 777)])
def test_a_stream_takes_the_exported_step_and_its_blocks_equal_the_whole(live, shifts, size):
    noisy, options = changing_voice(1.7, 48_000, channels=2), Options(shifts=shifts)
    stream = live.stream(48_000, options=options)
    assert all(isinstance(core, ExportedFrames) for core in (stream.core.cores if shifts > 1 else [stream.core]))
    for _ in range(2):
        parts = [stream.process(part) for part in noisy.split(size, dim=-1)]
        enhanced = torch.cat([*parts, stream.flush()], dim=-1)
        assert enhanced.shape == noisy.shape
        assert (enhanced - live.enhance(noisy, 48_000, options)).abs().max() < 1e-4
        stream.reset()


def test_new_weights_no_longer_use_the_file_of_those_before():
    live = Denoiser.from_checkpoint("live", "cpu")
    assert isinstance(live.stream(48_000, options=Options(shifts=1)).core, ExportedFrames)
    live.load_state_dict(live.state_dict())
    assert not isinstance(live.stream(48_000, options=Options(shifts=1)).core, ExportedFrames)


def test_a_stream_in_onnxruntime_can_be_copied(live):
    noisy = changing_voice(1.0, 48_000)
    stream = live.stream(48_000)
    stream.process(noisy)
    other = copy.deepcopy(stream)
    assert torch.equal(other.process(noisy), stream.process(noisy))


def test_a_file_that_was_exported_again_is_read_again(live, tmp_path):
    path = tmp_path / "live.onnx"
    path.write_bytes(live.exported.read_bytes())
    first = open_step(path)
    assert open_step(path) is first
    os.utime(path, ns=(1, 1))
    assert open_step(path) is not first
    path.unlink()
    with pytest.raises(ConfigError, match=r"live\.onnx: cannot be read \(No such file"):
        open_step(path)


@pytest.mark.parametrize("samples", [1, 764, 765, 766, 1530])
def test_a_short_sound_through_the_exported_step_keeps_its_length(live, samples):
    noisy = changing_voice(1.0, 48_000)[:, :samples]
    stream = live.stream(48_000)
    enhanced = torch.cat([stream.process(noisy), stream.flush()], dim=-1)
    assert enhanced.shape == noisy.shape
    assert (enhanced - live.enhance(noisy, 48_000)).abs().max() < 1e-4


@pytest.mark.parametrize(("rate", "limit"), [(48_000, 12), (96_000, None), (16_000, None)])
def test_a_stream_that_the_exported_step_does_not_serve_runs_in_torch(live, rate, limit):
    stream = live.stream(rate, options=Options(max_attenuation_db=limit, shifts=1))
    assert isinstance(stream.core, Frames)
    assert stream.process(changing_voice(1.0, rate)).shape[-1] > 0.9 * rate


def test_a_stream_in_bfloat16_runs_in_torch(live, monkeypatch):
    monkeypatch.setattr(live, "precision", "bf16")
    assert isinstance(live.stream(48_000, options=Options(shifts=1)).core, Frames)


class Differs(nn.Module):
    stride, context, causal = 1, 0, True

    def forward(self, magnitude, memory):
        return magnitude * (0.31 if torch.compiler.is_exporting() else 0.3)


class Branches(nn.Module):
    stride, context = 1, 0

    def forward(self, magnitude):
        return magnitude if magnitude.mean() > 0 else -magnitude


@pytest.mark.parametrize(
    ("net", "message"), [(Differs(), "would differ"), (Branches(), "torch cannot export Branches")]
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


@pytest.mark.parametrize(
    ("target", "rate", "message"),
    [
        ("m.pt", None, "ends in .onnx"),
        ("file/m.onnx", None, "cannot be written"),
        ("m.onnx", 44_100, "rate=44100: this model works at 16000 or 48000 Hz"),
    ],
)
def test_a_target_that_cannot_be_written_and_a_rate_that_cannot_be_are_refused(denoiser, here, target, rate, message):
    Path("file").touch()
    with pytest.raises(ConfigError, match=message):
        export(denoiser, target, rate)


def test_the_command_writes_into_the_current_folder_and_prints_one_line(here, capfd):
    model = {**RECURRENT, "name": "dualpath", "head": {"name": "phase"}}
    name = "my [best], a=b.ckpt"
    torch.save(checkpoint_of(untrained(model, {"peak": 5.0}), model=model), name)
    command.main([f"ckpt={name}"])
    out, err = capfd.readouterr()
    assert err == ""
    assert re.fullmatch(r"my \[best\], a=b\.ckpt -> my \[best\], a=b\.onnx: 0\.\d MB, its sound .* [0-9.]+e-.*\n", out)
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
        (["ckpt=small", "rate=fast"], "rate=fast: expected a whole number"),
        (["ckpt=small", "rate=16000", "out=x.ckpt"], "rate=16000: only for ONNX files"),
        (["ckpt=small", "rate=48000"], "rate=48000: this model works at 16000 Hz"),
    ],
)
def test_a_mistake_on_the_command_line_is_refused_in_one_line(here, arguments, message):
    Path("text.ckpt").write_text("text")
    with pytest.raises(DenoiserError, match=message):
        command.main(arguments)
