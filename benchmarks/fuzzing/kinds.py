"""What is fuzzed, and how much of a campaign each kind is."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.fuzzing import networks, sounds, texts


class Kind(NamedTuple):
    """``make(folder)`` gives what tries one input; ``share`` is its part of all inputs."""

    share: float
    make: Callable[[Path], Callable[[random.Random, Path], None]]


KINDS = {
    "wav": Kind(3, sounds.file("wav")),
    **{name: Kind(1, sounds.file(name)) for name in sounds.FORMATS if name != "wav"},
    "others": Kind(1, sounds.file("others")),
    "pipe": Kind(1, sounds.pipe),
    "infer": Kind(0.3, sounds.command),
    "ckpt-bytes": Kind(1.5, networks.checkpoint_bytes),
    "ckpt-pickle": Kind(1.5, networks.checkpoint_pickle),
    "ckpt-tree": Kind(3, networks.checkpoint_tree),
    "ckpt-load": Kind(0.5, networks.training),
    "onnx-bytes": Kind(1, networks.onnx_bytes),
    "onnx-graph": Kind(2, networks.onnx_graph),
    "zip": Kind(2, texts.archives),
    "log": Kind(1, texts.logs),
    "overrides": Kind(1, texts.overrides),
    "ranking": Kind(1, texts.rankings),
}
