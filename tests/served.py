"""A small corpus on a server: the fixtures of the download's tests, imported where they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loopback import Server, described, tree, zipped

from denoiser.data import vctk_demand

LOGS = {"log_testset.txt": b"p232_000 bus 17.5\np257_001 cafe 2.5\n", "log_readme.txt": b"name, noise, SNR\n"}


@pytest.fixture(scope="module", name="corpus")
def corpus_files(vctk) -> dict[str, dict[str, bytes]]:
    """What the folders of a whole corpus hold, by folder."""
    paths = sorted(vctk.iterdir(), key=lambda path: ("train" in path.name, path.name))
    folders = {path.name: {file.name: file.read_bytes() for file in path.iterdir()} for path in paths}
    return {"logfiles": LOGS, **folders}


@pytest.fixture(scope="module", name="packed")
def packed_files(corpus):
    """Its archives, with what macOS leaves in some, and the table of them."""
    bodies, table = {}, []
    for name, files in corpus.items():
        entries = {f"{name}/{file}": data for file, data in files.items()}
        if name == "logfiles":
            entries = files  # some lie in no folder
        else:
            entries |= {f"__MACOSX/{name}/._{file}": b"junk" for file in files}
        bodies[f"{name}.zip"] = zipped(entries)
        table.append(described(name, bodies[f"{name}.zip"], files, ".txt" if name == "logfiles" else ".wav"))
    return bodies, table


@pytest.fixture(name="server")
def running_server(packed):
    with Server() as running:
        running.files = dict(packed[0])
        yield running
        running.shutdown()


@pytest.fixture(name="root")
def corpus_root(tmp_path):
    return tmp_path / "corpus"


def fetch(root: Path, server: Server, packed, **options) -> None:
    vctk_demand.fetch(root, url=server.url, archives=packed[1], **options)


def assert_whole(root: Path, corpus) -> None:
    """All of the corpus, and nothing else."""
    expected = {f"{name}/{file}": data for name, files in corpus.items() for file, data in files.items()}
    assert tree(root) == expected
    record = json.loads((root / "unpacked.json").read_text())["archives"]
    assert {name: entry["files"] for name, entry in record.items()} == {n: len(files) for n, files in corpus.items()}
    assert all(entry["md5"] for entry in record.values())
