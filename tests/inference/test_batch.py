import io
import os
import re
import sys
import time
from pathlib import Path

import pytest
import torch

from denoiser import Denoiser, audio
from denoiser.errors import DenoiserError
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import plan
from denoiser.inference.options import Options
from denoiser.spectral import Spectral
from untrained import build, files_in, noisy_voice, write_voices


def failing(denoiser: Denoiser, name: str, error: BaseException) -> Denoiser:
    """Return a denoiser like this one that raises ``error`` at the file of this name."""

    class Failing(Denoiser):
        def enhance_file(self, source, target, *arguments, **settings):
            if source.name == name:
                raise error
            return super().enhance_file(source, target, *arguments, **settings)

    return Failing(denoiser.net, denoiser.spectral).eval()


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_interrupted_folder_goes_on_where_it_stopped(denoiser, here, capsys, at_once):
    write_voices("in/a.wav", "in/b.wav", "in/c.wav", "in/d.wav")
    jobs = plan(["in"], "out")
    message = r"interrupted: [123] of 4 files are done; the same command does the rest"
    with pytest.raises(KeyboardInterrupt, match=message):
        enhance_files(failing(denoiser, "c.wav", KeyboardInterrupt()), jobs, overwrite=False, at_once=at_once)
    before = {name: os.stat(f"out/{name}").st_mtime_ns for name in files_in("out")}
    assert "c.wav" not in before
    assert all(name.endswith(".wav") for name in before)  # nothing half-written
    outcome = enhance_files(denoiser, jobs, overwrite=False)
    assert f"{len(before)} of 4 files skipped" in capsys.readouterr().out
    assert files_in("out") == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert len(outcome.skipped) == len(before) == 4 - len(outcome.done)
    assert all(os.stat(f"out/{name}").st_mtime_ns == date for name, date in before.items())


def test_files_in_progress_end_when_the_command_is_interrupted(denoiser, here):
    class Slow(Denoiser):
        def enhance_file(self, source, target, options=None, *, progress, **settings):
            if source.name == "a.wav":
                raise KeyboardInterrupt
            for _ in range(60_000):  # ended by its progress long before
                progress(0.0)
                time.sleep(0.001)
            finished.append(source)

    finished = []
    write_voices("a.wav", "b.wav", "c.wav")
    with pytest.raises(KeyboardInterrupt):
        enhance_files(Slow(denoiser.net, denoiser.spectral), plan(["*.wav"]), at_once=2)
    assert not finished


def test_an_unforeseen_error_costs_one_file(denoiser, here, capsys):
    write_voices("a.wav", "b.wav", "c.wav")
    outcome = enhance_files(failing(denoiser, "b.wav", ArithmeticError("odd")), plan(["*.wav"], "out"))
    assert files_in("out") == ["a_enhanced.wav", "c_enhanced.wav"]
    assert "b.wav: ArithmeticError: odd" in capsys.readouterr().err
    assert [str(job.source) for job in outcome.failed] == ["b.wav"]


def test_each_file_of_which_the_model_makes_nan_is_named(denoiser, here, capsys):
    write_voices("a.wav", "b.wav")
    broken = Denoiser(denoiser.net, Spectral(peak=3e38)).eval()
    enhance_files(broken, plan(["*.wav"], "out"))
    printed = capsys.readouterr().err
    assert all(f"failed: {name}.wav: the model makes NaN or infinity" in printed for name in "ab")


@pytest.mark.parametrize(
    ("settings", "missing", "message"),
    [
        ({"options": Options(phase_iters=4)}, "", "phase_iters=4: needs later frames"),
        ({"loudness": -16}, "pyloudnorm", "loudness= needs pyloudnorm"),
        ({"plot": True}, "matplotlib", "figures need matplotlib"),
    ],
)
def test_what_no_file_can_be_done_with_is_refused_once_before_the_first(here, monkeypatch, settings, missing, message):
    write_voices("in/a.wav", "in/b.wav")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DenoiserError, match=f"^{message}"):
        enhance_files(build(name="crn", stem=4, widths=[4], hidden=4), plan(["in"]), **settings)
    assert not Path("in_enhanced").exists()


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.OutOfMemoryError("no room")])
def test_too_little_memory_is_one_line_for_a_file_alone_too(denoiser, here, error):
    write_voices("a.wav")
    with pytest.raises(DenoiserError, match=r"a\.wav: not enough memory \(no room\)"):
        enhance_files(failing(denoiser, "a.wav", error), plan(["a.wav"], "out"))


def test_several_files_at_once_give_the_same_results(denoiser, here):
    for seed in range(5):
        audio.write(f"in/{seed}.wav", noisy_voice(0.3, 22_050, seed), 22_050)
    enhance_files(denoiser, plan(["in"], "one"), at_once=1)
    threads = torch.get_num_threads()
    enhance_files(denoiser, plan(["in"], "several"), at_once=3)
    assert torch.get_num_threads() == threads  # lent to the files, and given back
    for name in files_in("one"):
        assert torch.allclose(audio.read(f"one/{name}")[0], audio.read(f"several/{name}")[0], atol=1e-4)


def test_progress_is_shown_in_seconds_of_audio(denoiser, here, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    audio.write("in/a.wav", noisy_voice(1.0, 16_000), 16_000)
    audio.write("in/c.wav", noisy_voice(2.0, 16_000), 16_000)
    Path("in/b.wav").write_text("not sound")
    monkeypatch.setattr(sys, "stderr", Terminal())
    enhance_files(denoiser, plan(["in"], "out"))
    lines = sys.stderr.getvalue().split("\r")
    assert any("/3 s of audio" in line and " left]" in line for line in lines)
    assert any("100%" in line and "3/3 s of audio" in line for line in lines)


def test_the_line_of_a_file_states_how_far_it_was_turned_down(denoiser, here, capsys):
    loud = noisy_voice(0.5, 16_000)
    loud /= loud.abs().max()
    audio.write("talk.wav", loud, 16_000, subtype="PCM_16")
    enhance_files(denoiser, plan(["talk.wav"]))
    gain = 1 / float(denoiser.enhance(audio.read("talk.wav")[0], 16_000).abs().max())
    line = f"talk.wav -> talk_enhanced.wav, turned down to {gain:.3f} to stay within full scale\n"
    assert capsys.readouterr().out.startswith(line)
    enhance_files(denoiser, plan(["talk.wav"]), loudness=-40)
    assert re.match(r"talk.wav -> talk_enhanced.wav, [-+]\d+\.\d dB towards -40 LUFS\n", capsys.readouterr().out)


def test_a_recording_that_is_cut_off_is_done_with_a_warning_and_keeps_its_chunks(denoiser, here, capsys):
    audio.write("whole.wav", noisy_voice(2.0, 16_000), 16_000)
    content = Path("whole.wav").read_bytes()
    bext = b"bext" + (602).to_bytes(4, "little") + b"Scene 7".ljust(602, b"\0")
    Path("talk.wav").write_bytes(content[:12] + bext + content[12:-32_000])
    enhance_files(denoiser, plan(["talk.wav"]))
    assert capsys.readouterr().err == "talk.wav: cut off: its header promises 1.0 s more\n"
    assert audio.probe("talk_enhanced.wav").frames == 16_000
    assert audio.probe("talk_enhanced.wav").extras.parts == ((b"bext", b"Scene 7".ljust(602, b"\0")),)
    enhance_files(denoiser, plan(["talk.wav"], "clean.flac"))
    assert "talk.wav: not kept, as FLAC has no place for them: bext\n" in capsys.readouterr().err
