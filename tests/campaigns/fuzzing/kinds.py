"""Kinds of input, and the share of a campaign that each has."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.campaigns.fuzzing import checkpoints, sounds, texts


class Kind(NamedTuple):
    """Kind of input: ``make(folder)`` returns a function that tries one; ``share`` is its part of all inputs."""

    share: float
    make: Callable[[Path], Callable[[random.Random, Path], None]]


KINDS = {
    "wav": Kind(3, sounds.file("wav")),
    **{name: Kind(1, sounds.file(name)) for name in sounds.FORMATS if name != "wav"},
    "others": Kind(1, sounds.file("others")),
    "pipe": Kind(1, sounds.pipe),
    "infer": Kind(0.1, sounds.command),
    "ckpt-bytes": Kind(1.5, checkpoints.checkpoint_bytes),
    "ckpt-pickle": Kind(1.5, checkpoints.checkpoint_pickle),
    "ckpt-tree": Kind(2, checkpoints.checkpoint_tree),
    "ckpt-load": Kind(1, checkpoints.training),
    "log": Kind(5, texts.logs),
    "overrides": Kind(0.2, texts.overrides),
    "ranking": Kind(0.1, texts.rankings),
}
