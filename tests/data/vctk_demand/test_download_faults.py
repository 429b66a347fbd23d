"""The corpus from a server when the disk fills up, a run is killed, or two run at once."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Runner
from served import assert_whole, corpus_files, corpus_root, fetch, packed_files, running_server  # noqa: F401, fixtures

from denoiser.cli import download
from denoiser.data import vctk_demand
from denoiser.errors import DownloadError


def test_too_small_a_disk_is_said_first(server, packed, root):
    large = [replace(a, unpacked=10**15) if "train" in a.name else a for a in packed[1]]
    with pytest.raises(DownloadError, match=r"about 2000000.\d+ GB are needed on the way, .* GB are free"):
        vctk_demand.fetch(root, url=server.url, archives=large)
    assert not server.requests


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield lambda changed: subprocess.run(["mount", "-o", f"remount,{changed}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("announced", [True, False])
def test_a_disk_that_fills_up_in_a_download(server, packed, corpus, root, announced):
    server.lengths = announced
    server.faults = [{}, {}, {}, {"call": lambda: hog.write_bytes(b"x" * (shutil.disk_usage(root).free - (64 << 10)))}]
    with mounted(root, "size=8m"):
        hog = root / "hog"
        expected = (
            "are still to come and 0.00 GB are free" if announced else "disk is full; what was downloaded is kept"
        )
        with pytest.raises(DownloadError, match=expected):
            fetch(root, server, packed)
        hog.unlink()
        fetch(root, server, packed)
        assert_whole(root, corpus)
        asked = [range_ for _, name, range_ in server.requests if name == f"{packed[1][3].name}.zip"]
        assert asked in ([None, None], [None, "bytes=61440-"], [None, "bytes=65536-"])  # a page goes to the folder
        assert (asked[1] is None) == announced


def test_a_disk_that_fills_up_in_unpacking(server, packed, corpus, root):
    with mounted(root, "size=8m,nr_inodes=20") as remount:
        with pytest.raises(DownloadError, match="disk is full; what was downloaded is kept"):
            fetch(root, server, packed)
        assert (root / "noisy_testset_wav").is_dir()
        assert not list(root.glob("*train*"))
        remount("nr_inodes=1000")
        fetch(root, server, packed)
        assert_whole(root, corpus)
    assert len(server.requests) == 5


def test_a_folder_that_cannot_be_written_is_one_line(server, packed, root, capsys):
    (root.parent / "file").touch()
    with mounted(root, "size=1m,ro"):
        for place in (root, root / "deeper", root.parent / "file", root.parent / "file/deeper"):
            with pytest.raises(SystemExit):
                download.main([f"root={place}", f"url={server.url}"], packed[1])
            (line,) = capsys.readouterr().err.splitlines()
            assert f"{place}: cannot be used" in line


def test_a_folder_without_permission_is_one_line(server, packed, root):
    root.mkdir()
    root.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        with pytest.raises(DownloadError, match=f"{root}.*: cannot be used .*Permission denied"):
            fetch(root, server, packed)
    finally:
        os.seteuid(user)


# Killed, and two at once


@pytest.fixture(scope="module")
def runner():
    running = Runner()
    yield running
    running.close()


def test_killed_at_any_step_the_next_run_finishes(server, packed, corpus, tmp_path, runner):
    table = packed[1][1:3]  # the test set
    for steps in itertools.count(0, 4):
        root = tmp_path / str(steps)
        runner.start(table, [f"root={root}", f"url={server.url}"], steps=steps)
        (code,) = runner.codes()
        vctk_demand.fetch(root, url=server.url, archives=table)
        assert_whole(root, {archive.name: corpus[archive.name] for archive in table})
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert steps > 30


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_stopped_in_a_download_the_next_run_goes_on(server, packed, corpus, root, runner, signal_, code):
    server.half_sent = threading.Event()
    (pid,) = runner.start(packed[1], [f"root={root}", f"url={server.url}"])
    assert server.half_sent.wait(120)
    while not any(path.stat().st_size for path in root.glob(".download/*.part")):  # sent is not yet written
        time.sleep(0.01)
    os.kill(pid, signal_)
    assert runner.codes() == [code]
    server.half_sent = None
    fetch(root, server, packed)
    assert_whole(root, corpus)
    assert any(asked for *_, asked in server.requests)  # by Range
    assert server.sent < 1.2 * sum(map(len, server.files.values()))


def test_two_at_once_share_the_work(server, packed, corpus, root, runner):
    server.seconds = 0.01
    run = [f"root={root}", f"url={server.url}"]
    runner.start(packed[1], run, run)
    assert runner.codes() == [0, 0]
    assert_whole(root, corpus)
    assert len(server.requests) == 5
