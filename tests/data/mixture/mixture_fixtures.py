"""Fixtures that open the corpus to mix."""

from functools import partial

import pytest
from mixtures import opened, write_corpus

from denoiser.data.mixture import datamodule
from denoiser.data.synthesis import generated


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def few(monkeypatch):
    """Few rooms, and generated noises that are few and short."""
    monkeypatch.setattr(datamodule, "SIMULATED", {"train": 8, "val": 3, "test": 3})
    monkeypatch.setattr(generated, "COUNTS", dict.fromkeys(("train", "val", "test"), len(generated.ORDER)))
    monkeypatch.setattr(generated, "SECONDS", 3.0)


@pytest.fixture
def make(corpus, cache, few):
    return partial(opened, corpus, cache)
