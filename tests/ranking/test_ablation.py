"""Ablation: the gain of each change from one configuration."""

from denoiser.cli import rank
from records import record, write


def test_an_ablation_has_the_start_then_single_changes_then_combinations(tmp_path):
    for model, loss, seeds in (("unet6", "huber", 3), ("unet6", "l1", 3), ("unet8", "huber", 1), ("unet8", "l1", 1)):
        for seed in range(seeds):
            budget = 64.0 if (model, loss) == ("unet8", "l1") else 32.0
            write(tmp_path / f"{model}-{loss}-{seed}", record(model, loss, seed, batch_audio_seconds=budget))
    rank.main([f"runs={tmp_path}", "base=unet6-huber-0", f"out={tmp_path / 'docs/ablation.md'}"])
    rank.main([f"runs={tmp_path}", "base=unet6 huber", f"out={tmp_path}"])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["ablation.md"]
    text = (tmp_path / "ablation.md").read_text()
    assert (tmp_path / "docs/ablation.md").read_text() == text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    changes = ["model unet8", "loss l1", "model unet8, loss l1"]
    assert [row[1] for row in rows[2:6]] == ["**unet6 huber** (the start)", *changes]
    assert [row[2] for row in rows[2:6]] == ["3", "1", "3", "1"]
    assert "11.10 ± 0.10" in rows[2]
    # 20 steps: other budgets are seen.
    hours = rows[0].index("audio h")
    assert [row[hours] for row in rows[2:6]] == ["0.1778", "0.1778", "0.1778", "0.3556"]
    assert [row[0] for row in rows[9:12]] == changes
    assert rows[10][-1] == "+0.30 [+0.30, +0.30]"
    assert rows[-1] == [changes[2], "0", "`model=unet8` `loss=l1`"]
