"""Checkpoints and records that strangers made: refused before anything of them runs, or takes memory."""

from __future__ import annotations

import collections
import io
import json
import pickle
import resource
import stat
import zipfile
from pathlib import Path

import pytest
import records
import torch
from conftest import checkpoint_of

from denoiser import Denoiser, audio
from denoiser.checkpoint import load_checkpoint, write_weights
from denoiser.checkpoint_file import growth
from denoiser.errors import CheckpointError, ConfigError
from denoiser.inference import pipes
from denoiser.inference.options import Options
from denoiser.ranking import rank
from denoiser.spectral import Spectral

MODEL = {"name": "unet", "depth": 2, "width": 4}


class Call:
    """What a pickle runs when it is opened: any function with any arguments."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touch(path: str = "ran") -> None:
    Path(path).touch()


def packed(content, protocol: int = 2) -> bytes:
    """A checkpoint by another program: the same archive around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps(content, protocol))
        archive.writestr("m/version", "3\n")
    return buffer.getvalue()


@pytest.fixture
def whole():
    torch.manual_seed(0)
    return checkpoint_of(Denoiser.build(MODEL, {"peak": 3.0}), model=MODEL, spectral={"sample_rate": 16_000})


def refused(tmp_path: Path, content, match: str) -> None:
    """Refused in one line by each way in, with nothing run and less than 300 MB taken."""
    path = tmp_path / "m.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for way in (Denoiser.from_checkpoint, lambda p: write_weights(p, tmp_path / "out.ckpt")):
        if way is not Denoiser.from_checkpoint and "describes" in match:
            continue  # settings are copied as they are, and checked when something is built of them
        with pytest.raises(CheckpointError, match=match) as error:
            way(path)
        assert str(error.value).startswith(str(path))
        assert str(error.value).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10
    assert {file.name for file in tmp_path.iterdir()} <= {"m.ckpt", "out.ckpt"}


CODE = {
    "a function of the system": Call(__import__("os").system, "touch ran"),
    "eval": Call(eval, "__import__('pathlib').Path('ran').touch()"),
    "our own": Call(touch),
    "an import": Call(__import__, "antigravity"),
    "another load": Call(torch.load, "m.ckpt"),
    "memory": Call(bytearray, 1 << 30),
    "a subclass": collections.defaultdict(touch),
}


