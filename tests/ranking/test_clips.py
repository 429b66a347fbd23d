"""The page of a ranking: clips through every configuration, in a browser."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import checkpoint_of, composed, write_vctk
from omegaconf import OmegaConf
from records import FILES, record, write

from denoiser.errors import CorpusError
from denoiser.ranking.clips import choose, make
from denoiser.ranking.rank import of, rank

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_clips_are_spread_over_noises_and_levels_with_people_among_them():
    facts = {name: {"noise_type": noise, "snr_db": str(snr)} for name, noise, snr in FILES}
    chosen = choose(list(facts), facts)
    assert len(set(chosen)) == 4
    assert {facts[name]["noise_type"] for name in chosen} == {"bus", "babble", "fan"}
    assert {facts[name]["snr_db"] for name in chosen} == {"2.5", "17.5"}
    assert choose(list(facts)[::-1], facts) == chosen
    many = {f"f{i}": {"noise_type": noise} for i, noise in enumerate(["a", "b", "cafeteria", "d", "e", "f"])}
    assert "f2" in choose(list(many), many)
    assert choose([f"f{i}" for i in range(8)], {}) == ["f0", "f2", "f4", "f6"]
    assert choose(["a"], {}) == ["a"]


@pytest.fixture
def heard(denoiser, tmp_path) -> Path:
    """Two runs, with checkpoints, of a corpus that is there."""
    root = write_vctk(tmp_path / "corpus")
    cfg = composed(f"data.root={root}", f"data.cache={tmp_path / 'cache'}")
    plain = yaml.safe_load(OmegaConf.to_yaml(cfg, resolve=True))
    for name in ("unet10", "unet6"):
        run = record(name)
        run["config"] |= {key: plain[key] for key in ("data", "spectral")}
        folder = write(tmp_path / "runs" / f"{name} <b>", run)
        (folder / "checkpoints").mkdir()
        torch.save(checkpoint_of(denoiser), folder / "checkpoints/best.ckpt")
    return tmp_path / "runs"


def test_clips_are_heard_through_every_configuration(heard, tmp_path):
    rank(heard)
    page = (heard / "ranking.html").read_text()
    assert page.count("<audio") == 2 * 4  # of two test files: noisy, two configurations, clean
    assert "bus noise, SNR 2.5 dB" in page
    shutil.rmtree(tmp_path / "corpus")
    rank(heard)
    page = (heard / "ranking.html").read_text()
    assert "<audio" not in page
    assert re.search(r"Made without sounds: data.root=\S+corpus is not there any more", page)


def test_clips_of_mixtures_are_heard_by_their_names(denoiser, vctk, tmp_path):
    places = [f"data.speech={vctk}/clean_trainset_28spk_wav", f"data.noise={vctk}/noisy_testset_wav"]
    cfg = composed("data=mixture", *places, f"data.cache={tmp_path}", "data.rooms=null", "data.test_limit=3")
    (tmp_path / "checkpoints").mkdir()
    torch.save(checkpoint_of(denoiser), tmp_path / "checkpoints/best.ckpt")
    run = record(folder=str(tmp_path), config=yaml.safe_load(OmegaConf.to_yaml(cfg, resolve=True)))
    found, silent = make(of([run]).configurations, {})
    assert found
    assert not silent
    for clip in found:
        assert "_in_" in clip.name
        assert list(clip.sounds) == ["noisy", "synthetic unet10 huber", "clean"]
        assert not torch.equal(clip.sounds["noisy"], clip.sounds["clean"])


def test_an_embedded_corpus_of_other_settings_stays_as_it_is(denoiser, tmp_path):
    settings = {"corpus": "denoiser synthetic", "format": 1, "minutes": 3, "test_minutes": 1, "seed": 0}
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/synthetic.json").write_text(json.dumps(settings))
    cfg = composed("data=synthetic", f"data.root={tmp_path / 'corpus'}", "data.minutes=0.1")
    run = record(folder=str(tmp_path), config=yaml.safe_load(OmegaConf.to_yaml(cfg, resolve=True)))
    with pytest.raises(CorpusError, match=r"of other settings now \(minutes\)"):
        make(of([run]).configurations, {})
    assert [path.name for path in (tmp_path / "corpus").iterdir()] == ["synthetic.json"]


def test_a_model_that_trained_on_a_clip_is_not_heard(heard):
    split = {"train": ["p232_000", "p257_001"], "val": []}
    (heard / "unet6 <b>" / "split.json").write_text(json.dumps(split))
    rank(heard)
    page = (heard / "ranking.html").read_text()
    assert page.count("<audio") == 2 * 3
    assert "unet6 is not heard: 2 of the clips are not of its test set" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")
def test_the_page_opens_from_disk_sorts_plays_and_fetches_nothing(heard):
    sync_api = pytest.importorskip("playwright.sync_api")
    write(heard / "nan", record("unet8", "l1", macs_per_second=None))
    rank(heard)
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        outside, errors = [], []
        local = ("data:", "blob:", "file:")
        page.on("request", lambda request: request.url.startswith(local) or outside.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((heard / "ranking.html").as_uri())
        names = "[...document.querySelectorAll('#table + p + div tbody tr')].map(row => row.cells[1].textContent)"
        assert page.evaluate(names) == ["unet10", "unet8", "unet6"]
        page.click("th:has-text('GMAC/s')")
        assert page.evaluate(names) == ["unet10", "unet6", "unet8"]  # what is not known is last
        page.click("th:has-text('GMAC/s')")
        assert page.evaluate(names) == ["unet6", "unet10", "unet8"]
        page.click("th:has-text('#')")
        page.click("th:has-text('#')")
        assert page.evaluate(names) == ["unet10", "unet8", "unet6"]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.wait_for_function("[...document.querySelectorAll('audio')].every(audio => audio.duration > 0)")
        assert page.evaluate("[...document.querySelectorAll('img')].every(image => image.naturalWidth > 10)")
        assert page.evaluate("document.querySelectorAll('svg .mark').length") >= 3
        chromium.close()
    assert not outside
    assert not errors
