"""Lock file: every requirement, in a version that fits, by hash, from no index in particular."""

import re
from importlib.metadata import requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT

INSTALLED = ("dev", "demo", "export", "live", "sweep")  # extras that the lock has


def test_the_lock_is_current_and_names_no_index():
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in re.sub(r"#.*", "", text)
    assert "index-url" not in text
    locked: dict[str, set[str]] = {}
    for name, version, rest in re.findall(r"^([\w.-]+)==([^\s;]+)([^\n]*(?:\n {4}--hash=\S+.*)*)", text, re.M):
        assert "--hash=sha256:" in rest, name
        locked.setdefault(canonicalize_name(name), set()).add(version)
    missing = []
    for text in requires("denoiser") or []:
        requirement = Requirement(text)
        extra = re.search(r"extra == ['\"](\w+)", text)
        if requirement.name == "denoiser" or (extra and extra[1] not in INSTALLED):
            continue
        versions = locked.get(canonicalize_name(requirement.name), set())
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            missing.append(text)
    assert not missing, "make lock"
