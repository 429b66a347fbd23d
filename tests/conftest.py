"""Audio made here: voices of modulated harmonics, noises of coloured randomness, corpora of both."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch loads
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from hypothesis import settings
from omegaconf import DictConfig, OmegaConf, open_dict

from denoiser import Denoiser, audio, losses, models
from denoiser.models import heads
from denoiser.spectral import Spectral, Spectrum
from denoiser.sweep import multirun  # noqa: F401 - registers the resolvers of conf/
from denoiser.training.module import DenoisingModule

# The same examples every time: a failure is then a change's, and no accident's.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
needs_recordings = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real recordings at {SHARED}")


def recording(name: str) -> torch.Tensor:
    """Return a real recording, ``[1, N]`` at 16 kHz: ``voice_kathleen``, ``voice_lj`` or ``noise_boat``."""
    return audio.read(ROOT / f"tests/recordings/{name}.flac")[0]


def make_voice(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    """Return ``[1, N]``: a harmonic tone of gliding pitch in syllables, with pauses, peak 0.5."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, int(min(20, rate / 2 / 260))))
    syllables = np.clip(np.sin(2 * np.pi * rng.uniform(2, 4) * time + rng.uniform(0, 6)), 0, 1) ** 0.5
    voice = tone * syllables
    return torch.from_numpy(0.5 * voice / (np.abs(voice).max() + 1e-9)).float()[None]


