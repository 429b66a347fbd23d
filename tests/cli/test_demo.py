"""The demo page and the report in a real browser: skipped where there is no Chromium."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, make_noise, make_voice
from loopback import served

from denoiser import Denoiser, audio
from denoiser.cli.demo import find_checkpoints
from denoiser.errors import CheckpointError
from denoiser.evaluation.page import Entry, write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


@pytest.fixture
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page()
        page.outside = []
        local = ("http://127.0.0.1", "data:", "blob:", "file:")
        page.on("request", lambda request: request.url.startswith(local) or page.outside.append(request.url))
        yield page
        chromium.close()


@pytest.fixture
def recording(tmp_path) -> Path:
    noisy = make_voice(2.0, 48_000) + make_noise(2.0, 48_000)
    audio.write(tmp_path / "my talk.wav", torch.cat([noisy, 0.5 * noisy]), 48_000)
    return tmp_path / "my talk.wav"


@needs_browser
def test_the_demo_page_denoises_a_dropped_clip(browser, checkpoint, recording, tmp_path):
    (tmp_path / "tmp").mkdir()
    process, address = served(checkpoint, tmp_path / "tmp")
    try:
        browser.goto(address)
        browser.wait_for_selector("#denoise")
        browser.set_input_files("#before input[type=file]", str(recording))
        browser.wait_for_selector("#before button[aria-label*=lay]", timeout=60_000)
        browser.click("#denoise")
        browser.wait_for_function("document.querySelector('#facts textarea').value.length > 0", timeout=60_000)
        assert browser.input_value("#facts textarea").startswith("2.0 s at 48000 Hz, 2 channels")
        with browser.expect_download() as download:
            browser.click("#download a")
        download.value.save_as(tmp_path / "after.wav")
        assert download.value.suggested_filename == "my talk_enhanced.wav"
        after, rate = audio.read(tmp_path / "after.wav")
        expected = Denoiser.from_checkpoint(checkpoint, "cpu").enhance(audio.read(recording)[0], rate)
        assert (after / after.abs().max() - expected / expected.abs().max()).abs().max() < 1e-3  # turned down to fit
        browser.wait_for_selector("#picture img")
        assert not browser.outside, "the page fetches from elsewhere"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    left = [path for path in (tmp_path / "tmp").iterdir() if path.name.startswith("denoiser-demo")]
    assert not left, "what was uploaded outlives the server"


@needs_browser
def test_the_report_opens_from_disk_plays_and_sorts(browser, recording, tmp_path):
    entries = []
    for index in range(3):
        source, target = tmp_path / f"take {index} <b>.wav", tmp_path / "out" / f"take {index} <b>.wav"
        waveform, rate = audio.read(recording)
        audio.write(source, waveform[:, : (index + 1) * 16_000], rate)
        audio.write(target, 0.1 * waveform[:, : (index + 1) * 16_000], rate)
        scores = {"noisy": {"pesq": 1.5, "stoi": 0.8}, "enhanced": {"pesq": 2.5 - index, "stoi": float("nan")}}
        entries.append(Entry(source, target, (index + 1) / 3, scores=scores))
    write_page(tmp_path / "out/report.html", entries, failures=["bad.wav: not readable <script>"])
    browser.goto((tmp_path / "out/report.html").as_uri())
    names = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[0].textContent)"
    worst_first = ["take 2 <b>.wav", "take 1 <b>.wav", "take 0 <b>.wav"]
    assert browser.evaluate(names) == worst_first
    browser.click("text=seconds")
    browser.click("text=seconds")
    assert browser.evaluate(names) == worst_first[::-1]
    assert "1.50 → 2.50" in browser.inner_text("tbody")
    assert "not readable <script>" in browser.inner_text(".failed >> nth=1")
    browser.wait_for_function("[...document.querySelectorAll('audio')].every(audio => audio.duration > 0)")
    durations = browser.evaluate("[...document.querySelectorAll('audio')].map(audio => audio.duration)")
    assert [round(seconds, 1) for seconds in durations] == [1.0, 1.0, 0.7, 0.7, 0.3, 0.3]
    assert browser.evaluate("[...document.querySelectorAll('img')].every(image => image.naturalWidth > 300)")
    link = browser.get_attribute("article >> nth=0 >> a", "href")
    assert link == "take%202%20%3Cb%3E.wav"
    assert not browser.outside


def test_checkpoints_are_found(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        find_checkpoints(str(tmp_path))
    for run in ("a", "b"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "checkpoints/best.ckpt").touch()
        (tmp_path / run / "checkpoints/last.ckpt").touch()
    assert list(find_checkpoints(str(tmp_path))) == ["a/checkpoints/best.ckpt", "b/checkpoints/best.ckpt"]
    assert list(find_checkpoints(f"{tmp_path}/a/checkpoints/last.ckpt")) == ["last.ckpt"]
    assert "small" in find_checkpoints("small")
    assert find_checkpoints("./small") == {"small": Path("small")}


@pytest.mark.parametrize(
    ("arguments", "line"), [(["ckpt=x", "prot=1"], "did you mean port"), (["ckpt="], "ckpt missing")]
)
def test_a_mistake_is_one_line(arguments, line, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "denoiser", "demo", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"error: .*{line}.*\n", done.stderr)
