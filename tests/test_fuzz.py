"""The campaign of ``benchmarks/fuzz.py``, small: what it finds there fails here."""

from __future__ import annotations

import importlib.util
import random
import sys

import pytest

from benchmarks import fuzz
from benchmarks.fuzzing.mutation import altered, damaged
from denoiser.errors import AudioError

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured through /proc")
CHEAP = "wav flac ogg mp3 aiff pipe ckpt-bytes ckpt-pickle ckpt-tree ckpt-load log ranking".split()


@needs_proc
def test_nothing_brings_the_program_down():
    for tallies in fuzz.campaign(120, seed=2, kinds=CHEAP):
        failures = {f"{kind}:{n}": why for kind, tally in tallies.items() for n, why in tally.failures.items()}
        assert not failures, failures
    results = sum((tally.results for tally in tallies.values()), start=next(iter(tallies.values())).results.__class__())
    assert min(results["accepted"], results["refused"]) > 10  # neither too wild nor too tame


@needs_proc
def test_a_process_that_dies_hangs_or_swells_is_a_failure(tmp_path, monkeypatch):
    """The referee: each of these is called what it is, and the next input is tried as if nothing had been."""
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.setattr(fuzz, "WORKER", tmp_path / "hostile.py")
    monkeypatch.setattr(fuzz, "COMPUTING", 1.0)
    monkeypatch.setattr(fuzz, "STARTING", 60.0)
    with fuzz.working() as worker:
        found = [worker.try_(0, kind, 0) for kind in ("fine", "died", "fine", "spins", "swells", "raises", "lines")]
    results = [answer["result"] for answer in found]
    assert results == ["accepted", "failed", "accepted", "failed", "failed", "failed", "failed"]
    reasons = ["signal 11", "a hang", "more memory", "ZeroDivisionError", "not one clear line"]
    for reason, answer in zip(reasons, [a for a in found if a["result"] == "failed"], strict=True):
        assert reason in answer["detail"]


HOSTILE = f"""
import sys
sys.path.insert(0, {str(fuzz.ROOT)!r})
from benchmarks.fuzzing import kinds, worker
from denoiser.errors import DenoiserError

class Bad(DenoiserError):
    __str__ = Exception.__str__

def died(rng, folder):
    import ctypes
    ctypes.string_at(0)

def spins(rng, folder):
    while True:
        pass

def swells(rng, folder):
    len(bytearray(b"x") * (1200 << 20))

def raises(rng, folder):
    1 / 0

def lines(rng, folder):
    raise Bad("one\\ntwo")

found = dict(fine=lambda rng, folder: None, died=died, spins=spins, swells=swells, raises=raises, lines=lines)
kinds.KINDS.clear()
kinds.KINDS.update({{name: kinds.Kind(1, lambda _, f=f: f) for name, f in found.items()}})
worker.main()
"""


def test_an_input_follows_from_its_seed():
    content = bytes(range(256)) * 8
    one, same, other = (damaged(random.Random(seed), content) for seed in (1, 1, 2))
    assert one == same != other
    tree = {"a": [1, {"b": 2}]}
    assert repr(altered(random.Random(3), tree)) == repr(altered(random.Random(3), tree))
    assert tree == {"a": [1, {"b": 2}]}


def test_a_message_is_one_line_whatever_a_file_says():
    text = str(AudioError("a\nb\x1b[31m\u2028\udcff" + "x" * 10_000))
    assert text.startswith(r"a\nb\x1b[31m\u2028\udcff")
    assert text.isprintable()
    assert len(text) < 2100


@pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="onnx is not installed")
def test_every_kind_has_a_share():
    assert all(kind.share > 0 for kind in fuzz.KINDS.values())