def make_noise(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    """Return ``[1, N]``: Gaussian noise, smoothed, RMS 0.1."""
    rng = np.random.default_rng([seed, 1])
    noise = rng.standard_normal(round(seconds * rate) + 3)
    noise = np.convolve(noise, np.ones(4) / 2, mode="valid")
    return torch.from_numpy(0.1 * noise / noise.std()).float()[None]


def spectra(seconds: float = 0.5) -> tuple[Spectrum, Spectrum]:
    """Return a noisy and a clean spectrum, in a representation fitted to them."""
    clean = make_voice(seconds, 16_000)
    noisy = clean + make_noise(seconds, 16_000)
    spectral, level = Spectral(), Spectral.level(noisy)
    spectral.fit([(noisy[0], level[0])])
    return spectral(noisy, level, center=False), spectral(clean, level, center=False)


def active_decibels(sound: torch.Tensor, rate: int = 16_000) -> float:
    """Return the mean power in dB of the 20 ms frames of ``[N]`` within 40 dB of the loudest."""
    frames = sound.double().split(rate // 50)
    loudest = max(frame.square().mean() for frame in frames)
    active = torch.cat([frame for frame in frames if frame.square().mean() >= 1e-4 * loudest])
    return float(10 * active.square().mean().log10())


def write_pair(noisy: Path, clean: Path, seconds: float, rate: int, seed: int) -> None:
    voice = make_voice(seconds, rate, seed)
    audio.write(clean, voice, rate)
    audio.write(noisy, voice + make_noise(seconds, rate, seed), rate)


def write_vctk(root: Path, *, train: int = 8, test: int = 2, rate: int = 48_000, seconds: float = 1.0) -> Path:
    """Write a corpus in the VCTK-DEMAND layout: speakers p225, p226, p287, p288 in training, p232 and p257 in the test.

    The log knows the test files' noise types, and one line that it should not hold.
    """
    for part, speakers, count in (("trainset_28spk", (225, 226, 287, 288), train), ("testset", (232, 257), test)):
        for i in range(count):
            name = f"p{speakers[i % len(speakers)]}_{i:03d}.wav"
            noisy, clean = root / f"noisy_{part}_wav" / name, root / f"clean_{part}_wav" / name
            write_pair(noisy, clean, seconds + 0.25 * (i % 3), rate, 100 * len(part) + i)
    (root / "logfiles").mkdir()
    lines = [f"p{(232, 257)[i % 2]}_{i:03d} {('bus', 'living')[i % 2]} {(2.5, 17.5)[i % 2]}" for i in range(test)]
    (root / "logfiles/log_testset.txt").write_text("\n".join([*lines, "damaged", ""]))
    return root


@pytest.fixture(scope="session")
def vctk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # DNSMOS repeats a recording: these lengths fill few of its windows.
    return write_vctk(tmp_path_factory.mktemp("vctk"), seconds=1.2)


def composed(*overrides: str, config: str = "train") -> DictConfig:
    """Return the configuration of a command line, without running it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(config, ["hydra.runtime.output_dir=runs/x", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)  # what the interpolations of the run's name look up
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def make_loss(name: str) -> torch.nn.Module:
    """Return the loss that ``loss=name`` chooses."""
    return instantiate(OmegaConf.load(ROOT / f"conf/loss/{name}.yaml"), _convert_="all")


def make_module(**more: Any) -> DenoisingModule:
    """Return the module of a tiny U-Net with the default loss and optimizer."""
    denoiser = Denoiser.build({"name": "unet", "depth": 2, "width": 4}, {})
    return DenoisingModule(denoiser, losses.Huber(), partial(torch.optim.Adam, lr=1e-3), **more)


def train_here(folder: Path, *overrides: str) -> float | None:
    """Do what train.py does after composing, in this process; a run in ``folder``."""
    from denoiser.training.run import train

    return train(composed(*overrides), folder)


def run_command(script: str, *overrides: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` or ``infer.py``, or with ``-m`` a module, as a person does, from another folder."""
    environment = {**os.environ, "HYDRA_FULL_ERROR": "0", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, script if script == "-m" else str(ROOT / script), *overrides]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


# The smallest training that is one: a U-Net of two levels on patches of 32 frames, in float32 on the CPU.
TINY = [
    "model.depth=2", "model.width=4", "model.dropout=0.1", "data.frames=32", "data.batch_size=4",
    "trainer.gpus=0", "trainer.precision=32-true", "callbacks.clips.clips=1",
]  # fmt: skip
MODEL = {"name": "unet", "depth": 3, "width": 4}


def options(corpus: Path, *more: str) -> list[str]:
    """Return overrides for a training of a tiny model on a corpus."""
    return [f"data.root={corpus}", *TINY, *more]


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(models.build(**MODEL), Spectral(peak=5.0)).eval()


def checkpoint_of(denoiser: Denoiser, **changes) -> dict:
    weights = {f"denoiser.{key}": value for key, value in denoiser.state_dict().items()}
    return {"hyper_parameters": {"model": MODEL, "spectral": {"sample_rate": 16_000}, **changes}, "state_dict": weights}


@pytest.fixture
def checkpoint(denoiser, tmp_path):
    torch.save(checkpoint_of(denoiser), tmp_path / "m.ckpt")
    return tmp_path / "m.ckpt"


# File names as people and programs have them, and what Hydra, OmegaConf, a shell or a terminal would make of them.
NAMES = [
    "my talk (1).wav", " a,b = c .wav ", "it's \"so\".wav", "[a,b]", "{a: b}.wav", "$HOME ${x}.wav", "${oc.env:HOME}",
    "${y}\\.wav", "back\\\\slash\\", "#1 ~t 100%;&|.wav", "größe 日本語.wav", "new\nline.wav", "-talk.wav",
    "--help", "null", "true", "1e3", "dry=1", "*.wav", "~", "'", "\udcff.wav", "\x1b[31mred.wav",
]  # fmt: skip


def unbounded(net: torch.nn.Module, peak: float = 5.0) -> Denoiser:
    """Return a denoiser whose network gives the scaled noise itself, without the tanh."""
    head = heads.build("noise")
    head.activation = torch.nn.Identity()
    return Denoiser(net, Spectral(peak=peak), head=head).eval()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder that the test runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@contextmanager
def without_rights(here: Path) -> Iterator[None]:
    """Run as a user to whom ``here`` is open, and what has no rights in it is closed; to root nothing would be."""
    here.chmod(0o755)
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let this process write no file of more than ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
