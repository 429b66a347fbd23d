"""Each campaign in small. Run by hand: pytest tests/campaigns/test_campaigns.py."""

import ctypes
import itertools
import random

from denoiser.errors import DenoiserError
from tests.campaigns import fuzz, kills, load
from tests.campaigns.fuzzing import kinds, worker
from tests.campaigns.fuzzing.mutation import altered, damaged

CHEAP = "wav flac ogg mp3 aiff pipe ckpt-bytes ckpt-pickle ckpt-tree ckpt-load log ranking".split()


def test_no_hostile_file_brings_the_program_down(capsys):
    assert fuzz.main(["inputs=120", "seed=2", f"kinds={','.join(CHEAP)}"]) == 0, capsys.readouterr().out


def test_a_killed_command_goes_on_and_gives_the_same_result(capsys, tmp_path):
    assert kills.main(["kills=2", f"folder={tmp_path}"]) == 0, capsys.readouterr().out


def test_many_threads_get_the_answers_of_one(capsys):
    assert load.main(["threads=4", "minutes=0.05", "only=api"]) == 0, capsys.readouterr().out


def test_an_input_follows_from_its_seed():
    content = bytes(range(256)) * 8
    one, same, other = (damaged(random.Random(seed), content) for seed in (1, 1, 2))
    assert one == same != other
    tree = {"a": [1, {"b": 2}]}
    assert repr(altered(random.Random(3), tree)) == repr(altered(random.Random(3), tree))
    assert tree == {"a": [1, {"b": 2}]}


def test_a_process_that_dies_hangs_or_swells_is_a_failure(monkeypatch):
    monkeypatch.setattr(fuzz, "SERVE", serve_hostile)
    monkeypatch.setattr(fuzz, "STARTING", 60.0)
    with fuzz.working() as process:
        found = [process.try_(0, kind, 0) for kind in ("fine", "died", "fine", "spins", "swells", "raises", "lines")]
    assert [answer["result"] for answer in found if answer["result"] != "failed"] == ["accepted", "accepted"]
    reasons = ["signal 11", "a hang", "more memory", "ZeroDivisionError", "not one clear line"]
    for reason, answer in zip(reasons, [a for a in found if a["result"] == "failed"], strict=True):
        assert reason in answer["detail"]


class TwoLinesError(DenoiserError):
    __str__ = Exception.__str__


def raise_lines():
    raise TwoLinesError("one\ntwo")


def serve_hostile(pipe, folder):
    """Serve inputs that are no files, and harm."""
    harms = {
        "fine": lambda: None,
        "died": lambda: ctypes.string_at(0),
        "spins": lambda: all(itertools.repeat(True)),
        "swells": lambda: len(bytearray(b"x") * (1200 << 20)),
        "raises": lambda: 1 / 0,
        "lines": raise_lines,
    }
    kinds.KINDS.clear()
    for name, harm in harms.items():
        kinds.KINDS[name] = kinds.Kind(1, lambda _, harm=harm: lambda rng, folder: harm())
    worker.serve(pipe, folder)
