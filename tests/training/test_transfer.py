"""One file from a server, whatever goes wrong on the way."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from loopback import Server
from served import corpus_files, packed_files, running_server  # noqa: F401, fixtures

from denoiser.data.vctk_demand import download
from denoiser.errors import DownloadError

QUICK = download.Patience(attempts=3, wait=0.01, longest=5)


def transfer(server: Server, path: Path, name: str = "clean_testset_wav.zip", limit: int = 10**7) -> bytes:
    download.transfer(server.url + name, path, limit, magic=b"PK", patience=QUICK)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


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
