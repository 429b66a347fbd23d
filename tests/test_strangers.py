"""Checkpoints made by strangers: refused in one line, before anything in them runs or takes memory."""

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from conftest import checkpoint_of
from denoiser import Denoiser, audio, models
from denoiser.checkpoint import write_weights
from denoiser.errors import CheckpointError
from denoiser.inference.options import Options
from loopback import archive_of

MODEL = {"name": "unet", "depth": 2, "width": 4}
CLEAR_REFS = Path("/proc/self/clear_refs")  # Linux resets the peak of the memory in use when 5 is written to it


class Call:
    """A pickle that calls a function when it is opened."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touch(path: str = "ran") -> None:
    Path(path).touch()


@pytest.fixture
def whole():
    torch.manual_seed(0)
    return checkpoint_of(Denoiser.build(MODEL, {"peak": 3.0}), model=MODEL, spectral={"sample_rate": 16_000})


def refused(tmp_path: Path, content, match: str) -> None:
    """Check that both ways to open a checkpoint refuse it in one line, run nothing and take less than 300 MB."""
    path = tmp_path / "m.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    ways = [Denoiser.from_checkpoint]
    if "describes" not in match:
        # Settings are copied as they are, and checked when something is built of them.
        ways.append(lambda path: write_weights(path, tmp_path / "out.ckpt"))
    for way in ways:
        if CLEAR_REFS.exists():
            CLEAR_REFS.write_text("5")
            before = memory("VmRSS")
        with pytest.raises(CheckpointError, match=match) as error:
            way(path)
        assert str(error.value).startswith(str(path))
        assert str(error.value).isprintable()
        if CLEAR_REFS.exists():
            assert memory("VmHWM") - before < 300 << 10
    assert {file.name for file in tmp_path.iterdir()} <= {"m.ckpt", "out.ckpt"}


def memory(key: str) -> int:
    """Return a line of this process's account of memory, in kB: ``VmRSS`` is in use now, ``VmHWM`` was at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


CODE = {
    "a function of the system": Call(os.system, "touch ran"),
    "our own": Call(touch),
    "memory": Call(bytearray, 1 << 30),
    "a subclass": collections.defaultdict(touch),
}


