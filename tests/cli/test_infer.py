import os
import re
import shutil
from pathlib import Path

import pytest

from conftest import NAMES
from denoiser import audio
from untrained import files_in, infer, write_voices


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
    with pytest.raises(SystemExit) as stop:
        infer(f"ckpt={checkpoint}", "in", "plot=true")
    assert stop.value.code == 1
    assert files_in("in_enhanced") == [
        "good.png",
        "good.wav",
        "sub/fine.flac",
        "sub/fine.flac.png",  # a picture each, though they share a stem
        "sub/fine.png",
        "sub/fine.wav",
    ]
    assert Path("in_enhanced/good.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr()
    assert "1 of 4 files failed:\n  in/bad.wav: not readable" in printed.err
    assert "real-time factor" in printed.out
    assert sorted(path.name for path in here.iterdir()) == ["in", "in_enhanced"]  # no logs, no .hydra


def test_any_name_is_found_and_given_back(denoiser, checkpoint, here, capsys):
    write_voices(*(f"in/{name}" for name in NAMES))
    shutil.copy(checkpoint, "in/my best (1), ${x}.ckpt")
    os.chdir("in")
    infer("ckpt=my best (1), ${x}.ckpt", "output=../a (${b}) 'c'", "--", *NAMES)
    os.chdir("..")
    expected = [f"{Path(name).stem}_enhanced{audio.output_suffix(name)}" for name in NAMES]
    assert files_in("a (${b}) 'c'") == sorted(expected)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(NAMES) + 1  # a line each, whatever is in the name
    assert not any("\x1b" in line for line in lines)  # which gives no commands to the terminal
    assert any(line.startswith(r"new\nline.wav -> ../a (${b}) 'c'/new\nline_enhanced.wav") for line in lines)
    for name in NAMES:
        infer(f"ckpt={checkpoint}", f"input=in/{name}", f"output=out/{name}.wav")
    assert files_in("out") == sorted(f"{name}.wav" for name in NAMES)


def test_a_page_states_the_options(checkpoint, here):
    write_voices("talk.wav")
    infer(f"ckpt={checkpoint}", "talk.wav", "report=true", "dry=0.25")
    assert "dry=0.25, max_attenuation_db=None, phase_iters=0, full_band=True" in Path("report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ckpt=", "input=talk.wav"], "ckpt missing"),
        (["ckpt=m.ckpt", "input="], "input missing"),
        (["ckpt=.", "talk.wav"], "a folder without"),
        (["ckpt=m.ckpt", "missing.wav"], "missing.wav: no such file"),
        (["ckpt=m.ckpt", "talk.wav"], "not readable as audio"),
        (["ckpt=talk.wav", "talk.wav"], "not a checkpoint"),
        (["ckpt=m.ckpt", "talk.wav", "device=cuda:99"], "not there"),
        (["ckpt=7", "talk.wav"], "7: no such checkpoint"),
        (["ckpt=m.ckpt", "talk.wav", "dry=1.5"], "dry=1.5: expected"),
        (["ckpt=m.ckpt", "talk.wav", "dry=null"], "dry=None: .*not Optional"),
        (["ckpt=m.ckpt", "talk.wav", "dry=nan"], "dry=nan: expected"),
        (["ckpt=m.ckpt", "talk.wav", "max_attenuation_db=-1"], "max_attenuation_db=-1.*: expected"),
        (["ckpt=m.ckpt", "talk.wav", "phase_iters=101"], "phase_iters=101: expected"),
        (["ckpt=m.ckpt", "talk.wav", "loudness=16"], "loudness=16.0: expected a number from -70 to -5"),
        (["ckpt=m.ckpt", "talk.wav", "precision=16"], "precision=16.*expected"),
        (["ckpt=m.ckpt", "talk.wav", "threads=0"], "threads=0: expected 1 or more"),
        (["ckpt=m.ckpt", "talk.wav", "jobs=many"], "jobs=many: expected 1 or more"),
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
