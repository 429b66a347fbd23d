import os
import re
import shutil
import tracemalloc
from pathlib import Path

import pytest
import soundfile

from conftest import NAMES
from denoiser import audio
from denoiser.evaluation import metrics
from denoiser.inference.jobs import plan
from untrained import files_in, infer, write_voices


def refusal(capsys, *arguments: str) -> str:
    """Return the line of standard error of a run that ends with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        infer(*arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_single_file_is_made_anew_and_several_only_when_asked(checkpoint, here, capsys):
    write_voices("talk.wav", "other.wav")
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
    write_voices("in/good.wav", "in/sub/fine.flac", "in/sub/fine.wav")
    Path("in/bad.wav").write_text("not sound")
    soundfile.write("in/empty.wav", [], 16_000)
    with pytest.raises(SystemExit) as stop:
        infer(f"ckpt={checkpoint}", "in", "plot=true")
    assert stop.value.code == 1
    # A picture each, though two share a stem.
    sub = [f"sub/fine.{suffix}" for suffix in ("flac", "flac.png", "png", "wav")]
    assert files_in("in_enhanced") == ["good.png", "good.wav", *sub]
    assert Path("in_enhanced/good.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr()
    assert re.search(r"2 of 5 files failed:\n  in/bad.wav: not readable.*\n  in/empty.wav: holds no s", printed.err)
    assert "real-time factor" in printed.out
    assert sorted(path.name for path in here.iterdir()) == ["in", "in_enhanced"]  # no logs, no .hydra


def test_any_name_is_found_and_given_back(denoiser, checkpoint, here, capsys):
    write_voices(*(f"in/{name}" for name in NAMES))
    shutil.copy(checkpoint, "in/my best (1), ${x}.ckpt")
    os.chdir("in")
    infer("ckpt=my best (1), ${x}.ckpt", "output=../a (${b}) 'c'", "--", *NAMES)
    os.chdir("..")
    suffixes = {name: Path(name).suffix.removesuffix(audio.output_suffix(name)) for name in NAMES}
    expected = [f"{Path(name).stem}_enhanced{suffixes[name]}{audio.output_suffix(name)}" for name in NAMES]
    assert files_in("a (${b}) 'c'") == sorted(expected)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NAMES) + 1  # a line each, whatever is in the name
    assert not any("\x1b" in line for line in lines)  # which gives no commands to the terminal
    assert any(line.startswith(r"new\nline.wav -> ../a (${b}) 'c'/new\nline_enhanced.wav") for line in lines)
    for name in NAMES:
        infer(f"ckpt={checkpoint}", f"input=in/{name}", f"output=out/{name}.wav")
    assert files_in("out") == sorted(f"{name}.wav" for name in NAMES)


def test_a_page_states_the_options_and_is_made_without_the_package_for_ratings(checkpoint, here, capsys, monkeypatch):
    write_voices("talk.wav")
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    infer(f"ckpt={checkpoint}", "talk.wav", "report=true", "dry=0.25")
    assert 'without DNSMOS ratings, which need speechmos: pip install "denoiser[metrics]"' in capsys.readouterr().err
    assert files_in(".") == ["report.html", "talk.wav", "talk_enhanced.wav"]
    settings = "dry=0.25, max_attenuation_db=None, phase_iters=0, full_band=True, shifts=1"
    assert settings in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt=", "input=talk.wav"], "ckpt missing"),
        (["ckpt=m.ckpt", "input="], "input missing"),
        (["ckpt=.", "talk.wav"], "a folder without"),
        (["ckpt=m.ckpt", "missing.wav"], "missing.wav: no such file"),
        (["ckpt=m.ckpt", "talk.wav"], "not readable as audio"),
        (["ckpt=talk.wav", "talk.wav"], "not a checkpoint"),
        (["ckpt=7", "talk.wav"], "7: no such checkpoint"),
        (["ckpt=m.ckpt", "talk.wav", "dry=null"], "dry=None: .*not Optional"),
        (["ckpt=m.ckpt", "talk.wav", "dry=nan"], "dry=nan: expected"),
        (["ckpt=m.ckpt", "talk.wav", "max_attenuation_db=-1"], "max_attenuation_db=-1.*: expected"),
        (["ckpt=m.ckpt", "talk.wav", "phase_iters=101"], "phase_iters=101: expected"),
        (["ckpt=m.ckpt", "talk.wav", "shifts=17"], "shifts=17: expected"),
        (["ckpt=m.ckpt", "talk.wav", "loudness=16"], "loudness=16.0: expected a number from -70 to -5"),
        (["ckpt=m.ckpt", "talk.wav", "precision=16"], "precision=16.*expected"),
        (["ckpt=m.ckpt", "talk.wav", "threads=0"], "threads=0: expected 1 or more"),
        (["ckpt=m.ckpt", "talk.wav", "jobs=many"], "jobs=many: expected 1 or more"),
        (["ckpt=m.ckpt", "talk.wav", "format=s16le"], "rate missing"),
        (["ckpt=m.ckpt", "talk.wav", "format=s16le", "rate=10"], "rate=10: expected"),
        (["ckpt=m.ckpt", "talk.wav", "rate=16000"], "give format= too"),
        (["ckpt=m.ckpt", ".", "format=s16le", "rate=16000"], "for named files or a pattern"),
        (["ckpt=m.ckpt", "talk.wav", "output=-", "plot=true"], "carries the sound alone"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(checkpoint, here, capsys, arguments, message):
    shutil.copy(checkpoint, "m.ckpt")
    Path("talk.wav").write_text("this is text")
    assert re.search(message, refusal(capsys, *arguments))
    assert sorted(path.name for path in here.iterdir()) == ["m.ckpt", "talk.wav"]


# Names and folders at the limits of the system


@pytest.mark.parametrize("letter", ["x", "é", "日"])
def test_names_of_255_bytes_keep_them_in_a_folder(checkpoint, here, letter):
    name = letter * (251 // len(letter.encode())) + ".wav"
    write_voices(f"in/{name}", "in/b.wav")
    infer(f"ckpt={checkpoint}", "in", "output=out")
    assert sorted(os.listdir("out")) == sorted([name, "b.wav"])
    infer(f"ckpt={checkpoint}", f"in/{name}", "output=one.wav")


def test_a_name_that_gets_too_long_is_one_line_before_any_work(checkpoint, here, capsys):
    write_voices("x" * 251 + ".wav", "b.wav")
    # "_enhanced" has no room.
    line = refusal(capsys, f"ckpt={checkpoint}", "x" * 251 + ".wav")
    assert re.search(r"x+_enhanced\.wav: File name too long", line)
    line = refusal(capsys, f"ckpt={checkpoint}", "b.wav", f"output={'y' * 300}.wav")
    assert re.search(r"y+\.wav: File name too long", line)
    assert sorted(os.listdir()) == ["b.wav", "x" * 251 + ".wav"]


def test_loops_of_links_end_and_only_regular_files_are_taken(checkpoint, here, capsys):
    write_voices("in/a.wav", "in/deep/b.wav")
    Path("in/deep/up").symlink_to(here / "in")
    Path("in/self").symlink_to("self")
    Path("in/one.wav").symlink_to("two.wav")
    Path("in/two.wav").symlink_to("one.wav")
    Path("in/gone.wav").symlink_to("nowhere.wav")
    Path("in/folder.wav").mkdir()
    os.mkfifo("in/pipe.wav")
    infer(f"ckpt={checkpoint}", "in", "output=out")
    assert files_in("out") == ["a.wav", "deep/b.wav"]
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