@pytest.mark.parametrize("kind", CODE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_refused_before_it_runs(tmp_path, monkeypatch, kind, protocol):
    monkeypatch.chdir(tmp_path)
    for content in (CODE[kind], {"hyper_parameters": CODE[kind]}, {"state_dict": {"a": [CODE[kind]]}}):
        refused(tmp_path, packed(content, protocol), r"holds code|damaged|no model")
    refused(tmp_path, pickle.dumps(CODE[kind]), "damaged")  # as old as torch's first format


@pytest.mark.parametrize(
    "named",
    [
        {"_target_": "os.system", "command": "touch ran"}, {"name": "os.system", "command": "touch ran"},
        {"name": {"_target_": "os.system"}}, {"name": "unet", "_target_": "os.system"},
        {"name": "denoiser.cli.demo.main"},
        {"name": "unet", "head": {"_target_": "os.system"}}, {"name": "unet", "head": {"name": "os.system"}},
        {"name": "unet", "head": "os.system"}, {"name": "/etc/passwd"}, {"name": "${oc.env:HOME}"}, {},
        {"name": "unet", "norm": "../../evil"}, {"name": "unet", "depth": "${oc.env:HOME}"},
    ],
)  # fmt: skip
def test_names_of_code_are_only_names(tmp_path, monkeypatch, whole, named):
    monkeypatch.chdir(tmp_path)
    whole["hyper_parameters"]["model"] = named
    refused(tmp_path, whole, "describes a model this version cannot build")


@pytest.mark.parametrize(
    "model",
    [
        {**MODEL, "width": 1 << 20}, {**MODEL, "width": 1 << 40}, {**MODEL, "depth": 10**9}, {**MODEL, "convs": 10**9},
        {**MODEL, "kernel": (1 << 31) - 1}, {**MODEL, "stem": 1 << 30}, {**MODEL, "max_width": 1 << 50, "depth": 16},
        {**MODEL, "bottleneck": "gru", "reach": 1 << 40}, {**MODEL, "bottleneck": "attention", "reach": 1 << 30},
        {"name": "crn", "hidden": 10**9}, {"name": "crn", "layers": 10**9}, {"name": "crn", "widths": [4] * 9000},
        {"name": "crn", "widths": [4, 10**9]}, {"name": "crn", "causal": False, "segment": 1 << 40},
        {"name": "dualpath", "hidden": 10**9}, {"name": "crn", "bins": 1 << 40}, {**MODEL, "gates": "no"},
        {**MODEL, "slope": float("nan")}, {**MODEL, "dropout": float("nan")}, {**MODEL, "inputs": 1 << 30},
    ],
)  # fmt: skip
def test_networks_of_a_billion_parameters_in_a_few_bytes_take_none(tmp_path, whole, model):
    whole["hyper_parameters"]["model"] = model
    refused(tmp_path, whole, "describes a model|do not fit")


@pytest.mark.parametrize(
    "spectral",
    [{"n_fft": 1 << 30}, {"n_fft": 16_001}, {"n_fft": 1 << 70}, {"hop": 1}, {"hop": 0}, {"n_fft": 510.5},
     {"sample_rate": 10**12}, {"sample_rate": 0}, {"power": float("nan")}, {"peak": -1.0}, {"peak": "1"},
     {"window": "os.system"}, {"power": None}],
)  # fmt: skip
def test_windows_are_of_a_second_at_most(tmp_path, whole, spectral):
    whole["hyper_parameters"]["spectral"] = {"sample_rate": 16_000, **spectral}
    if (1 << 70) in spectral.values():
        refused(tmp_path, whole, "more than 64 bits")
    else:
        refused(tmp_path, whole, "describes a model this version cannot build")
        with pytest.raises((ConfigError, TypeError)):
            Spectral(**whole["hyper_parameters"]["spectral"])


WEIGHTS = {
    "one number, a terabyte": torch.zeros(1).expand(1 << 20, 1 << 20),
    "sparse": torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), (1 << 30, 1 << 30)),
    "without memory": torch.empty(1 << 40, device="meta"),
    "quantised": torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
    "complex": torch.zeros(4, dtype=torch.complex64),
    "NaN": torch.tensor([1.0, float("nan")]),
    "infinite": torch.tensor(float("inf")),
    "a text": "os.system",
    "a tree": {"a": torch.zeros(1)},
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_are_plain_numbers_that_the_file_holds(tmp_path, whole, kind):
    for name in ("denoiser.net.head.weight", "denoiser.more"):
        content = {**whole, "state_dict": {**whole["state_dict"], name: WEIGHTS[kind]}}
        refused(tmp_path, content, "not a checkpoint of this program")


def test_settings_are_plain_and_few(tmp_path, whole):
    nested: list = []
    for _ in range(200):
        nested = [nested]
    for settings in (nested, [0] * 20_000, "x" * 20_000, torch.zeros(1 << 10), 1 << 70, {1: 2}, {torch.float32: 1}):
        content = {**whole, "hyper_parameters": {**whole["hyper_parameters"], "more": settings}}
        refused(tmp_path, content, "not a checkpoint of this program")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_packed_or_lie_are_refused(tmp_path, whole):
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    with zipfile.ZipFile(buffer) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    bomb, double, large = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in {**parts, "archive/data/99": bytes(200_000_000)}.items():
            archive.writestr(name, part)
    assert len(bomb.getvalue()) < 1_000_000
    with zipfile.ZipFile(double, "w") as archive:
        for name, part in [*parts.items(), *parts.items()]:
            archive.writestr(name, part)
    with zipfile.ZipFile(large, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part + bytes(9_000_000) if name.endswith("data.pkl") else part)
    for made, match in ((bomb, "packed"), (double, "damaged"), (large, "over 8 MB of values")):
        refused(tmp_path, made.getvalue(), match)


