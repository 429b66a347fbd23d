"""Ablation: the gain of each change from one configuration."""

from pathlib import Path

import pytest

from denoiser.cli import rank
from records import record, write


@pytest.fixture
def runs(tmp_path) -> Path:
    """A start with three seeds, two single changes and both at once; better in this order."""
    for model, loss, seeds in (
        ("unet6", "huber", 3), ("unet6", "l1", 3), ("unet8", "huber", 1), ("unet8", "l1", 1),
    ):  # fmt: skip
        for seed in range(seeds):
            write(tmp_path / f"{model}-{loss}-{seed}", record(model, loss, seed, batch_audio_seconds=32.0))
    return tmp_path


def test_rows_are_the_start_then_single_changes_then_combinations(runs, tmp_path):
    rank.main([f"runs={runs}", "base=unet6-huber-0", f"out={tmp_path / 'docs/ablation.md'}"])
    text = (tmp_path / "docs/ablation.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    scores = rows[: next(i for i, row in enumerate(rows) if "minus the start" in row[0])]
    assert [row[0] for row in scores[1:]] == [
        "| **unet6 huber** (the start)", "| model unet8", "| loss l1", "| model unet8, loss l1",
    ]  # fmt: skip
    assert [row[1] for row in scores[1:]] == ["3", "1", "3", "1"]
    assert "11.10 ± 0.10" in scores[1][-1]
    assert "every run saw 0.18 h of audio." in text  # 20 steps


def test_differences_are_over_files_and_common_overrides_are_named_once(runs, tmp_path):
    rank.main([f"runs={runs}", "base=unet6 huber", f"out={tmp_path}"])
    text = (tmp_path / "ablation.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| loss l1 | +"))
    assert "+0.30 [+0.30, +0.30]" in row
    assert "| model unet8, loss l1 | 0 | `model=unet8` `loss=l1` |" in text
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["ablation.md"]


def test_unequal_budgets_are_pointed_out(runs, tmp_path):
    write(runs / "longer", record("unet10", "l1", batch_audio_seconds=64.0))
    rank.main([f"runs={runs}", "base=unet6 huber", f"out={tmp_path}"])
    assert "**not the same for all**: the runs saw 0.18 or 0.36 h" in (tmp_path / "ablation.md").read_text()
