"""The corpus from a server: fetched, verified, unpacked."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT, composed, make_voice, train_here
from loopback import described, tree, zipped
from served import assert_whole, corpus_files, corpus_root, fetch, packed_files, running_server  # noqa: F401, fixtures

import denoiser.data
from denoiser import audio
from denoiser.cli import download
from denoiser.data import vctk_demand
from denoiser.data.datamodule import PairedData
from denoiser.data.vctk_demand import corpus
from denoiser.errors import ConfigError, CorpusError, DownloadError
from denoiser.spectral import Spectral


def test_one_command_from_nothing_to_a_verified_corpus(server, packed, corpus, root, capsys):
    download.main([f"root={root}", f"url={server.url}"], packed[1])
    assert_whole(root, corpus)
    assert "clean_trainset_28spk_wav 8" in capsys.readouterr().out
    asked = len(server.requests)
    assert asked == 5
    download.main([f"root={root}", f"url={server.url}"], packed[1])  # nothing is left to do
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
        download.main([f"root={root}", f"url={server.url}"], packed[1])
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
    monkeypatch.delitem(sys.modules, "denoiser.data.vctk_demand.download")
    monkeypatch.delattr(denoiser.data, "download")
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(DownloadError, match=r'httpx: pip install "denoiser\[download\]"'):
        fetch(root, server, packed)


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
        download.main(arguments)
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert expected in line


def test_the_command(server, root):
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        module = [sys.executable, "-m", "denoiser", "download", *arguments]
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
        assert corpus.peak(tmp_path, archives) / 1e9 == pytest.approx(most, abs=0.2)
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
        with pytest.raises(CorpusError, match=r"python -m denoiser download root=.*/none fetches it"):
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