def test_a_network_of_few_weights_and_many_channels_is_run_in_shorter_blocks_or_not_at_all(tmp_path, monkeypatch):
    wide = {"name": "unet", "depth": 1, "convs": 1, "width": 600}
    torch.save(checkpoint_of(Denoiser.build(wide, {"peak": 3.0}), model=wide), tmp_path / "wide.ckpt")
    denoiser = Denoiser.from_checkpoint(tmp_path / "wide.ckpt", "cpu")
    assert denoiser.block_seconds < 4
    audio.write(tmp_path / "in.wav", torch.rand(1, 64_000) - 0.5, 16_000)
    lengths: list[int] = []
    net = denoiser.fast or denoiser.net
    forward = net.forward
    monkeypatch.setattr(net, "forward", lambda x, wanted: lengths.append(x.shape[-1]) or forward(x, wanted))
    denoiser.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    assert max(lengths) <= denoiser.block_seconds * 125 + 2 * denoiser.context(Options()) + 2
    with pytest.raises(ValueError, match="GB at once"):
        growth(Denoiser.build({**wide, "width": 5_000}, {}, device="meta").net, 256)
    assert growth(Denoiser.build({"name": "unet"}, {}, device="meta").net, 256) == 32


def test_what_overflows_inside_is_no_sound(tmp_path, whole):
    whole["state_dict"]["denoiser.spectral.peak"] = torch.tensor(3e38)
    torch.save(whole, tmp_path / "m.ckpt")
    with pytest.raises(Exception, match="NaN or infinity") as error:
        Denoiser.from_checkpoint(tmp_path / "m.ckpt", "cpu").enhance(torch.rand(2000) - 0.5, 16_000)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", [{"config": None}, {"config": [1]}, {"monitor": 7}, {"mode": None}])
def test_a_damaged_record_costs_only_itself(tmp_path, part):
    for index, more in enumerate(({}, part)):
        records.write(tmp_path / "runs" / str(index), {**records.record(seed=index), **more, "test": None})
    ranking = rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False)
    assert [run["folder"] for c in ranking.configurations for run in c.runs] == [str(tmp_path / "runs/0")]
    assert [run["status"] for run, _ in ranking.unranked] == ["damaged"]


def test_a_text_that_no_encoding_has_is_shown_escaped(tmp_path, capsys):
    records.write(
        tmp_path / "runs/one", {**records.record(), "choices": {"model": "\ud800"}, "overrides": ["x=\ud800"]}
    )
    records.write(tmp_path / "runs/two", {**records.record("unet6"), "name": "\ud800", "status": "failed"})
    rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False)
    rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False, base="1")
    assert r"\ud800" in (tmp_path / "out/ranking.md").read_text()


def test_files_that_never_end_are_no_texts(tmp_path):
    import os

    run = records.write(tmp_path / "runs/one", {**records.record(), "test": None})
    os.mkfifo(run / "scores.csv")
    (run / "split.json").symlink_to("/dev/zero")
    (tmp_path / "runs/two").mkdir()
    os.mkfifo(tmp_path / "runs/two/run.json")
    (tmp_path / "runs/three").mkdir()
    (tmp_path / "runs/three/run.json").write_text("[" * 100_000)
    ranking = rank.rank(tmp_path / "runs", tmp_path / "out", sounds=False)
    assert len(ranking.configurations) == 1
    assert {json.loads(json.dumps(run["status"])) for run, _ in ranking.unranked} == {"damaged"}


def test_temporary_files_are_private(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pipes._private() as folder:
        (folder / "talk").write_bytes(b"sound")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_training_is_what_it_was(tmp_path, whole):
    torch.save(whole, tmp_path / "m.ckpt")
    assert load_checkpoint(tmp_path / "m.ckpt")["hyper_parameters"] == whole["hyper_parameters"]
