"""The demo page among strangers: where it listens, what it takes, what it gives to whom."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import stat
import time
from pathlib import Path

import httpx
import pytest
import torch
from conftest import make_voice
from loopback import served

from denoiser import audio
from denoiser.cli.demo import check_length, forget
from denoiser.errors import AudioError

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's address and its folder for temporary files, of 1 MB and 1 minute."""
    from conftest import MODEL, checkpoint_of

    from denoiser import Denoiser, models
    from denoiser.spectral import Spectral

    folder = tmp_path_factory.mktemp("page")
    torch.manual_seed(0)
    torch.save(checkpoint_of(Denoiser(models.build(**MODEL), Spectral(peak=5.0))), folder / "m.ckpt")
    (folder / "tmp").mkdir()
    process, address = served(folder / "m.ckpt", folder / "tmp", "limit=1", "minutes=1")
    yield address, folder
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert not [path for path in (folder / "tmp").iterdir() if path.name.startswith("denoiser-demo")]


def upload(address: str, path: Path) -> str:
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def enhance(address: str, path: str, **more) -> tuple[bool, str]:
    """Ask for an uploaded file to be enhanced, as a program would; whether it was, and all that was answered."""
    clip = {"path": path, "meta": {"_type": "gradio.FileData"}, **more}
    asked = httpx.post(
        f"{address}/gradio_api/call/enhance", json={"data": [clip, "m.ckpt", 0, 60, 0, True, False, -16]}, timeout=60
    )
    if asked.status_code != 200:
        return False, asked.text
    answer = httpx.get(f"{address}/gradio_api/call/enhance/{asked.json()['event_id']}", timeout=120).text
    return "event: complete" in answer, answer


@needs_gradio
def test_it_listens_on_loopback_alone_and_keeps_its_files_to_itself(page):
    address, folder = page
    with socket.socket() as other:
        other.settimeout(2)
        port = int(address.rpartition(":")[2])
        assert other.connect_ex(("127.0.0.2", port)) != 0  # not on every address
    (own,) = [path for path in (folder / "tmp").iterdir() if path.name.startswith("denoiser-demo")]
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


@needs_gradio
def test_a_file_comes_back_under_a_name_that_nobody_can_guess(page, tmp_path):
    address, folder = page
    audio.write(tmp_path / "talk.wav", make_voice(0.3, 16_000), 16_000)
    done, answer = enhance(address, upload(address, tmp_path / "talk.wav"))
    assert done, answer
    data = json.loads(next(line for line in answer.splitlines() if line.startswith("data: "))[6:])
    assert httpx.get(data[1]["url"]).content[:4] == b"RIFF"
    assert re.search(r"/[0-9a-f]{32,}/talk_enhanced\.wav$", data[1]["path"])
    outside = [path for path in folder.rglob("*enhanced*") if "denoiser-demo" not in str(path)]
    assert not outside


@needs_gradio
def test_no_other_file_is_given_or_taken(page, tmp_path):
    address, folder = page
    (own,) = [path for path in (folder / "tmp").iterdir() if path.name.startswith("denoiser-demo")]
    secret = folder / "secret.wav"
    audio.write(secret, make_voice(0.3, 16_000), 16_000)
    for path in (secret, folder / "m.ckpt", Path("/etc/passwd"), Path(__file__), own / "..", own):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404), path
    for path in (f"{own}/../../secret.wav", f"{own}/%2e%2e/%2e%2e/secret.wav"):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)
    for path in (str(secret), f"{own}/../../secret.wav", "http://127.0.0.1:9/a.wav", "https://example.com/a.wav"):
        assert not enhance(address, path)[0], path


@needs_gradio
def test_an_upload_has_an_end(page, tmp_path):
    address, folder = page
    many = {f"files{i}": (f"{i}.wav", bytes(900_000)) for i in range(4)}
    assert httpx.post(f"{address}/gradio_api/upload", files=many, timeout=60).status_code == 413
    large = {"files": ("a.wav", bytes(1_500_000))}
    assert httpx.post(f"{address}/gradio_api/upload", files=large, timeout=60).status_code == 413

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}  # and no Content-Length
    try:
        status = httpx.post(f"{address}/gradio_api/upload", content=endless(), headers=headers, timeout=60).status_code
    except httpx.TransportError:
        status = 413  # the connection was closed while it was sent
    assert status == 413
    held = sum(path.stat().st_size for path in (folder / "tmp").rglob("*") if path.is_file())
    assert held < 4_000_000


@needs_gradio
def test_a_recording_that_is_too_long_is_refused(page, tmp_path):
    address, _ = page
    audio.write(tmp_path / "long.flac", torch.zeros(1, 61 * 48_000), 48_000)
    done, answer = enhance(address, upload(address, tmp_path / "long.flac"))
    assert not done
    assert "longer than 1.0 minutes" in answer


def test_length_is_counted_whatever_a_header_says(tmp_path):
    audio.write(tmp_path / "a.mp3", torch.zeros(2, 50_000), 16_000)
    audio.write(tmp_path / "b.wav", torch.zeros(8, 20_000), 16_000)
    check_length(tmp_path / "a.mp3", 3.3)
    check_length(tmp_path / "b.wav", 5.1)
    for name, seconds in (("a.mp3", 3.0), ("b.wav", 4.9)):  # eight channels are four times the work of two
        with pytest.raises(AudioError, match="longer than"):
            check_length(tmp_path / name, seconds)


def test_a_slow_upload_is_ended():
    import asyncio

    from denoiser.cli.upload import Bounded

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass

    async def slow():
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def ask(**limits) -> int:
        sent = []

        async def send(message):
            sent.append(message)

        await Bounded(app, **limits)({"type": "http", "headers": []}, slow, send)
        return sent[0]["status"]

    assert asyncio.run(ask(size=10**6, seconds=0.3)) == 408
    assert asyncio.run(ask(size=3, seconds=30)) == 413


def test_what_is_old_is_deleted(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").touch()
    os.utime(tmp_path / "old", (0, time.time() - 100))
    forget(tmp_path, 50)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    shutil.rmtree(tmp_path / "new")
