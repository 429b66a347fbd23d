from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import NAMES, composed, make_noise, make_voice

from denoiser import Denoiser, audio
from denoiser.cli.arguments import as_typed
from denoiser.cli.infer import NAMES as NAMES_SETTINGS
from denoiser.console import one_line
from denoiser.errors import AudioError
from denoiser.inference import batch, pipes
from denoiser.inference.batch import blocks_at_once, enhance_files, files_at_once
from denoiser.inference.jobs import Job, is_done, is_one_file, plan
from denoiser.inference.options import Options
from denoiser.inference.progress import Progress

main = importlib.import_module("infer")


def infer(*arguments: str) -> None:
    """What infer.py does with its arguments, in this process."""
    main.main(composed("device=cpu", *as_typed(arguments, NAMES_SETTINGS, inputs="input"), config="infer"))


def noisy(seconds: float = 0.2, rate: int = 16_000, seed: int = 0) -> torch.Tensor:
    return make_voice(seconds, rate, seed) + make_noise(seconds, rate, seed)


def write(*names: str) -> None:
    for name in names:
        audio.write(name, noisy(), 16_000, format="FLAC" if name.endswith(".flac") else "WAV")


def made(folder: Path | str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def targets(*arguments) -> list[str]:
    return [target.as_posix() for _, target in plan(*arguments)]


def test_what_becomes_what(here):
    for name in ("in/a.wav", "in/deep/b.flac", "other/a.wav", "c.mp3", "-", "in/.hidden.wav", "in/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert targets(["c.mp3"]) == ["c_enhanced.mp3"]
    assert targets(["c.mp3"], "clean.wav") == ["clean.wav"]
    assert targets(["c.mp3"], "folder") == targets(["c.mp3"], "folder/") == ["folder/c_enhanced.mp3"]
    assert targets(["in"]) == ["in_enhanced/a.wav", "in_enhanced/deep/b.flac"]
    assert targets(["in"], "out") == ["out/a.wav", "out/deep/b.flac"]
    assert targets(["in/*.wav"]) == ["a_enhanced.wav"]
    assert targets(["in", "c.mp3", "c.mp3"], "out") == [
        "out/in_enhanced/a.wav",
        "out/in_enhanced/deep/b.flac",
        "out/c_enhanced.mp3",
    ]
    for name in ("deep/x.m4a", "deep/x.mp4", "deep/x.wav", "deep/y.m4a"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert targets(["deep"], "out") == ["out/x.m4a.wav", "out/x.mp4.wav", "out/x.wav", "out/y.wav"]
    assert targets(["deep/x.m4a"]) == ["x_enhanced.wav"]
    assert plan(["-"]) == plan(["-"], "-") == [(pipes.STDIN, pipes.STDOUT)]
    assert plan(["c.mp3"], "-") == [(Path("c.mp3"), pipes.STDOUT)]
    assert plan(["./-"], "clean.wav")[0][0] is not pipes.STDIN
    assert [is_one_file(s) for s in (["c.mp3"], ["-"], ["in"], ["*.mp3"], ["c.mp3", "-"])] == [True, True] + [False] * 3


@pytest.mark.parametrize(
    ("sources", "output", "message"),
    [
        (["*/a.wav"], None, "would both become"),
        (["in/**/*.*"], "one.wav", "cannot hold the 2 of"),
        (["in"], "-", "cannot hold"),
        (["in"], "in", "is the input folder itself"),
        (["in"], "c.mp3/", "is a file"),
        (["c.mp3", "-"], None, "by itself"),
        (["-"], "clean", "no name to get there"),
        ([""], None, "empty name"),
        (["x" * 300], None, "File name too long"),
        (["missing.wav"], None, "no such file"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(here, sources, output, message):
    for name in ("in/a.wav", "in/deep/b.flac", "other/a.wav", "c.mp3"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    with pytest.raises(AudioError, match=message):
        plan(sources, output)


def test_what_was_made_is_not_taken_for_input(here):
    for name in ("a.wav", "b_enhanced.wav", "deep/c.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    for sources, output in ((["*.wav"], None), (["."], "out"), (["."], None), ([str(here)], "deep/out")):
        first = plan(sources, output)
        for _, target in first:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        assert plan(sources, output) == first
        for _, target in first:
            target.unlink()
    (here / "here_enhanced/old.wav").touch()  # of an input that is no longer there
    assert targets(["."]) == ["here_enhanced/a.wav", "here_enhanced/b_enhanced.wav", "here_enhanced/deep/c.wav"]


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_folder_goes_on_where_it_was_interrupted(denoiser, here, capsys, at_once):
    class Interrupted(Denoiser):
        def enhance_file(self, source, target, *arguments, **settings):
            if source.name == "c.wav":
                raise KeyboardInterrupt
            return super().enhance_file(source, target, *arguments, **settings)

    write("in/a.wav", "in/b.wav", "in/c.wav", "in/d.wav")
    jobs = plan(["in"], "out")
    with pytest.raises(
        KeyboardInterrupt, match=r"interrupted: [123] of 4 files are done; the same command does the rest"
    ):
        enhance_files(Interrupted(denoiser.net, denoiser.spectral).eval(), jobs, overwrite=False, at_once=at_once)
    before = {name: os.stat(f"out/{name}").st_mtime_ns for name in made("out")}
    assert "c.wav" not in before
    assert all(name.endswith(".wav") for name in before)  # nothing half-written
    outcome = enhance_files(denoiser, jobs, overwrite=False)
    assert f"{len(before)} of 4 files skipped" in capsys.readouterr().out
    assert made("out") == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert len(outcome.skipped) == len(before) == 4 - len(outcome.done)
    assert all(os.stat(f"out/{name}").st_mtime_ns == age for name, age in before.items())


def test_files_under_way_end_when_the_command_is_interrupted(denoiser, here):
    class Slow(Denoiser):
        def enhance_file(self, source, target, options=None, *, progress, **settings):
            if source.name == "a.wav":
                raise KeyboardInterrupt
            for _ in range(500):  # until its progress says that it is to end
                progress(0.0)
                time.sleep(0.01)
            finished.append(source)

    finished = []
    write("a.wav", "b.wav", "c.wav")
    with pytest.raises(KeyboardInterrupt):
        enhance_files(Slow(denoiser.net, denoiser.spectral).eval(), plan(["*.wav"]), at_once=2)
    assert not finished


def test_done_is_what_is_no_older_than_its_input(denoiser, here):
    write("in/a.wav", "out/a.wav")
    job = Job(Path("in/a.wav"), Path("out/a.wav"))
    for age, done in ((-1, False), (0, True), (1, True)):
        os.utime("out/a.wav", (0, os.stat("in/a.wav").st_mtime + age))
        assert is_done(job) == done
    stale = os.stat("out/a.wav").st_mtime
    assert enhance_files(denoiser, [job], overwrite=True).done
    assert os.stat("out/a.wav").st_mtime != stale


def test_a_single_file_is_made_anew_and_several_only_when_asked(checkpoint, here, capsys):
    write("talk.wav", "other.wav")
    infer(f"ckpt={checkpoint}", "talk.wav", "other.wav")
    for arguments, expected in (
        (["talk.wav", "other.wav"], "2 of 2 files skipped"),
        (["input=*.wav"], "2 of 2 files skipped"),
        (["input=*.wav", "overwrite=true"], "talk.wav -> talk_enhanced.wav"),
        (["talk.wav"], "talk.wav -> talk_enhanced.wav"),
    ):
        capsys.readouterr()
        infer(f"ckpt={checkpoint}", *arguments)
        assert expected in capsys.readouterr().out


def test_a_bad_file_costs_only_itself(checkpoint, here, capsys):
    write("in/good.wav", "in/sub/fine.flac", "in/sub/fine.wav")
    Path("in/bad.wav").write_text("not sound")
    with pytest.raises(SystemExit) as stop:
        infer(f"ckpt={checkpoint}", "in", "plot=true")
    assert stop.value.code == 1
    assert made("in_enhanced") == [
        "good.wav",
        "good.wav.png",
        "sub/fine.flac",
        "sub/fine.flac.png",  # a picture each, though they share a stem
        "sub/fine.wav",
        "sub/fine.wav.png",
    ]
    assert Path("in_enhanced/good.wav.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr()
    assert "1 of 4 files failed:\n  in/bad.wav: not readable" in printed.err
    assert "real-time factor" in printed.out
    assert sorted(path.name for path in here.iterdir()) == ["in", "in_enhanced"]  # no logs, no .hydra


def test_blocks_at_once_give_what_one_by_one_does(denoiser, here, monkeypatch):
    monkeypatch.setattr(denoiser, "block_seconds", 0.25)
    audio.write("in.wav", noisy(2.1), 16_000)
    seconds = []
    denoiser.enhance_file(Path("in.wav"), Path("one.wav"))
    denoiser.enhance_file(Path("in.wav"), Path("three.wav"), blocks_at_once=3, progress=seconds.append)
    assert torch.equal(audio.read("one.wav")[0], audio.read("three.wav")[0])
    assert sum(seconds) == pytest.approx(2.1)


@pytest.mark.parametrize(
    ("seconds", "threads", "expected"), [(10, 8, 1), (40, 8, 2), (70, 8, 4), (7200, 2, 2), (7200, 64, 4), (7200, 1, 1)]
)
def test_a_long_file_is_shared_out_to_the_threads(denoiser, monkeypatch, seconds, threads, expected):
    monkeypatch.setattr(denoiser, "block_seconds", 32.0)
    assert blocks_at_once(denoiser, seconds, threads) == expected


def test_blocks_at_once_take_little_more_memory_than_one(denoiser, here, monkeypatch):
    monkeypatch.setattr(denoiser, "block_seconds", 32.0)
    audio.write("in.wav", noisy(50, 16_000), 16_000)
    lengths, segment = [], denoiser.segment
    monkeypatch.setattr(denoiser, "segment", lambda low, *rest: lengths.append(low.shape[-1]) or segment(low, *rest))
    beside = 2 * (denoiser.context(Options()) + denoiser.net.stride + 2) * denoiser.spectral.hop
    for count, most in ((1, 32), (2, 16), (4, 16)):
        denoiser.enhance_file(Path("in.wav"), Path("out.wav"), blocks_at_once=count)
        assert most * 15_000 < max(lengths) <= most * 16_000 + beside
        lengths.clear()


def test_what_nobody_foresaw_costs_one_file_too(denoiser, here, capsys):
    class Broken(Denoiser):
        def enhance_file(self, source, target, *arguments, **settings):
            if source.name == "b.wav":
                raise MemoryError("no room")
            return super().enhance_file(source, target, *arguments, **settings)

    write("a.wav", "b.wav", "c.wav")
    outcome = enhance_files(Broken(denoiser.net, denoiser.spectral).eval(), plan(["*.wav"], "out"))
    assert made("out") == ["a_enhanced.wav", "c_enhanced.wav"]
    assert "b.wav: MemoryError: no room" in capsys.readouterr().err
    assert [str(source) for source, _ in outcome.failed] == ["b.wav"]


def test_several_at_once_give_what_one_after_another_does(denoiser, here):
    for i in range(5):
        audio.write(f"in/{i}.wav", noisy(0.3, 22_050, i), 22_050)
    enhance_files(denoiser, plan(["in"], "one"), at_once=1)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        enhance_files(denoiser, plan(["in"], "several"), at_once=3)
        assert torch.get_num_threads() == 4  # lent to the files, and given back
    finally:
        torch.set_num_threads(before)
    for name in made("one"):
        assert torch.allclose(audio.read(f"one/{name}")[0], audio.read(f"several/{name}")[0], atol=1e-4)


def test_how_many_at_once():
    for threads in (1, 2, 4, 16, 64):
        for count in (0, 1, 2, 3, 100, 10_000):
            chosen = files_at_once(count, threads)
            assert 1 <= chosen <= max(1, min(count, threads, batch.MAX_FILES_AT_ONCE))
    assert files_at_once(1_000, 2) == 2
    assert files_at_once(1_000, 16) == 16
    assert files_at_once(3, 2) == 1  # two and then one alone would leave a core idle for half of the time


def test_progress_is_over_seconds_of_audio(denoiser, here, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    audio.write("in/a.wav", noisy(1.0), 16_000)
    audio.write("in/c.wav", noisy(2.0), 16_000)
    Path("in/b.wav").write_text("not sound")
    monkeypatch.setattr(sys, "stderr", Terminal())
    enhance_files(denoiser, plan(["in"], "out"))
    shown = sys.stderr.getvalue().split("\r")
    assert any("1/3 s of audio" in line and "left, real-time factor" in line for line in shown)
    assert any("100%" in line and "3/3 s of audio" in line for line in shown)


def test_the_bar_learns_what_headers_do_not_know(here):
    audio.write("a.wav", torch.zeros(1, 80_000), 8_000)
    known, unknown = Job(Path("a.wav"), Path("x.wav")), Job(pipes.STDIN, Path("y.wav"))
    bar = Progress([known, unknown])
    with bar.of(unknown) as advance:
        advance(4.0)
        assert bar.total == 14
        advance(2.0)
    with bar.of(known) as advance:  # damaged after 3 of its 10 seconds
        advance(3.0)
    assert bar.total == bar.done == 9


def test_the_line_says_what_a_peak_cost(denoiser, here, capsys):
    loud = noisy(0.5)
    loud /= loud.abs().max()
    audio.write("talk.wav", loud, 16_000, subtype="PCM_16")
    enhance_files(denoiser, plan(["talk.wav"]))
    line = capsys.readouterr().out.splitlines()[0]
    gain = float(line.removeprefix("talk.wav -> talk_enhanced.wav, turned down to ").split(" ")[0])
    assert line.endswith(" to stay within full scale")
    raw = denoiser.enhance(loud, 16_000)
    assert gain == pytest.approx(1 / float(raw.abs().max()), abs=1e-3)
    # nothing wraps: the output is the whole result, turned down
    assert torch.allclose(audio.read("talk_enhanced.wav")[0], raw * gain, atol=2e-3)


def test_the_line_says_what_a_loudness_cost(denoiser, here, capsys):
    pytest.importorskip("pyloudnorm")
    audio.write("talk.wav", noisy(0.5), 16_000)
    enhance_files(denoiser, plan(["talk.wav"]), loudness=-40)
    assert re.match(r"talk.wav -> talk_enhanced.wav, [-+]\d+\.\d dB towards -40 LUFS\n", capsys.readouterr().out)


def test_any_name_is_found_and_given_back(denoiser, checkpoint, here, capsys):
    write(*(f"in/{name}" for name in NAMES))
    shutil.copy(checkpoint, "in/my best (1), ${x}.ckpt")
    os.chdir("in")
    infer("ckpt=my best (1), ${x}.ckpt", "output=../a (${b}) 'c'", "--", *NAMES)
    os.chdir("..")
    expected = [f"{Path(name).stem}_enhanced{Path(name).suffix}" for name in NAMES]
    assert made("a (${b}) 'c'") == sorted(expected)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NAMES) + 1  # a line each, whatever is in the name
    assert any(line.startswith(r"new\nline.wav -> ../a (${b}) 'c'/new\nline_enhanced.wav") for line in lines)
    for name in NAMES:
        infer(f"ckpt={checkpoint}", f"input=in/{name}", f"output=out/{name}.wav")
    assert made("out") == sorted(f"{name}.wav" for name in NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt=", "input=talk.wav"], "ckpt missing"),
        (["ckpt=m.ckpt", "input="], "input missing"),
        (["ckpt=m.ckpt", "talk.wav", "plot=no"], "expected true or false"),
        (["ckpt=m.ckpt", "talk.wav", "overwrite=1"], "expected true or false"),
        (["ckpt=.", "talk.wav"], "a folder without"),
        (["ckpt=m.ckpt", "missing.wav"], "missing.wav: no such file"),
        (["ckpt=m.ckpt", "talk.wav"], "not readable as audio"),
        (["ckpt=talk.wav", "talk.wav"], "not a checkpoint"),
        (["ckpt=m.ckpt", "talk.wav", "device=cuda:99"], "not there"),
        (["ckpt=7", "talk.wav"], "7: no such checkpoint"),
        (["ckpt=m.ckpt", "talk.wav", "dry=1.5"], "dry=1.5: expected"),
        (["ckpt=m.ckpt", "talk.wav", "dry=wet"], "dry=wet: expected a number"),
        (["ckpt=m.ckpt", "talk.wav", "dry=null"], "dry=None: expected a number"),
        (["ckpt=m.ckpt", "talk.wav", "dry=nan"], "dry=nan: expected"),
        (["ckpt=m.ckpt", "talk.wav", "max_attenuation_db=-1"], "max_attenuation_db=-1.*: expected"),
        (["ckpt=m.ckpt", "talk.wav", "phase_iters=1.5"], "phase_iters=1.5: expected a whole number"),
        (["ckpt=m.ckpt", "talk.wav", "phase_iters=101"], "phase_iters=101: expected"),
        (["ckpt=m.ckpt", "talk.wav", "loudness=16"], "loudness=16: expected a number from -70 to -5, or null"),
        (["ckpt=m.ckpt", "talk.wav", "precision=16"], "precision=16.*expected"),
        (["ckpt=m.ckpt", "talk.wav", "threads=0"], "threads=0: expected a whole number, 1 or more, or null"),
        (["ckpt=m.ckpt", "talk.wav", "jobs=many"], "jobs=many: expected a whole number, 1 or more, or auto"),
        (["ckpt=m.ckpt", "talk.wav", "output=-", "plot=true"], "carries the sound alone"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(checkpoint, here, capsys, arguments, message):
    shutil.copy(checkpoint, "m.ckpt")
    Path("talk.wav").write_text("this is text")
    with pytest.raises(SystemExit) as stop:
        infer(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert sorted(path.name for path in here.iterdir()) == ["m.ckpt", "talk.wav"]


def test_an_interruption_says_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as stop, one_line():
        raise KeyboardInterrupt("interrupted: 1 of 4 files are done")
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted: 1 of 4 files are done\n"
