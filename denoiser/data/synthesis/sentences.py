"""Sentences that the synthetic voices read. None of the test set is in the training set."""

from __future__ import annotations

from pathlib import Path

SENTENCES = {
    split: tuple(Path(__file__).with_name(f"sentences_{split}.txt").read_text(encoding="utf-8").splitlines())
    for split in ("train", "test")
}
