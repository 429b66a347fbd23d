"""Every yaml composes, resolves, and builds what it describes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT, composed
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from denoiser.data.datamodule import PairedData
from denoiser.training import trainer
from denoiser.training.folder import run_folder
from denoiser.training.run import build_module

CONF = ROOT / "conf"
FILES = [*CONF.glob("*/*.yaml"), *CONF.glob("model/head/*.yaml")]
OPTIONS = sorted(str(p.relative_to(CONF).with_suffix("")) for p in FILES)


def test_the_tree_has_the_groups_people_look_for():
    groups = {p.name for p in CONF.iterdir() if p.is_dir()}
    assert groups - {"hydra"} == set(
        "spectral model data augment loss optimizer scheduler trainer callbacks logger experiment sweep debug".split()
    )


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(option, tmp_path):
    group, name = option.rsplit("/", 1)
    mixed = option in ("data/mixture", "experiment/small", "experiment/best")
    corpus = "data.speech=corpus" if mixed else "data.root=corpus"
    cfg = composed(f"{group}={name}", corpus, "trainer.gpus=0")
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    name = "-".join(HydraConfig.get().runtime.choices[g] for g in ("data", "model", "loss"))
    assert plain["name"] == (f"debug-{name}" if group == "debug" else name)  # never taken for a run to resume
    module = build_module(plain, {})
    module.trainer = trainer.build_trainer(tmp_path, **{**plain["trainer"], "max_steps": 10}, logger=False)
    module.configure_optimizers()
    assert isinstance(instantiate(cfg.data, spectral=module.denoiser.spectral), PairedData)
    assert instantiate(cfg.logger, save_dir=str(tmp_path))
    assert all(instantiate(c) for c in cfg.callbacks.values())


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_file_says_what_it_is_for(path: Path):
    first = next(line for line in path.read_text().splitlines() if line != "# @package _global_")
    assert first.startswith("# ") or "#" in first


def test_variants_state_only_what_differs():
    for path in (CONF / "model").glob("*.yaml"):
        variant = OmegaConf.load(path)
        if path.stem not in ("unet10", "crn", "dualpath"):  # the first of each family states it all
            base = OmegaConf.load(CONF / f"model/{variant.pop('defaults')[0]}.yaml")
            assert all(base[key] != value for key, value in variant.items())


def test_infer_composes():
    cfg = composed("ckpt=a.ckpt", "input=b.wav", config="infer")
    assert (cfg.output, cfg.device, cfg.plot) == (None, "auto", False)


def test_a_run_goes_on_in_the_folder_of_its_checkpoint(tmp_path):
    parent = tmp_path / "runs"
    old, new = parent / "2020-01-01_00-00-00", parent / "2021-01-01_00-00-00"
    for age, run in ((1, new), (2, old)):  # the newest checkpoint counts, not the newest name
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints/last.ckpt").touch()
        os.utime(run / "checkpoints/last.ckpt", (age, age))
    assert Path(run_folder(str(parent), "last")) == old
    killed = parent / "2022-01-01_00-00-00"  # before its first checkpoint: it starts over, no older run goes on
    killed.mkdir()
    (killed / "split.json").touch()
    assert Path(run_folder(str(parent), "last")) == killed
    (parent / "2023-01-01_00-00-00/.hydra").mkdir(parents=True)  # a start that failed, of a misspelt setting say
    assert Path(run_folder(str(parent), "last")) == killed
    assert Path(run_folder(str(parent), str(new / "checkpoints/best.ckpt"))) == new
    fresh = Path(run_folder(str(parent), None))
    assert not fresh.exists()
    fresh.mkdir()
    assert Path(run_folder(str(parent), None)) != fresh
    assert run_folder(str(parent), None, 3).endswith("_seed3")
