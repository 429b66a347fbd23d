"""The page of a ranking: figures and sounds, in a browser."""

import json
import re
from pathlib import Path

import pytest

from browser import headless_browser, needs_browser  # noqa: F401
from conftest import make_noise, make_voice
from denoiser import audio
from denoiser.ranking import page
from denoiser.ranking.rank import rank
from denoiser.training import clips
from records import record, write


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


@needs_browser
def test_the_page_opens_from_disk_sorts_plays_and_fetches_nothing(browser, runs):
    rank([runs])
    errors = []
    browser.set_viewport_size({"width": 390, "height": 800})
    browser.on("pageerror", lambda error: errors.append(str(error)))
    browser.goto((runs / "ranking.html").as_uri())
    names = "[...document.querySelectorAll('#table + p + div tbody tr')].map(row => row.cells[1].textContent)"
    assert browser.evaluate(names) == ["unet10", "unet8", "unet6"]
    browser.click("th:has-text('val PESQ')")
    browser.click("th:has-text('val PESQ')")
    assert browser.evaluate(names) == ["unet6", "unet8", "unet10"]
    browser.click("th:has-text('GMAC/s')")
    assert browser.evaluate(names)[-1] == "unet8"  # an unknown value is last
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.wait_for_function("[...document.querySelectorAll('audio')].every(audio => audio.duration > 0)")
    assert browser.evaluate("[...document.querySelectorAll('img')].every(image => image.naturalWidth > 10)")
    assert not browser.outside
    assert not errors
