"""VCTK-DEMAND from a server: downloaded, verified, unpacked, and continued after a kill."""

import fcntl
import functools
import hashlib
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import composed, largest_file, train_here
from denoiser import filesystem
from denoiser.cli import download as command
from denoiser.data import vctk_demand
from denoiser.data.datamodule import PairedData
from denoiser.data.vctk_demand import Archive, download
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral
from loopback import Server, zipped


@pytest.fixture(scope="module")
def corpus(vctk) -> dict[str, dict[str, bytes]]:
    """The files of a small corpus, by folder."""
    return {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in sorted(vctk.iterdir())}


@pytest.fixture(scope="module")
def bodies(corpus) -> dict[str, bytes]:
    """Its ZIP files."""
    return {name: zipped({f"{name}/{file}": data for file, data in files.items()}) for name, files in corpus.items()}


@pytest.fixture(scope="module")
def archives(corpus, bodies) -> list[Archive]:
    found = []
    for name, files in corpus.items():
        md5, size = hashlib.md5(bodies[name]).hexdigest(), sum(map(len, files.values()))
        found.append(Archive(name, md5, len(bodies[name]), size, len(files), Path(next(iter(files))).suffix))
    return found


@pytest.fixture
def server(bodies, monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0.0)
    with Server() as running:
        running.files = {f"{name}.zip": body for name, body in bodies.items()}
        yield running
        running.shutdown()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "corpus"


@pytest.fixture
def fetch(server, archives, root):
    return functools.partial(vctk_demand.fetch, root, url=server.url, archives=archives)


def assert_complete(root: Path, corpus: dict[str, dict[str, bytes]]) -> None:
    """Assert that all of the corpus is there, and nothing else but a lock."""
    expected = {f"{name}/{file}": data for name, files in corpus.items() for file, data in files.items()}
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    found.pop(".download.lock", None)
    assert found == expected
    assert sorted(path.name for path in root.iterdir() if path.name != ".download.lock") == sorted(corpus)


def test_one_command_downloads_the_corpus_and_then_has_nothing_to_do(server, archives, corpus, root, capsys):
    for _ in range(2):
        command.main([f"root={root}", f"url={server.url}"], archives)
        assert_complete(root, corpus)
        assert len(server.requests) == 5
        assert f"{root}: complete: clean_testset_wav" in capsys.readouterr().out


def test_only_the_parts_asked_for_are_downloaded(fetch, root):
    fetch(part="test")
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    assert folders == ["clean_testset_wav", "logfiles", "noisy_testset_wav"]
    for speakers, others in ((28, 56), (56, 28)):
        names = [archive.name for archive in vctk_demand.select(speakers, "all")]
        assert len(names) == 5
        assert not [name for name in names if str(others) in name]


def test_folders_and_whole_archives_that_are_there_are_used_and_stay(server, fetch, vctk, bodies, root):
    shutil.copytree(vctk / "logfiles", root / "logfiles")
    (root / "noisy_testset_wav.zip").write_bytes(bodies["noisy_testset_wav"])
    (root / "clean_testset_wav.zip").write_bytes(b"half of it")
    fetch(part="test")
    assert [name for name, _ in server.requests] == ["clean_testset_wav.zip"]
    assert (root / "noisy_testset_wav.zip").read_bytes() == bodies["noisy_testset_wav"]
    assert (root / "clean_testset_wav.zip").read_bytes() == b"half of it"


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_folder_with_other_files_is_left_alone(server, fetch, vctk, root, change):
    folder = root / "clean_testset_wav"
    shutil.copytree(vctk / "clean_testset_wav", folder)
    change(folder / "p232_000.wav")
    before = sorted(folder.iterdir())
    with pytest.raises(CorpusError, match=r"clean_testset_wav: holds 1 \.wav files that are not empty, expected 2;"):
        fetch()
    assert sorted(folder.iterdir()) == before
    assert not server.requests


def test_too_small_a_disk_is_refused_first(server, archives, root):
    large = [replace(archive, unpacked=10**15) for archive in archives]
    with pytest.raises(CorpusError, match=r"about 5000000.\d+ GB are needed and .* GB are free"):
        vctk_demand.fetch(root, url=server.url, archives=large)
    assert not server.requests


