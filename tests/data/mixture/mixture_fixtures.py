"""Fixtures that open the corpus to mix."""

from functools import partial

import pytest
from mixtures import opened, write_corpus

from denoiser.data.mixture import datamodule


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("mixture"))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make(corpus, cache, monkeypatch):
    monkeypatch.setattr(datamodule, "SIMULATED", {"train": 8, "val": 3, "test": 3})
    return partial(opened, corpus, cache)
