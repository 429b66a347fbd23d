"""Files and folders that are complete or absent, locks, and text files."""

import contextlib
import os
import subprocess
import sys

import pytest

from conftest import ROOT
from denoiser import filesystem


@pytest.mark.parametrize("name", ["a.txt", "x" * 255])
def test_a_file_that_could_not_be_completed_leaves_the_old_one(tmp_path, name):
    path = tmp_path / "deep" / name
    with filesystem.atomic_write(path) as partial:
        partial.write_text("old")
    with contextlib.suppress(RuntimeError), filesystem.atomic_write(path) as partial:
        partial.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_half_written_files_of_killed_processes_are_deleted_and_work_in_progress_is_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    # The name of a half-written file has the first 200 bytes of it.
    name = "ü" * 110
    gone = [f".a.wav.partial-{dead.pid}-7", f".{'ü' * 100}.partial-{dead.pid}-7"]
    stay = [f".a.wav.partial-{os.getpid()}-0", f".other.wav.partial-{dead.pid}-7", ".a.wav"]
    for file in (*gone, *stay):
        (tmp_path / file).touch()
    for file in ("a.wav", name):
        with filesystem.atomic_write(tmp_path / file) as partial:
            partial.touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.wav", name, *stay])


def test_links_to_folders_are_followed_once_and_loops_are_not(tmp_path):
    root, far = tmp_path / "root", tmp_path / "far"
    for file in (root / "own/a", root / "b", far / "deep/c", tmp_path / "outside"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    links = {
        "alias": root / "own",
        "link": far,
        "again": far / "deep",
        "loop": root,
        "own/up": tmp_path,
        "gone": far / "x",
    }
    for name, target in links.items():
        (root / name).symlink_to(target, target_is_directory=True)
    (far / "back").symlink_to(tmp_path, target_is_directory=True)
    # A second name of one file is a file of its own: several noisy recordings may share a clean one.
    (root / "own/d").symlink_to(root / "b")
    found = sorted(path.relative_to(root).as_posix() for path in filesystem.walk(root) if path.is_file())
    assert found == ["again/c", "b", "own/a", "own/d"]


def test_folders_of_killed_processes_are_deleted_and_work_in_progress_is_not(tmp_path):
    (tmp_path / "a.partial-dead").mkdir()
    with filesystem.atomic_folder(tmp_path / "a") as mine, filesystem.atomic_folder(tmp_path / "a") as other:
        assert sorted(tmp_path.iterdir()) == sorted([mine, other])
        other.rename(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("folder", [True, False])
def test_a_lock_belongs_to_one_process_until_it_ends(tmp_path, folder):
    path = tmp_path / "lock"
    if folder:
        # A folder that is gone is not created.
        assert filesystem.lock(path, folder=True) is None
        path.mkdir()
    with filesystem.locked(path, folder=folder) as first, filesystem.locked(path, folder=folder) as second:
        assert (first, second) == (True, False)
    code = "import sys; from pathlib import Path; from denoiser import filesystem\n"
    code += f"held = filesystem.lock(Path({str(path)!r}), folder={folder})\n"
    code += "print(held is not None, flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, **pipes)
    assert process.stdout.readline() == "True\n"
    assert filesystem.lock(path, folder=folder) is None
    process.kill()
    process.communicate()
    with filesystem.locked(path, folder=folder) as again:
        assert again


def test_a_shared_lock_excludes_only_an_exclusive_one(tmp_path):
    descriptors = [filesystem.lock(tmp_path / "lock", shared=True) for _ in range(2)]
    assert filesystem.lock(tmp_path / "lock") is None
    for descriptor in descriptors:
        os.close(descriptor)
    with filesystem.locked(tmp_path / "lock") as held:
        assert held


def test_text_is_read_from_regular_files_of_bounded_size_alone(tmp_path):
    (tmp_path / "a").write_text("größe")
    assert filesystem.read_text(tmp_path / "a") == "größe"
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as large:
        large.truncate(1 << 40)
    for name in ("pipe", "large", "gone", "."):
        with pytest.raises(OSError):  # noqa: PT011, the message is the system's
            filesystem.read_text(tmp_path / name)
