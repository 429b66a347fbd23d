"""Checkpoints: weights alone, half the size, shipped names, and the precision that is chosen."""

import pytest
import torch

from conftest import checkpoint_of, make_noise, make_voice
from denoiser import Denoiser, checkpoint
from denoiser.cli import export
from denoiser.errors import CheckpointError

MODEL = {"name": "crn", "stem": 4, "widths": [4, 8], "hidden": 8, "head": {"name": "complex", "limit": 1.1}}


@pytest.fixture
def trained(tmp_path):
    torch.manual_seed(0)
    denoiser = Denoiser.build(MODEL, {"peak": 3.0}).eval()
    content = checkpoint_of(denoiser, model=MODEL, seed=7)
    content["optimizer_states"] = [torch.zeros(100_000)]
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    torch.save(content, tmp_path / "run/checkpoints/best.ckpt")
    return tmp_path / "run"


def test_the_weights_alone_sound_the_same_also_in_half_the_size(trained, tmp_path, capsys):
    paths = [trained / "checkpoints/best.ckpt", tmp_path / "false.ckpt", tmp_path / "true.ckpt"]
    for half in ("false", "true"):
        export.main([f"ckpt={trained}", f"out={tmp_path}/{half}.ckpt", f"half={half}"])
    assert "its weights alone" in capsys.readouterr().out
    assert torch.load(paths[1], weights_only=True)["hyper_parameters"]["seed"] == 7
    sizes = [path.stat().st_size for path in paths]
    assert sizes[1] < sizes[0] - 350_000
    assert sizes[2] < 0.7 * sizes[1]

    noisy = make_voice(0.5, 16_000) + make_noise(0.5, 16_000)
    whole, alone, half = (Denoiser.from_checkpoint(path, "cpu") for path in paths)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
    assert torch.equal(alone.enhance(noisy, 16_000), whole.enhance(noisy, 16_000))
    assert torch.allclose(half.enhance(noisy, 16_000), whole.enhance(noisy, 16_000), atol=2e-3)


def test_shipped_weights_are_found_by_name_whatever_the_current_folder_holds(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    checkpoint.write_weights(trained, tmp_path / "weights/small.ckpt")
    (tmp_path / "small").write_text("not a checkpoint")
    assert Denoiser.from_checkpoint("small", "cpu").head.limit == 1.1
    with pytest.raises(CheckpointError, match="small: not a checkpoint"):
        Denoiser.from_checkpoint("./small", "cpu")


def test_a_run_without_a_best_checkpoint_names_its_last(tmp_path):
    with pytest.raises(CheckpointError, match=r"a folder without checkpoints/best\.ckpt in it$"):
        checkpoint.load_checkpoint(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    with pytest.raises(CheckpointError, match=r"best\.ckpt in it; there is .*checkpoints/last\.ckpt$"):
        checkpoint.load_checkpoint(tmp_path)


def test_an_onnx_file_is_no_checkpoint(tmp_path):
    (tmp_path / "net.onnx").touch()
    with pytest.raises(CheckpointError, match=r"net\.onnx: .* give the checkpoint it was exported from"):
        checkpoint.load_checkpoint(tmp_path / "net.onnx")


@pytest.mark.parametrize(
    ("head", "causal", "expected"),
    [("noise", False, "32"), ("complex", False, "32"), ("mask", False, "bf16"), ("mask", True, "32")],
)
def test_bfloat16_is_chosen_for_masks_that_are_made_in_blocks(tmp_path, monkeypatch, head, causal, expected):
    """Subtracted noise loses more by it than a mask, and for a stream of single frames it is slower."""
    monkeypatch.setattr("denoiser.inference.denoiser.cpu_has_bf16", lambda: True)
    model = {"name": "crn", "stem": 4, "widths": [4, 8], "hidden": 8, "causal": causal, "head": {"name": head}}
    torch.save(checkpoint_of(Denoiser.build(model, {"peak": 3.0}), model=model), tmp_path / "m.ckpt")
    assert Denoiser.from_checkpoint(tmp_path / "m.ckpt", "cpu").precision == expected
    assert Denoiser.from_checkpoint(tmp_path / "m.ckpt", "cpu", "32").precision == "32"
