"""File names and folders at the limits of the system: long names, loops of links, thousands of files."""

import os
import re
import tracemalloc
from pathlib import Path

import pytest
import soundfile
import torch

from denoiser import audio
from denoiser.inference.jobs import plan
from untrained import infer


def refusal(capsys, *arguments: str) -> str:
    """Return the line of standard error of a run that ends with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        infer(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def write(*names: str) -> None:
    for name in names:
        audio.write(name, torch.ones(1, 1_000) / 10, 16_000, format="WAV")


@pytest.mark.parametrize("letter", ["x", "é", "日"])
def test_names_of_255_bytes_keep_them_in_a_folder(checkpoint, here, letter):
    name = letter * (251 // len(letter.encode())) + ".wav"
    write(f"in/{name}", "in/b.wav")
    infer(f"ckpt={checkpoint}", "in", "output=out")
    assert sorted(os.listdir("out")) == sorted([name, "b.wav"])
    infer(f"ckpt={checkpoint}", f"in/{name}", "output=one.wav")


def test_a_name_that_gets_too_long_is_one_line_before_any_work(checkpoint, here, capsys):
    write("x" * 251 + ".wav", "b.wav")
    # "_enhanced" has no room.
    line = refusal(capsys, f"ckpt={checkpoint}", "x" * 251 + ".wav")
    assert re.search(r"x+_enhanced\.wav: File name too long", line)
    line = refusal(capsys, f"ckpt={checkpoint}", "b.wav", f"output={'y' * 300}.wav")
    assert re.search(r"y+\.wav: File name too long", line)
    assert sorted(os.listdir()) == ["b.wav", "x" * 251 + ".wav"]


def test_loops_of_links_end_and_only_regular_files_are_taken(checkpoint, here, capsys):
    write("in/a.wav", "in/deep/b.wav")
    Path("in/deep/up").symlink_to(here / "in")
    Path("in/self").symlink_to("self")
    Path("in/one.wav").symlink_to("two.wav")
    Path("in/two.wav").symlink_to("one.wav")
    Path("in/gone.wav").symlink_to("nowhere.wav")
    Path("in/folder.wav").mkdir()
    os.mkfifo("in/pipe.wav")
    infer(f"ckpt={checkpoint}", "in", "output=out")
    assert sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.wav")) == ["a.wav", "deep/b.wav"]
    for name in ("in/self", "in/one.wav", "in/gone.wav"):
        assert name in refusal(capsys, f"ckpt={checkpoint}", name)


def test_many_files_are_listed_in_little_memory(here):
    count = 4_000
    for folder in range(4):
        os.makedirs(f"in/{folder:02d}")
        for index in range(count // 4):
            os.close(os.open(f"in/{folder:02d}/{index:05d}.wav", os.O_CREAT))
    tracemalloc.start()
    jobs = plan(["in"], "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(jobs) == len({target for _, target in jobs}) == count
    assert jobs == sorted(jobs)
    # Bytes: 100 000 files take 500 MB at the most.
    assert peak / count < 5_000


def test_a_file_without_samples_is_named(checkpoint, here, capsys):
    soundfile.write("empty.wav", [], 16_000)
    write("b.wav")
    with pytest.raises(SystemExit) as stop:
        infer(f"ckpt={checkpoint}", "empty.wav", "b.wav")
    assert stop.value.code == 1
    assert "empty.wav: holds no samples" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["b.wav", "b_enhanced.wav", "empty.wav"]
