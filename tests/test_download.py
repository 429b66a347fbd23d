"""The corpus from a server: fetched, verified, unpacked, whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, composed, make_voice, train_here
from loopback import Runner, Server, described, tree, zipped

import denoiser.data
from denoiser import audio
from denoiser.data import download, published, vctk_demand
from denoiser.data.datamodule import PairedData
from denoiser.errors import ConfigError, CorpusError, DownloadError
from denoiser.spectral import Spectral

QUICK = download.Patience(attempts=3, wait=0.01, longest=5)
LOGS = {"log_testset.txt": b"p232_000 bus 17.5\np257_001 cafe 2.5\n", "log_readme.txt": b"name, noise, SNR\n"}


@pytest.fixture(scope="module")
def corpus(vctk) -> dict[str, dict[str, bytes]]:
    """What the folders of a whole corpus hold, by folder."""
    paths = sorted(vctk.iterdir(), key=lambda path: ("train" in path.name, path.name))
    folders = {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in paths}
    return {"logfiles": LOGS, **folders}


@pytest.fixture(scope="module")
def packed(corpus):
    """Its archives, with what macOS leaves in some, and the table of them."""
    bodies, table = {}, []
    for name, files in corpus.items():
        entries = {f"{name}/{file}": data for file, data in files.items()}
        if name == "logfiles":
            entries = files  # some lie in no folder
        else:
            entries |= {f"__MACOSX/{name}/._{file}": b"junk" for file in files}
        bodies[f"{name}.zip"] = zipped(entries)
        table.append(described(name, bodies[f"{name}.zip"], files, ".txt" if name == "logfiles" else ".wav"))
    return bodies, table


@pytest.fixture
def server(packed):
    with Server() as running:
        running.files = dict(packed[0])
        yield running
        running.shutdown()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "corpus"


def fetch(root: Path, server: Server, packed, **options) -> None:
    vctk_demand.fetch(root, url=server.url, archives=packed[1], **options)


def assert_whole(root: Path, corpus) -> None:
    """All of the corpus, and nothing else."""
    expected = {f"{name}/{file}": data for name, files in corpus.items() for file, data in files.items()}
    assert tree(root) == expected
    record = json.loads((root / "unpacked.json").read_text())["archives"]
    assert {name: entry["files"] for name, entry in record.items()} == {n: len(files) for n, files in corpus.items()}
    assert all(entry["md5"] for entry in record.values())


def transfer(server: Server, path: Path, name: str = "clean_testset_wav.zip", limit: int = 10**7) -> bytes:
    download.transfer(server.url + name, path, limit, magic=b"PK", patience=QUICK)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


# One file


def test_redirects_are_followed_and_head_is_never_asked(server, tmp_path):
    assert transfer(server, tmp_path / "a") == server.files["clean_testset_wav.zip"]
    assert server.requests == [("GET", "clean_testset_wav.zip", None)]


@pytest.mark.parametrize("validators", [True, False])
@pytest.mark.parametrize("lengths", [True, False])
def test_a_broken_transfer_goes_on_where_it_broke(server, tmp_path, validators, lengths):
    server.validators, server.lengths = validators, lengths
    server.faults = [{"drop": 20_000}, {"drop": 30_000}]
    body = server.files["clean_testset_wav.zip"]
    assert transfer(server, tmp_path / "a") == body
    assert [asked for *_, asked in server.requests] == [None, "bytes=20000-", "bytes=50000-"]
    assert server.sent == len(body)


def test_a_later_call_goes_on_too(server, tmp_path):
    server.faults = [{"drop": 20_000}, {"status": 503}, {"status": 503}]
    with pytest.raises(DownloadError, match=r"3 attempts in a row failed, .*503.* 0.0 MB are kept"):
        transfer(server, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    transfer(server, tmp_path / "a")
    assert server.requests[-1][2] == "bytes=20000-"


def test_without_ranges_it_starts_over(server, tmp_path):
    server.ranges = False
    server.faults = [{"drop": 20_000}]
    assert transfer(server, tmp_path / "a") == server.files["clean_testset_wav.zip"]


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_new_one(server, tmp_path):
    server.faults = [{"drop": 20_000}, {"status": 503}, {"status": 503}]
    with pytest.raises(DownloadError):
        transfer(server, tmp_path / "a")
    old = server.files["clean_testset_wav.zip"]
    server.files["clean_testset_wav.zip"] = old[:2] + old[:1:-1]  # of the same length
    assert transfer(server, tmp_path / "a") == old[:2] + old[:1:-1]


def test_a_wrong_answer_to_a_range_starts_over(server, tmp_path):
    server.faults = [{"drop": 20_000}, {"range": "bytes 7-99/100"}]
    assert transfer(server, tmp_path / "a") == server.files["clean_testset_wav.zip"]
    assert server.requests[-1][2] is None


def test_a_part_of_unknown_length_that_is_whole(server, tmp_path):
    body = server.files["clean_testset_wav.zip"]
    (tmp_path / "a.part").write_bytes(body)
    assert transfer(server, tmp_path / "a") == body
    assert server.sent == 0
    (tmp_path / "b").mkdir()
    (tmp_path / "b/a.part").write_bytes(body + b"more")  # of another version
    assert transfer(server, tmp_path / "b/a") == body


def test_waits_double_and_follow_retry_after(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.faults = [{"status": 503}, {"status": 429, "headers": {"Retry-After": "3"}}]
    transfer(server, tmp_path / "a")
    assert waits == [0.01, 3.0]
    server.faults = [{"status": 500}, {"status": 502}, {"status": 504}]
    with pytest.raises(DownloadError, match="3 attempts in a row failed, the last: HTTP 504"):
        transfer(server, tmp_path / "b")
    assert waits[2:] == [0.01, 0.02]
    server.faults = [{"status": 503, "headers": {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}}]
    with pytest.raises(DownloadError, match=r"503.*to be tried again in"):
        transfer(server, tmp_path / "b")


def test_progress_renews_patience(server, tmp_path):
    server.files["long.zip"] = b"PK" + os.urandom(6 << 20)
    server.faults = [{"drop": 5 << 18}] * 4  # more breaks than attempts, 1.25 MB apart
    assert transfer(server, tmp_path / "a", "long.zip") == server.files["long.zip"]


def test_a_server_that_says_nothing_is_asked_again(server, tmp_path):
    server.faults = [{"stall": 2.0}]
    url, hasty = f"{server.url}clean_testset_wav.zip", replace(QUICK, timeout=0.5)
    download.transfer(url, tmp_path / "a", 10**7, patience=hasty)
    assert len(server.requests) > 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 403}, "HTTP 403"),
        ({"send": ("text/html; charset=utf-8", b"<html>Maintenance</html>")}, "a web page .* came instead"),
        ({"send": ("application/zip", b"<html>Maintenance</html>")}, "begins with b'<html>"),
        ({"send": ("application/zip", b"PK" + b"x" * 10**6)}, "1000002 bytes, expected at most"),
    ],
)
def test_what_cannot_be_the_file_is_refused_at_once(server, tmp_path, fault, expected):
    server.faults = [fault]
    with pytest.raises(DownloadError, match=expected):
        transfer(server, tmp_path / "a", limit=500_000)
    assert len(server.requests) == 1
    assert not list(tmp_path.iterdir())


def test_more_than_was_announced_is_refused(server, tmp_path):
    server.lengths = False
    with pytest.raises(DownloadError, match="more than 5000 bytes"):
        transfer(server, tmp_path / "a", limit=5_000)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://a..b/", "http://[", "ftp://localhost/", "http://127.0.0.1:99999/"])
def test_no_address(url, tmp_path):
    with pytest.raises(DownloadError):
        download.transfer(url, tmp_path / "a", 1, patience=QUICK)


# The corpus


def test_one_command_from_nothing_to_a_verified_corpus(server, packed, corpus, root, capsys):
    vctk_demand.main([f"root={root}", f"url={server.url}"], packed[1])
    assert_whole(root, corpus)
    assert "clean_trainset_28spk_wav 8" in capsys.readouterr().out
    asked = len(server.requests)
    assert asked == 5
    vctk_demand.main([f"root={root}", f"url={server.url}"], packed[1])  # nothing is left to do
    assert len(server.requests) == asked
    assert "complete" in capsys.readouterr().out


def test_the_parts_that_are_asked_for(server, packed, corpus, root):
    fetch(root, server, packed, part="test")
    assert sorted(p.name for p in root.iterdir() if p.is_dir()) == [
        "clean_testset_wav",
        "logfiles",
        "noisy_testset_wav",
    ]
    for speakers, others in ((28, 56), (56, 28)):
        names = [a.name for a in vctk_demand.select(speakers, "all", vctk_demand.ARCHIVES)]
        assert len(names) == 5
        assert not [name for name in names if str(others) in name]


def test_archives_are_kept_where_asked_and_used_where_they_lie(server, packed, corpus, root):
    root.mkdir()
    mine, wrong = root / "noisy_testset_wav.zip", root / "clean_testset_wav.zip"
    mine.write_bytes(server.files[mine.name])
    wrong.write_bytes(b"half of it")
    fetch(root, server, packed, part="test", keep_archives=True)
    assert [name for _, name, _ in server.requests] == ["logfiles.zip", "clean_testset_wav.zip"]
    for name in ("logfiles", "clean_testset_wav", "noisy_testset_wav"):
        assert (root / f"{name}.zip").read_bytes() == server.files[f"{name}.zip"]
    fetch(root, server, packed, part="test")
    assert mine.exists()


def test_a_folder_that_was_there_is_taken_as_it_is(server, packed, corpus, root):
    folder = root / "clean_testset_wav"
    folder.mkdir(parents=True)
    for name, data in corpus["clean_testset_wav"].items():
        (folder / name).write_bytes(data)
    fetch(root, server, packed)
    assert "clean_testset_wav.zip" not in [name for _, name, _ in server.requests]
    del server.requests[:]
    fetch(root, server, packed)
    assert not server.requests


@pytest.mark.parametrize("change", ["fewer", "rate", "text"])
def test_a_folder_that_holds_something_else_is_left_alone(server, packed, corpus, root, change):
    folder = root / "clean_testset_wav"
    folder.mkdir(parents=True)
    for name, data in corpus["clean_testset_wav"].items():
        (folder / name).write_bytes(data)
    if change == "fewer":
        (folder / "p232_000.wav").unlink()
    elif change == "rate":
        audio.write(folder / "p232_000.wav", make_voice(0.1, 16_000), 16_000)
    else:
        (folder / "p232_000.wav").write_text("no sound")
    before = tree(root)
    with pytest.raises(
        CorpusError, match=r"clean_testset_wav: is not what .*(1 .wav files|16000 Hz|not readable).*move"
    ):
        fetch(root, server, packed)
    assert tree(root) == before
    assert not server.requests


def test_a_lost_file_is_noticed_and_a_lost_folder_fetched(server, packed, corpus, root):
    fetch(root, server, packed)
    lost = root / "noisy_testset_wav/p232_000.wav"
    lost.write_bytes(b"")
    with pytest.raises(CorpusError, match=r"noisy_testset_wav: holds 2 files, .* when it was unpacked there were 2, "):
        fetch(root, server, packed)
    for path in lost.parent.iterdir():
        path.unlink()
    lost.parent.rmdir()
    del server.requests[:]
    fetch(root, server, packed)
    assert [name for _, name, _ in server.requests] == ["noisy_testset_wav.zip"]
    assert_whole(root, corpus)


def test_a_wrong_checksum_is_fetched_once_more(server, packed, corpus, root, capsys):
    body = bytearray(server.files["logfiles.zip"])
    body[40] ^= 1
    server.faults = [{"send": ("application/zip", bytes(body))}]
    fetch(root, server, packed)
    assert_whole(root, corpus)
    assert "downloading it once more" in capsys.readouterr().err


def test_a_wrong_checksum_twice_is_one_line_and_leaves_nothing(server, packed, corpus, root, capsys):
    server.files["logfiles.zip"] = server.files["logfiles.zip"][:-30]  # a truncated archive
    with pytest.raises(SystemExit) as leaving:
        vctk_demand.main([f"root={root}", f"url={server.url}"], packed[1])
    assert leaving.value.code == 2
    assert "logfiles.zip: MD5 " in capsys.readouterr().err.splitlines()[-1]
    assert not list(root.iterdir())
    server.files = dict(packed[0])
    fetch(root, server, packed)
    assert_whole(root, corpus)


def linked(name: str) -> bytes:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return zipped({info: b"/etc/passwd"})


def lying(declared: int) -> bytes:
    """A file of 9 MB whose headers, both of them, declare another size."""
    return zipped({"a.wav": b"\0" * 9_000_000}).replace(struct.pack("<L", 9_000_000), struct.pack("<L", declared))


HOSTILE = {
    "parent": (zipped({"x/../../a.wav": b"x"}), "points out of the folder"),
    "backslash": (zipped({"x\\..\\..\\a.wav": b"x"}), "points out of the folder"),
    "absolute": (zipped({"/tmp/a.wav": b"x"}), "points out of the folder"),
    "drive": (zipped({"C:/a.wav": b"x"}), "points out of the folder"),
    "link": (linked("a.wav"), "is a link or a device"),
    "case": (zipped({"a.wav": b"x", "x/A.WAV": b"y"}), "two files that would be"),
    "name": (zipped({"a\n.wav": b"x"}), "no name for a file"),
    "method": (zipped({"a.wav": b"x"}, zipfile.ZIP_BZIP2), "packed by method 12"),
    "bomb": (zipped({"a.wav": b"\0" * 9_000_000}), "would unpack to 9000000 bytes"),
    "larger than declared": (lying(10), "damaged.*CRC"),
    "smaller than declared": (lying(9_500_000), "has 9000000 bytes, its header says 9500000"),
    "truncated": (zipped({"a.wav": os.urandom(9_000)})[:5_000], "damaged"),
    "cut at the front": (zipped({"a.wav": b"x"})[:-6] + b"\x99\0\0\0\0\0", "damaged"),
    "without a name": (zipped({"a.wav": b"x"}).replace(b"a.wav", b"\0.wav"), "0 .wav files, expected 1"),
    "too few": (zipped({"b.txt": b"x"}), "0 .wav files, expected 1"),
    "no sound": (zipped({"a.wav": b"x" * 100}), "not readable as audio"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_that_does_harm_is_refused(server, tmp_path, kind):
    body, expected = HOSTILE[kind]
    server.files = {"logfiles.zip": body}
    archive = described("logfiles", body, {"a.wav": b"x" * (10**7 if kind == "smaller than declared" else 10**6)})
    root = tmp_path / "deep" / "corpus"
    with pytest.raises(DownloadError, match=expected):
        vctk_demand.fetch(root, url=server.url, archives=[archive])
    assert set(tree(tmp_path)) <= {"deep/corpus/.download/logfiles.zip", "deep/corpus/.download.lock"}


def test_headers_are_read(server, root):
    buffer = root.parent / "a.wav"
    for rate, channels, expected in ((16_000, 1, "16000 Hz, 1 channels"), (48_000, 2, "48000 Hz, 2 channels")):
        audio.write(buffer, make_voice(0.1, rate).expand(channels, -1), rate)
        body = zipped({"a.wav": buffer.read_bytes()})
        server.files = {"testset.zip": body}
        with pytest.raises(DownloadError, match=f"testset.zip: a.wav: {expected}.* expected 48000 Hz, 1 channel"):
            vctk_demand.fetch(root, url=server.url, archives=[described("testset", body, {"a.wav": b"x" * 10_000})])
        assert not (root / "testset").exists()
        (root / ".download/testset.zip").unlink()


def test_httpx_missing_is_one_line(server, packed, root, monkeypatch):
    monkeypatch.delitem(sys.modules, "denoiser.data.download")
    monkeypatch.delattr(denoiser.data, "download")
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(DownloadError, match=r'httpx: pip install "denoiser\[download\]"'):
        fetch(root, server, packed)


# The disk


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
                vctk_demand.main([f"root={place}", f"url={server.url}"], packed[1])
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


# From the command line, and in training


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "root missing"),
        (["root=a", "speaker=28"], "did you mean speakers?"),
        (["root=a", "speakers=30"], "speakers=30: expected 28 or 56"),
        (["root=a", "part=train"], "part=train: expected all or test"),
        (["root=a", "keep_archives=yes"], "keep_archives=yes: expected true or false"),
        (["root=a", "url=ftp://x"], "url=ftp://x: expected an address"),
        (["a"], "a: settings are key=value"),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, capsys):
    with pytest.raises(SystemExit) as leaving:
        vctk_demand.main(arguments)
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


def test_the_command(server, root):
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        module = [sys.executable, "-m", "denoiser.data.vctk_demand", *arguments]
        return subprocess.run(module, cwd=ROOT, capture_output=True, text=True, timeout=120)

    helped = command("--help")
    assert helped.returncode == 0
    assert "speakers=" in helped.stdout
    assert "9.5 GB" in helped.stdout
    server.files = {}
    missing = command(f"root={root}", f"url={server.url}")
    assert missing.returncode == 2
    assert missing.stderr == (
        f"error: {server.url}logfiles.zip: HTTP 404 Not Found; check the address, or name a mirror\n"
    )
    assert not list(root.iterdir())


def test_the_help_says_what_the_table_needs(tmp_path):
    for speakers, part, most, end in ((28, "all", 9.5, 7.0), (56, "all", 18.1, 13.7), (28, "test", 0.6, 0.4)):
        archives = vctk_demand.select(speakers, part, vctk_demand.ARCHIVES)
        assert published.peak(tmp_path, archives) / 1e9 == pytest.approx(most, abs=0.2)
        assert sum(a.unpacked for a in archives) / 1e9 == pytest.approx(end, abs=0.1)


def test_training_downloads_where_it_is_told_to(server, packed, root, tmp_path, monkeypatch):
    monkeypatch.setattr(vctk_demand, "URL", server.url)
    monkeypatch.setattr(vctk_demand, "ARCHIVES", packed[1])
    for _ in range(2):
        data = PairedData(Spectral(), str(root), download=True, cache=str(tmp_path / "cache"))
        data.prepare_data()
        data.prepare_data()
        data.setup()
        assert {part: len(names) for part, names in data.names.items()} == {"train": 4, "val": 4, "test": 2}
        assert len(server.requests) == 5


def test_training_without_a_corpus_names_the_command(tmp_path):
    for options in ([], ["data.download=false"]):
        with pytest.raises(CorpusError, match=r"python -m denoiser.data.vctk_demand root=.*/none fetches it"):
            train_here(tmp_path, f"data.root={tmp_path}/none", "trainer.gpus=0", *options)
    assert composed("data.root=x").data.download is False


def test_only_vctk_demand_is_downloaded(tmp_path):
    for options in (
        ["data=folders", "data.download=true"],
        ["data.download=yes"],
        ["data=synthetic", "data.download=true"],
    ):
        with pytest.raises(Exception, match=r"data\.download") as error:
            train_here(tmp_path, f"data.root={tmp_path}", "trainer.gpus=0", *options)
        assert isinstance(error.value.__cause__ or error.value, ConfigError)
