"""The page of a ranking: figures and sounds, in a browser."""

import json
import re
import shutil
from pathlib import Path

import pytest

from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.ranking import page
from denoiser.ranking.rank import rank
from denoiser.training import clips
from records import record, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def runs(tmp_path) -> Path:
    """Three runs, two of which left a clip to listen to."""
    for model in ("unet10", "unet8", "unet6"):
        folder = write(tmp_path / f"{model} <b>", record(model, macs_per_second=None if model == "unet8" else 1e9))
        if model != "unet8":
            leave_clip(folder)
    return tmp_path


def leave_clip(run: Path) -> None:
    voice, noise = make_voice(0.5, 16_000), make_noise(0.5, 16_000)
    clip = {"name": "p226 <1>", "noise_type": "bus", "snr_db": 2.5}
    (run / "clips").mkdir()
    for kind, sound in (("noisy", voice + noise), ("enhanced", voice + noise / 2), ("clean", voice)):
        clip[kind] = f"1_{kind}.mp3"
        (run / "clips" / clip[kind]).write_bytes(audio.mp3(sound, 16_000))
    (run / "clips/clips.json").write_text(json.dumps([clip]))


def test_the_page_has_players_of_the_sounds_that_runs_left(runs):
    rank([runs])
    text = (runs / "ranking.html").read_text()
    assert text.count("<audio") == 4  # noisy, two configurations, clean
    assert "bus noise, SNR 2.5 dB" in text
    assert "p226 &lt;1&gt;" in text
    assert text.count("data:image/svg+xml") == 4  # PESQ, STOI and SI-SDR against cost, learning curves
    assert not re.search(r"https?:|//\w", re.sub(r"base64,[\w+/=]+", "", text))


def test_a_page_without_matplotlib_and_sounds_has_no_figures_and_players_and_says_so(runs, monkeypatch):
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    rank([runs], sounds=False)
    text = (runs / "ranking.html").read_text()
    assert "Figures need matplotlib" in text
    assert "data:image/svg" not in text
    assert "<audio" not in text


def test_a_list_of_clips_names_no_file_outside_its_folder(tmp_path):
    leave_clip(tmp_path)
    assert clips.read(tmp_path)[0]["noisy"].is_file()
    listed = {**json.loads((tmp_path / "clips/clips.json").read_text())[0], "noisy": "../../etc/passwd"}
    (tmp_path / "clips/clips.json").write_text(json.dumps([listed]))
    assert clips.read(tmp_path)[0]["noisy"] == tmp_path / "clips/passwd"
    (tmp_path / "clips/clips.json").write_text("[{")
    assert clips.read(tmp_path) == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_page_opens_from_disk_sorts_plays_and_fetches_nothing(runs):
    sync_api = pytest.importorskip("playwright.sync_api")
    rank([runs])
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        outside, errors = [], []
        local = ("data:", "blob:", "file:")
        page.on("request", lambda request: request.url.startswith(local) or outside.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((runs / "ranking.html").as_uri())
        names = "[...document.querySelectorAll('#table + p + div tbody tr')].map(row => row.cells[1].textContent)"
        assert page.evaluate(names) == ["unet10", "unet8", "unet6"]
        page.click("th:has-text('val PESQ')")
        page.click("th:has-text('val PESQ')")
        assert page.evaluate(names) == ["unet6", "unet8", "unet10"]
        page.click("th:has-text('GMAC/s')")
        assert page.evaluate(names)[-1] == "unet8"  # an unknown value is last
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.wait_for_function("[...document.querySelectorAll('audio')].every(audio => audio.duration > 0)")
        assert page.evaluate("[...document.querySelectorAll('img')].every(image => image.naturalWidth > 10)")
        chromium.close()
    assert not outside
    assert not errors
