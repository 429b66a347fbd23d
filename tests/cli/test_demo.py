"""The demo page: it denoises a clip in a real browser, and gives and takes no other file."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import torch

from browser import headless_browser, needs_browser  # noqa: F401
from conftest import ROOT, checkpoint_of, make_noise, make_voice
from denoiser import Denoiser, audio
from denoiser.cli.demo import find_checkpoints, main
from denoiser.errors import CheckpointError, ConfigError

pytest.importorskip("gradio")


@contextmanager
def serving(checkpoint: Path, folder: Path, *settings: str):
    """Serve the page in a process of its own, end it by SIGTERM, and expect that nothing outlives it."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "denoiser", "demo", f"ckpt={checkpoint}", f"port={port}", "device=cpu", *settings]
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 300
        while "Running on local URL" not in (text := (folder / "log.txt").read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert not list(folder.glob("denoiser-demo*"))


@pytest.fixture(scope="module")
def page(denoiser, tmp_path_factory):
    """The page's address, which takes files of 1 MB, and the folder above its temporary one."""
    folder = tmp_path_factory.mktemp("page")
    torch.save(checkpoint_of(denoiser), folder / "m.ckpt")
    with serving(folder / "m.ckpt", folder / "tmp", "limit=1") as address:
        yield address, folder


def upload(address: str, path: Path) -> str:
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (path.name, path.read_bytes())}, timeout=None)
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


def enhance(address: str, path: str | None) -> tuple[bool, str]:
    """Ask for an uploaded file to be enhanced, as a program would; return the success and the whole answer."""
    clip = path and {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = [clip, "m.ckpt", 0, None, 0, True, None]
    asked = httpx.post(f"{address}/gradio_api/call/enhance", json={"data": data}, timeout=None)
    if asked.status_code != 200:
        return False, asked.text
    event = asked.json()["event_id"]
    answer = httpx.get(f"{address}/gradio_api/call/enhance/{event}", timeout=None).text
    return "event: complete" in answer, answer


@needs_browser
def test_the_page_denoises_a_dropped_clip(browser, page, tmp_path):
    address, folder = page
    noisy = make_voice(2.0, 48_000) + make_noise(2.0, 48_000)
    recording = tmp_path / "my talk.wav"
    audio.write(recording, torch.cat([noisy, 0.5 * noisy]), 48_000)
    browser.set_default_timeout(0)
    browser.goto(address)
    browser.wait_for_selector("#denoise")
    browser.set_input_files("#before input[type=file]", str(recording))
    browser.wait_for_selector("#before button[aria-label*=lay]")
    browser.click("#denoise")
    browser.wait_for_function("document.querySelector('#facts textarea').value.length > 0")
    assert browser.input_value("#facts textarea").startswith("2.0 s at 48000 Hz, channels: 2")
    with browser.expect_download() as download:
        browser.click("#download a")
    download.value.save_as(tmp_path / "after.wav")
    assert download.value.suggested_filename == "my talk_enhanced.wav"
    browser.wait_for_selector("#picture img")
    assert not browser.outside, "the page fetches from elsewhere"
    after, rate = audio.read(tmp_path / "after.wav")
    expected = Denoiser.from_checkpoint(folder / "m.ckpt", "cpu").enhance(audio.read(recording)[0], rate)
    # Both are normalised, as the page turns a loud result down.
    assert (after / after.abs().max() - expected / expected.abs().max()).abs().max() < 1e-3


def test_it_listens_on_loopback_alone_and_keeps_its_files_private(page, tmp_path):
    address, folder = page
    with socket.socket() as other:
        port = int(address.rpartition(":")[2])
        # Another address of this machine.
        assert other.connect_ex(("127.0.0.2", port)) != 0
    (private,) = (folder / "tmp").glob("denoiser-demo*")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    # A result has a name that nobody can guess.
    audio.write(tmp_path / "talk.wav", make_voice(0.3, 16_000), 16_000)
    done, answer = enhance(address, upload(address, tmp_path / "talk.wav"))
    assert done, answer
    data = json.loads(next(line for line in answer.splitlines() if line.startswith("data: "))[6:])
    assert httpx.get(data[1]["url"]).content[:4] == b"RIFF"
    assert re.search(r"/[0-9a-f]{32,}/talk_enhanced\.wav$", data[1]["path"])
    assert not [path for path in folder.rglob("*enhanced*") if "denoiser-demo" not in str(path)]


def test_a_mistake_of_a_visitor_leaves_no_traceback_in_the_console(page, tmp_path):
    address, folder = page
    (tmp_path / "talk.wav").write_bytes(b"RIFF of nothing")
    for clip in (None, upload(address, tmp_path / "talk.wav")):
        assert not enhance(address, clip)[0]
    assert "Traceback" not in (folder / "tmp/log.txt").read_text()


def test_no_other_file_is_given_or_taken(page):
    address, folder = page
    (private,) = (folder / "tmp").glob("denoiser-demo*")
    secret = folder / "secret.wav"
    audio.write(secret, make_voice(0.3, 16_000), 16_000)
    paths = [secret, folder / "m.ckpt", "/etc/passwd", __file__, f"{private}/..", private]
    for path in [*paths, f"{private}/../../secret.wav", f"{private}/%2e%2e/%2e%2e/secret.wav"]:
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404), path
    for path in (str(secret), f"{private}/../../secret.wav", "http://127.0.0.1:9/a.wav"):
        assert not enhance(address, path)[0], path


def test_an_upload_over_the_limit_is_refused(page):
    address, folder = page
    large = {"files": ("a.wav", bytes(1_500_000))}
    assert httpx.post(f"{address}/gradio_api/upload", files=large, timeout=None).status_code == 413

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
        for _ in range(64):
            yield bytes(1 << 20)

    # Without a Content-Length.
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    try:
        answer = httpx.post(f"{address}/gradio_api/upload", content=endless(), headers=headers, timeout=None)
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # the connection was closed while it was sent
    held = sum(path.stat().st_size for path in (folder / "tmp").rglob("*") if path.is_file())
    assert held < 4_000_000


def test_a_folder_of_runs_offers_the_best_checkpoint_of_each(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        find_checkpoints(str(tmp_path))
    for name in ("a/checkpoints/best.ckpt", "a/checkpoints/last.ckpt", "b/checkpoints/best.ckpt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_checkpoints(str(tmp_path))) == ["a/checkpoints/best.ckpt", "b/checkpoints/best.ckpt"]
    assert list(find_checkpoints(f"{tmp_path}/a/checkpoints/last.ckpt")) == ["last.ckpt"]
    assert "small" in find_checkpoints("small")
    assert find_checkpoints("./small") == {"small": Path("small")}


def test_a_mistake_is_one_line():
    with pytest.raises(ConfigError, match=r"^prot=1: .*did you mean port"):
        main(["prot=1"])
