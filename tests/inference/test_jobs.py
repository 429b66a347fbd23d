import os
from pathlib import Path

import pytest

from conftest import without_rights
from denoiser.errors import AudioError
from denoiser.inference import pipes
from denoiser.inference.jobs import Job, is_done, left_aside, plan


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def targets(*arguments) -> list[str]:
    return [job.target.as_posix() for job in plan(*arguments)]


@pytest.mark.parametrize(
    ("sources", "output", "expected"),
    [
        (["c.mp3"], None, ["c_enhanced.mp3"]),
        (["c.mp3"], "clean.wav", ["clean.wav"]),
        (["c.mp3"], "folder/", ["folder/c_enhanced.mp3"]),
        (["in"], None, ["in_enhanced/a.wav", "in_enhanced/deep/b.flac"]),
        (["in"], "out", ["out/a.wav", "out/deep/b.flac"]),
        (["in/*.wav"], None, ["a_enhanced.wav"]),
        (["takes", "c.mp3", "c.mp3"], "out", ["out/takes_enhanced/d.wav", "out/c_enhanced.mp3"]),
        (["m4a"], "out", ["out/x.m4a.wav", "out/x.mp4.wav", "out/x.wav", "out/y.m4a.wav"]),
        (["m4a/x.m4a", "m4a/x.wav"], None, ["x_enhanced.m4a.wav", "x_enhanced.wav"]),
        (["m4a/y*"], None, ["y_enhanced.m4a.wav"]),
        (["m4a/y.m4a"], None, ["y_enhanced.wav"]),
    ],
)
def test_targets_follow_from_sources_and_output(here, sources, output, expected):
    touch("in/a.wav", "in/deep/b.flac", "in/.hidden.wav", "in/notes.txt", "c.mp3", "takes/d.wav")
    touch("m4a/x.m4a", "m4a/x.mp4", "m4a/x.wav", "m4a/y.m4a")
    assert targets(sources, output) == expected


def test_a_dash_is_a_pipe_and_not_a_file(here):
    touch("-", "c.mp3")
    assert plan(["-"]) == plan(["-"], "-") == [(pipes.STDIN, pipes.STDOUT)]
    assert plan(["c.mp3"], "-") == [(Path("c.mp3"), pipes.STDOUT)]
    assert plan(["./-"], "clean.wav")[0].source is not pipes.STDIN


@pytest.mark.parametrize(
    ("sources", "output", "message"),
    [
        (["*/a.wav"], None, "would both become"),
        (["in/**/*.*"], "one.wav", "one file for 2 results"),
        (["in"], "in", "is the input folder itself"),
        (["c.mp3", "-"], None, "the only input"),
        (["-"], "clean", "no name to keep"),
        ([""], None, "empty name"),
        (["missing.wav"], None, "no such file"),
    ],
)
def test_an_impossible_plan_is_refused(here, sources, output, message):
    touch("in/a.wav", "in/deep/b.flac", "other/a.wav", "c.mp3")
    with pytest.raises(AudioError, match=message):
        plan(sources, output)


def test_results_of_an_earlier_run_are_not_taken_for_inputs(here):
    touch("a.wav", "b_enhanced.wav", "deep/c.wav")
    for sources, output in ((["*.wav"], None), (["."], "out"), (["."], None), ([str(here)], "deep/out")):
        jobs = plan(sources, output)
        touch(*(str(job.target) for job in jobs))
        assert plan(sources, output) == jobs
        for job in jobs:
            job.target.unlink()
    touch("here_enhanced/old.wav")  # of an input that is no longer there
    assert targets(["."]) == ["here_enhanced/a.wav", "here_enhanced/b_enhanced.wav", "here_enhanced/deep/c.wav"]


def test_linked_folders_are_inputs_and_the_outputs_among_them_are_not(here):
    touch("in/a.wav", "far/b.wav", "out/old.wav")
    for name in ("far", "out"):
        Path("in", name).symlink_to(here / name, target_is_directory=True)
    Path("in/loop").symlink_to(here / "in", target_is_directory=True)
    assert targets(["in"], "out") == ["out/a.wav", "out/far/b.wav"]


def test_files_left_aside_in_a_folder_are_counted_by_their_extension(here):
    touch("in/a.wav", "in/notes.txt", "in/deep/b.TXT", "in/deep/cover.jpg", "in/README", "in/.hidden", "in/code.ts")
    line = "5 files left aside, as they have no extension of a sound format: 2 .txt, "
    assert left_aside(["in"], plan(["in"])).startswith(line)
    assert left_aside(["in/a.wav"], plan(["in/a.wav"])) == ""


def test_a_folder_that_cannot_be_opened_is_told(here):
    touch("in/a.wav", "in/closed/b.wav")
    os.chmod("in/closed", 0)
    with without_rights(here):
        jobs = plan(["in"])
        assert [job.source.name for job in jobs] == ["a.wav"]
        told = left_aside(["in"], jobs)
        with pytest.raises(AudioError, match=r"may be opened \(in/closed: Permission denied\)"):
            plan(["in/closed"])
    os.chmod("in/closed", 0o700)
    assert told == "in/closed: Permission denied; what lies in this folder is left aside"


def test_a_film_that_cannot_be_opened_costs_only_itself(here):
    touch("in/a.wav", "in/closed.ts")
    os.chmod("in/closed.ts", 0)
    with without_rights(here):
        jobs = plan(["in"])
        assert left_aside(["in"], jobs) == ""
    assert [job.source.name for job in jobs] == ["a.wav", "closed.ts"]


@pytest.mark.parametrize(("age", "done"), [(-1, False), (0, True), (1, True)])
def test_a_job_is_done_if_its_target_is_no_older_than_its_source(here, age, done):
    touch("a.wav", "out.wav")
    os.utime("out.wav", (0, os.stat("a.wav").st_mtime + age))
    assert is_done(Job(Path("a.wav"), Path("out.wav"))) == done


def test_a_result_of_one_file_is_not_taken_for_that_of_another_which_comes_later(here):
    touch("in/talk.m4a")
    touch(*(str(job.target) for job in plan(["in"], "out")))
    touch("in/talk.wav")
    os.utime("in/talk.wav", (0, 0))
    assert [(job.source.name, is_done(job)) for job in plan(["in"], "out")] == [("talk.m4a", True), ("talk.wav", False)]