@pytest.mark.parametrize("limit", [20_000, 70_000])  # bytes of a file: less than an archive; less than a WAV file
def test_after_a_full_disk_the_same_command_continues(server, fetch, corpus, root, limit):
    with largest_file(limit), pytest.raises(CorpusError, match=r"cannot be used \(File too large\); what was "):
        fetch()
    fetch()
    assert_complete(root, corpus)
    assert any(asked for _, asked in server.requests)


def test_a_folder_that_cannot_be_used_is_one_line(server, archives, root, capsys):
    root.touch()
    for place in (root, root / "deeper"):
        with pytest.raises(SystemExit):
            command.main([f"root={place}", f"url={server.url}"], archives)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {place}: cannot be used (")


def fetch_or_die(root: Path, url: str, archives: list[Archive], steps: int) -> None:
    """Fetch, or be killed before the ``steps``-th change of a file in the root."""
    changes = itertools.count(1)

    def hook(event: str, arguments: tuple) -> None:
        is_file = event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(root) in str(arguments[0])
        if is_file and next(changes) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    vctk_demand.fetch(root, url=url, archives=archives)


def started(root: Path, server: Server, archives: list[Archive], steps: int = 0) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=fetch_or_die, args=(root, server.url, archives, steps))
    process.start()
    return process


def test_killed_at_any_step_the_next_run_finishes(server, archives, corpus, tmp_path):
    table = [archive for archive in archives if "testset" in archive.name]
    code, steps = -signal.SIGKILL, 1
    while code:
        root = tmp_path / str(steps)
        process = started(root, server, table, steps)
        process.join()
        code = process.exitcode
        assert code in (0, -signal.SIGKILL)
        vctk_demand.fetch(root, url=server.url, archives=table)
        assert_complete(root, {archive.name: corpus[archive.name] for archive in table})
        steps += 3
    assert steps > 20


def test_two_processes_share_the_work(server, archives, corpus, root):
    processes = [started(root, server, archives) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert_complete(root, corpus)
    assert len(server.requests) == 5


def test_a_process_that_waited_and_one_that_comes_later_share_one_lock(fetch, root):
    root.mkdir()
    waiting = os.open(root / ".download.lock", os.O_RDWR | os.O_CREAT)
    fetch(part="test")
    try:
        fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert filesystem.lock(root / ".download.lock") is None
    finally:
        os.close(waiting)


# From the command line, and in training


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "root missing"),
        (["root=a", "speaker=28"], "did you mean speakers?"),
        (["root=a", "speakers=30"], "speakers=30: expected 28 or 56"),
        (["root=a", "part=train"], "part=train: expected all or test"),
        (["root=a", "url=ftp://x"], "url=ftp://x: expected an address"),
        (["a"], "a: no such setting. Settings are key=value"),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, capsys):
    with pytest.raises(SystemExit) as leaving:
        command.main(arguments)
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


def test_training_downloads_the_corpus_if_asked(server, fetch, root, tmp_path, monkeypatch):
    monkeypatch.setattr(vctk_demand, "fetch", lambda folder: fetch() if folder == root else None)
    for _ in range(2):
        data = PairedData(Spectral(), str(root), download=True, cache=str(tmp_path / "cache"))
        data.prepare_data()
        data.setup()
        assert {part: len(names) for part, names in data.names.items()} == {"train": 4, "val": 4, "test": 2}
        assert len(server.requests) == 5


def test_training_without_a_corpus_names_the_command(tmp_path):
    with pytest.raises(
        CorpusError,
        match=r"python -m denoiser download root=.*/none fetches it;.*data=folders data.root=FOLDER.*data=synthetic",
    ):
        train_here(tmp_path, f"data.root={tmp_path}/none", "trainer.gpus=0")
    assert composed("data.root=x").data.download is False


@pytest.mark.parametrize(
    "options", ["data=folders data.download=true", "data.download=yes", "data=synthetic data.download=true"]
)
def test_only_vctk_demand_is_downloaded(tmp_path, options):
    with pytest.raises(ConfigError, match=r"data\.download"):
        train_here(tmp_path, f"data.root={tmp_path}", "trainer.gpus=0", *options.split())
