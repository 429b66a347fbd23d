"""The program ``denoiser`` as pip installs it: from a wheel, without the repository, in any folder."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT, make_noise, make_voice
from denoiser import __main__ as program
from denoiser import audio

BUILD = "from setuptools import build_meta; build_meta.build_wheel('wheel')"
# As the script does that pip writes.
RUN = """
import sys
from importlib.metadata import entry_points
(script,) = entry_points(group="console_scripts", name="denoiser")
sys.argv[0] = "denoiser"
script.load()()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that holds what the wheel brings."""
    source, site = (tmp_path_factory.mktemp(name) for name in ("source", "site"))
    for name in ("denoiser", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD], cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("wheel/*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run(site: Path, *arguments: str, line: str = "") -> subprocess.CompletedProcess[str]:
    """Run the installed command; ``line`` is what has been typed in a shell that asks for completion."""
    environment = {**os.environ, "PYTHONPATH": str(site), "CUDA_VISIBLE_DEVICES": "", "COMP_LINE": line}
    command = [sys.executable, "-c", RUN, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)


def test_a_wheel_brings_every_package_with_its_settings_and_weights(site):
    for folder, pattern in (("denoiser", "*.py"), ("denoiser", "*.ckpt"), ("denoiser", "*.html"), ("conf", "*.yaml")):
        names = {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob(pattern)}
        inside = site / "denoiser" / ("conf" if folder == "conf" else "")
        assert names
        assert names == {path.relative_to(inside) for path in inside.rglob(pattern)}


def test_the_installed_command_denoises_a_file_in_an_empty_folder(site, here):
    assert re.fullmatch(r"denoiser \d+\.\d+\.\d+\S*\n", run(site, "--version").stdout)
    audio.write("talk.wav", make_voice(0.5, 16_000) + make_noise(0.5, 16_000), 16_000)
    run(site, "talk.wav", "ckpt=small", "device=cpu")
    assert {path.name for path in here.iterdir()} == {"talk.wav", "talk_enhanced.wav"}


def test_a_shell_completes_the_settings_of_the_installed_command(site, here):
    assert run(site, "-sc", "query=bash", line="denoiser talk.wav output=a dr").stdout == "dry=\n"


@pytest.mark.parametrize(
    ("line", "command", "left"),
    [
        ("denoiser tra", "infer", "denoiser tra"),
        ("denoiser train data=synthetic -m model=un", "train", "denoiser data=synthetic model=un"),
        ("denoiser infer talk.wav ", "infer", "denoiser "),
    ],
)
def test_hydra_completes_the_settings_of_the_command_alone(line, command, left, monkeypatch):
    monkeypatch.setenv("COMP_LINE", line)
    assert program._split(["-sc", "query=bash"]) == (command, ["-sc", "query=bash"])
    assert os.environ["COMP_LINE"] == left


def test_a_command_is_found_by_its_name(here):
    assert program._split([]) == program._split(["--help"]) == ("", [])
    assert program._split(["rank", "runs=a"]) == ("rank", ["runs=a"])
    for typed in (["talk.wav", "dry=0.1"], ["--", "train"], ["./train"], ["-"], ["input=talk.wav"]):
        assert program._split(typed) == ("infer", typed)
    (here / "trian").touch()
    assert program._split(["trian"]) == ("infer", ["trian"])


def test_a_mistyped_command_is_one_line(monkeypatch, here, capsys):
    monkeypatch.setattr(sys, "argv", ["denoiser", "trian", "data=synthetic"])
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: trian: no such file and no such command; did you mean train?\n"