@pytest.mark.parametrize("kind", CODE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_refused_before_it_runs(tmp_path, monkeypatch, kind, protocol):
    monkeypatch.chdir(tmp_path)
    for content in (CODE[kind], {"hyper_parameters": CODE[kind]}, {"state_dict": {"a": [CODE[kind]]}}):
        # As torch.save packs it.
        packed = archive_of([("m/data.pkl", pickle.dumps(content, protocol)), ("m/version", b"3\n")])
        refused(tmp_path, packed, r"holds code|damaged|no model")
    refused(tmp_path, pickle.dumps(CODE[kind]), "damaged")  # as old as torch's first format


@pytest.mark.parametrize(
    "model",
    [
        {"_target_": "os.system", "command": "touch ran"}, {"name": "os.system", "command": "touch ran"},
        {"name": "unet", "_target_": "os.system"}, {"name": "denoiser.cli.demo.main"}, {},
        {"name": "unet", "head": {"_target_": "os.system"}}, {"name": "unet", "head": {"name": "os.system"}},
        {"name": "unet", "norm": "../../evil"}, {"name": "unet", "depth": "${oc.env:HOME}"},
        {**MODEL, "width": 1 << 40}, {**MODEL, "depth": 10**9}, {**MODEL, "convs": 10**9},
        {**MODEL, "kernel": (1 << 31) - 1}, {**MODEL, "stem": 1 << 30}, {**MODEL, "max_width": 1 << 50, "depth": 16},
        {**MODEL, "bottleneck": "gru", "reach": 1 << 40}, {**MODEL, "bottleneck": "attention", "reach": 1 << 30},
        {"name": "crn", "hidden": 10**9}, {"name": "crn", "layers": 10**9}, {"name": "crn", "widths": [4] * 9000},
        {"name": "crn", "causal": False, "segment": 1 << 40}, {"name": "dualpath", "hidden": 10**9},
        {"name": "crn", "bins": 1 << 40}, {**MODEL, "gates": "no"}, {**MODEL, "slope": float("nan")},
    ],
)  # fmt: skip
def test_names_of_code_are_not_imported_and_enormous_networks_take_no_memory(tmp_path, monkeypatch, whole, model):
    monkeypatch.chdir(tmp_path)
    whole["hyper_parameters"]["model"] = model
    refused(tmp_path, whole, "describes a model|do not fit")


@pytest.mark.parametrize(
    "spectral",
    [{"n_fft": 1 << 30}, {"n_fft": 510.5}, {"hop": 0}, {"sample_rate": 10**12}, {"power": float("nan")},
     {"peak": -1.0}, {"peak": "1"}, {"window": "os.system"}],
)  # fmt: skip
def test_spectral_settings_that_no_network_has_are_refused(tmp_path, whole, spectral):
    whole["hyper_parameters"]["spectral"] = {"sample_rate": 16_000, **spectral}
    refused(tmp_path, whole, "describes a model this version cannot build")


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
def test_weights_that_are_not_finite_tensors_of_the_size_of_the_file_are_refused(tmp_path, whole, kind):
    for name in ("denoiser.net.head.weight", "denoiser.more"):
        content = {**whole, "state_dict": {**whole["state_dict"], name: WEIGHTS[kind]}}
        refused(tmp_path, content, "not a checkpoint of this program")


def nested(depth: int) -> list:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    "setting",
    [nested(200), [0] * 20_000, [[[0] * 300] * 300] * 300, torch.zeros(1 << 10), 1 << 70, {1: 2}, {torch.float32: 1}],
    ids=["deep", "many", "the same many times over", "tensor", "long number", "number as name", "dtype as name"],
)
def test_settings_are_plain_and_few(tmp_path, whole, setting):
    whole["hyper_parameters"]["more"] = setting
    refused(tmp_path, whole, "not a checkpoint of this program")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_are_packed_or_lie_are_refused(tmp_path, whole):
    buffer = io.BytesIO()
    torch.save(whole, buffer)
    with zipfile.ZipFile(buffer) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    bomb = archive_of([*parts, ("archive/data/99", bytes(200_000_000))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1_000_000
    refused(tmp_path, bomb, "packed by another program")
    refused(tmp_path, archive_of([*parts, *parts]), "damaged")
    large = [(name, part + bytes(9_000_000) if name.endswith("data.pkl") else part) for name, part in parts]
    refused(tmp_path, archive_of(large), "damaged")


def test_a_network_of_few_weights_and_many_channels_runs_in_shorter_blocks(tmp_path, monkeypatch):
    wide = {"name": "unet", "depth": 1, "convs": 1, "width": 600}
    torch.save(checkpoint_of(Denoiser.build(wide, {"peak": 3.0}), model=wide), tmp_path / "wide.ckpt")
    denoiser = Denoiser.from_checkpoint(tmp_path / "wide.ckpt", "cpu")
    assert denoiser.block_seconds < 4
    audio.write(tmp_path / "in.wav", torch.rand(1, 64_000) - 0.5, 16_000)
    lengths: list[int] = []
    forward = denoiser.net.forward
    monkeypatch.setattr(denoiser.net, "forward", lambda x, wanted: lengths.append(x.shape[-1]) or forward(x, wanted))
    denoiser.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    # Six frames more for the cross-fade, and for rounding up.
    assert max(lengths) <= denoiser.block_seconds * 125 + 2 * denoiser.context(Options()) + 6
    with pytest.raises(ValueError, match="GB at once"):
        models.growth(Denoiser.build({**wide, "width": 5_000}, {}, device="meta").net, 256)
    assert models.growth(Denoiser.build({"name": "unet"}, {}, device="meta").net, 256) == 32


def test_a_network_whose_numbers_overflow_is_an_error_and_not_a_sound(tmp_path, whole):
    whole["state_dict"]["denoiser.spectral.peak"] = torch.tensor(3e38)
    torch.save(whole, tmp_path / "m.ckpt")
    with pytest.raises(Exception, match="NaN or infinity") as error:
        Denoiser.from_checkpoint(tmp_path / "m.ckpt", "cpu").enhance(torch.rand(2000) - 0.5, 16_000)
    assert "\n" not in str(error.value)


def test_a_message_is_one_printable_line_for_any_text_in_a_file():
    text = str(CheckpointError("a\nb\x1b[31m\u2028\udcff" + "x" * 10_000))
    assert text.startswith(r"a\nb\x1b[31m\u2028\udcff")
    assert text.isprintable()
    assert len(text) < 2100
