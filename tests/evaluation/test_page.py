"""The report of a folder in a real browser."""

import torch

from browser import headless_browser, needs_browser  # noqa: F401
from conftest import make_noise, make_voice
from denoiser import audio, figures
from denoiser.evaluation.page import write_page


def test_a_source_of_another_rate_than_its_result_keeps_its_pitch(tmp_path):
    tone = 0.3 * torch.sin(2 * torch.pi * 1_000 * torch.arange(22_050) / 44_100)[None]
    audio.write(tmp_path / "a.wav", tone, 44_100)
    audio.write(tmp_path / "b.wav", audio.resample(tone, 44_100, 48_000), 48_000)
    before, after, rate = figures.beginnings(tmp_path / "a.wav", tmp_path / "b.wav", 0.4)
    assert (rate, before.shape) == (48_000, after.shape)
    assert torch.allclose(before, after, atol=0.02)


@needs_browser
def test_the_report_opens_from_disk_plays_and_sorts(browser, tmp_path):
    rate, gains, scores = 48_000, {}, {}
    noisy = (make_voice(1.0, rate) + make_noise(1.0, rate)).repeat(2, 1)
    for index in range(3):
        source, target = tmp_path / f"take {index} <b>.wav", tmp_path / "out" / f"take {index} <b>.wav"
        excerpt = noisy[:, : (index + 1) * 16_000]
        audio.write(source, excerpt, rate)
        audio.write(target, 0.1 * excerpt, rate)
        enhanced = {"pesq": 2.5 - index, "stoi": float("nan")}
        gains[source, target] = 1.0
        scores[source, target] = {"noisy": {"pesq": 1.5, "stoi": 0.8}, "enhanced": enhanced}
    write_page(tmp_path / "out/report.html", gains, scores, failures=["bad.wav: not readable <script>"])
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
    assert browser.get_attribute("article >> nth=0 >> a", "href") == "take%202%20%3Cb%3E.wav"
    assert not browser.outside
