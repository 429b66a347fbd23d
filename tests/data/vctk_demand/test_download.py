"""Download of one file from a server that fails, and unpacking of archives that do harm."""

import hashlib
import os
from pathlib import Path

import pytest

from denoiser.data.vctk_demand import download
from denoiser.errors import CorpusError
from loopback import Server, zipped

NAME = "a.zip"
BODY = b"PK" + os.urandom(200_000)


@pytest.fixture(name="server")
def running_server(monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0.0)
    monkeypatch.setattr(download, "ATTEMPTS", 3)
    with Server() as server:
        server.files = {NAME: BODY}
        yield server
        server.shutdown()


def downloaded(server: Server, folder: Path) -> bytes:
    download.download(server.url + NAME, folder / NAME)
    assert [path.name for path in folder.iterdir()] == [NAME]
    return (folder / NAME).read_bytes()


def ranges(server: Server) -> list[str | None]:
    return [asked for _, asked in server.requests]


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([], [None]),
        ([{"drop": 50_000}, {"drop": 70_000}], [None, "bytes=50000-", "bytes=120000-"]),
        # Progress resets the count of attempts.
        ([{"drop": 20_000}] * 5, [None, *(f"bytes={20_000 * i}-" for i in range(1, 6))]),
        ([{"drop": 50_000}, {"range": "bytes 7-99/100"}], [None, "bytes=50000-", None]),
    ],
)
def test_a_dropped_connection_is_continued_where_it_broke(server, tmp_path, faults, expected):
    server.faults = faults.copy()
    assert downloaded(server, tmp_path) == BODY
    assert ranges(server) == expected


def test_a_later_call_continues_the_part(server, tmp_path):
    server.faults = [{"drop": 50_000}, {"status": 503}, {"status": 429}]
    with pytest.raises(CorpusError, match=r"3 attempts in a row failed, the last: HTTP 429 .*0\.1 MB are kept"):
        downloaded(server, tmp_path)
    assert not (tmp_path / NAME).exists()
    assert downloaded(server, tmp_path) == BODY
    assert ranges(server)[-1] == "bytes=50000-"


@pytest.mark.parametrize(
    ("part", "has_ranges", "requests"), [(BODY, True, 1), (BODY + b"more", True, 2), (BODY[:50_000], False, 1)]
)
def test_a_part_that_is_complete_too_long_or_cannot_be_continued(server, tmp_path, part, has_ranges, requests):
    server.has_ranges = has_ranges
    (tmp_path / f"{NAME}.part").write_bytes(part)
    assert downloaded(server, tmp_path) == BODY
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 403}, "HTTP 403 Forbidden; check the address"),
        ({"send": ("text/html; charset=utf-8", b"<html>Maintenance</html>")}, "a web page .* came instead"),
    ],
)
def test_a_refusal_or_a_web_page_ends_the_download_at_once(server, tmp_path, fault, message):
    server.faults = [fault]
    with pytest.raises(CorpusError, match=message):
        downloaded(server, tmp_path)
    assert len(server.requests) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://a..b/", "http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:1/"])
def test_an_address_that_nobody_answers_is_one_line(server, url, tmp_path):
    with pytest.raises(CorpusError):
        download.download(url, tmp_path / NAME)


@pytest.mark.parametrize("wrong", [b"PK" + bytes(1000), BODY[:-30]])
def test_a_wrong_checksum_is_refused_and_downloaded_again_by_the_next_call(server, tmp_path, wrong):
    server.has_lengths = False
    server.faults = [{"send": ("application/zip", wrong)}]
    path, md5 = tmp_path / NAME, hashlib.md5(BODY).hexdigest()
    with pytest.raises(CorpusError, match=f"expected {md5}: not the published file"):
        download.fetch_archive(server.url + NAME, path, md5)
    assert not list(tmp_path.iterdir())
    download.fetch_archive(server.url + NAME, path, md5)
    assert path.read_bytes() == BODY


def test_unpacking_takes_the_wanted_files_out_of_their_folders(tmp_path):
    entries = {"x/a.wav": b"a", "x/y/b.WAV": b"b", "__MACOSX/x/._a.wav": b"junk", "x/.c.wav": b"junk", "d.txt": b"d"}
    (tmp_path / NAME).write_bytes(zipped(entries))
    (tmp_path / "out").mkdir()
    download.unpack(tmp_path / NAME, tmp_path / "out", ".wav")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"a.wav": b"a", "b.WAV": b"b"}


@pytest.mark.parametrize("name", ["x/../../a.wav", "x\\..\\..\\a.wav", "/tmp/a.wav", "C:/a.wav", "a.wav:stream"])
def test_a_path_out_of_the_folder_is_refused(tmp_path, name):
    (tmp_path / NAME).write_bytes(zipped({name: b"x"}))
    (tmp_path / "deep/out").mkdir(parents=True)
    with pytest.raises(CorpusError, match="lies outside of the folder; refused"):
        download.unpack(tmp_path / NAME, tmp_path / "deep/out", ".wav")
    assert [path.name for path in tmp_path.rglob("*.wav*")] == []


@pytest.mark.parametrize("damaged", [zipped({"a.wav": os.urandom(9_000)})[:5_000], b"PK"], ids=["half", "start"])
def test_a_damaged_archive_is_one_line(tmp_path, damaged):
    (tmp_path / NAME).write_bytes(damaged)
    with pytest.raises(CorpusError, match="is damaged"):
        download.unpack(tmp_path / NAME, tmp_path, ".wav")
