"""Every yaml composes, resolves, and builds what it describes."""

import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from conftest import ROOT, composed
from denoiser import console
from denoiser.console import one_line
from denoiser.data.datamodule import PairedData
from denoiser.errors import ConfigError, CorpusError
from denoiser.spectral import Spectral
from denoiser.training import trainer
from denoiser.training.components import build_augment
from denoiser.training.layout import run_folder
from denoiser.training.run import build_module

CONF = ROOT / "conf"
FILES = [*CONF.glob("*/*.yaml"), *CONF.glob("model/head/*.yaml")]
# data/default is the common part of the others.
OPTIONS = sorted({str(p.relative_to(CONF).with_suffix("")) for p in FILES} - {"data/default"})


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(option, tmp_path):
    group, name = option.rsplit("/", 1)
    mixtures = ("data/mixture", "data/mixture_in_rooms", "experiment/small", "experiment/best", "experiment/live")
    mixed = option in mixtures
    corpus = "data.speech=corpus" if mixed else "data.root=corpus"
    # The seed's loss sees magnitudes alone, under which a head that estimates the phase is refused.
    loss = ["loss=compressed"] if group == "model/head" else []
    cfg = composed(f"{group}={name}", corpus, "trainer.gpus=0", *loss)
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    name = "-".join(HydraConfig.get().runtime.choices[g] for g in ("data", "model", "loss"))
    assert plain["name"] == (f"debug-{name}" if group == "debug" else name)  # never taken for a run to resume
    module = build_module(plain, {})
    build_augment(plain["augment"])
    limits = {"max_steps": 10, "max_epochs": -1}
    module.trainer = trainer.build_trainer(tmp_path, **{**plain["trainer"], **limits}, logger=False)
    module.configure_optimizers()
    assert isinstance(instantiate(cfg.data, spectral=module.denoiser.spectral), PairedData)
    assert instantiate(cfg.logger, save_dir=str(tmp_path))
    assert all(instantiate(c) for c in cfg.callbacks.values())


@pytest.mark.parametrize("recipe", ["best", "small", "demo"])
def test_every_recipe_combines_with_every_corpus(recipe):
    batch = composed(f"experiment={recipe}").data.batch_size
    for corpus in ("vctk_demand", "folders", "synthetic", "mixture", "mixture_in_rooms"):
        place = "data.speech=corpus" if corpus.startswith("mixture") else "data.root=corpus"
        cfg = composed(f"experiment={recipe}", f"data={corpus}", place, "augment=none", "init_from=best")
        assert isinstance(instantiate(cfg.data, spectral=Spectral(**cfg.spectral)), PairedData)
        assert cfg.data.batch_size == batch
        # Another choice of augmentation replaces the recipe's as a whole.
        assert not cfg.augment


def test_a_corpus_that_is_not_there_is_one_line_with_three_ways_out(here):
    with pytest.raises(
        CorpusError, match=r"data/vctk_demand: .*download root=data/vctk_demand.*data=folders.*=synthetic"
    ):
        instantiate(composed().data, spectral=Spectral()).prepare_data()


def test_any_optimizer_and_scheduler_of_torch_can_be_named():
    overrides = ["optimizer._target_=torch.optim.SGD", "optimizer.lr=0.1", "+optimizer.momentum=0.9"]
    overrides += ["scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=5"]
    module = build_module(OmegaConf.to_container(composed(*overrides), resolve=True), {})
    module.trainer = SimpleNamespace(estimated_stepping_batches=10)
    found = module.configure_optimizers()
    assert type(found["optimizer"]) is torch.optim.SGD
    assert found["optimizer"].defaults["momentum"] == 0.9
    assert found["lr_scheduler"]["scheduler"].step_size == 5


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["optimizer._target_=torch.optim.SDG"], "optimizer: "),
        (["optimizer.lr=-1"], "optimizer: .*-1"),
        (["+loss.epsilon=1"], "loss: .*epsilon"),
        (["scheduler._target_=torch.optim.lr_scheduler.StepLR"], "scheduler: .*step_size"),
        (["scheduler=cosine", "scheduler.warmup=some"], "scheduler: "),
        (["scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"], "needs a metric at each step"),
        (["loss={delta: 1}", "~loss._target_"], "loss=.*expected the settings of a class"),
        # Losses of magnitudes alone.
        (["model/head=complex", "loss=huber"], "this model/head estimates the phase"),
        (["model/head=phase", "loss=l1"], "this model/head estimates the phase"),
        (["model/head=filter", "loss=mse"], "this model/head estimates the phase"),
    ],
)
def test_a_part_that_cannot_be_built_is_one_line(overrides, line):
    with pytest.raises(ConfigError, match=line) as caught:
        build_module(OmegaConf.to_container(composed(*overrides), resolve=True), {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "setting", "line"),
    [
        ("train.py", "seed=abc", "seed=abc: .*Integer"),
        ("train.py", "trainer.gradient_clip_val=high", "trainer.gradient_clip_val=high: .*float"),
        ("train.py", "metrics=pesq", "metrics=pesq: .*list"),
        ("train.py", "optimiser.lr=1", "optimiser(.lr)?: no such setting; did you mean optimizer"),
        ("train.py", "model=unet11", "model=unet11: no such option; expected .*unet10"),
        ("train.py", "batch_sze=4", "batch_sze: no such setting; did you mean data.batch_size"),
        # Settings of earlier versions.
        ("train.py", "fresh=true", "fresh: is new_sweep= now"),
        ("train.py", "scorers=2", "scorers: is metric_workers= now"),
        ("train.py", "mode=max", "mode: is no setting: it follows from monitor="),
        ("train.py", "model.bins=256", "model.bins: is no setting: it follows from spectral="),
        ("train.py", "loss.name=mse", "loss.name: is no setting: choose by loss=NAME or loss._target_="),
        ("train.py", "optimizer.name=sgd", "optimizer.name: is no setting: choose by optimizer=NAME or optimizer"),
        ("train.py", "scheduler.name=cosine", "scheduler.name: is no setting: choose by scheduler=NAME or scheduler"),
        ("infer.py", "dry=some", "dry=some: .*Float"),
        ("infer.py", "plot=2.5", "plot=2.5: .*bool"),
    ],
)
def test_a_wrong_setting_is_one_line(script, setting, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(ROOT / script), setting])
    with pytest.raises(SystemExit) as end, one_line():
        composed(setting, config=script.removesuffix(".py"))
    assert end.value.code == 2
    assert re.fullmatch(rf"error: {line}.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("logger=null", "logger=null: a group is left out by '~logger'; its options: csv, tensorboard"),
        ("scheduler=null", "scheduler=null: a group is left out by '~scheduler'; its options: constant, cosine"),
        ("model/head=null", "model/head=null: cannot be left out; expected complex, filter, .*"),
        ("debug=null", "debug=null: there is none unless it is given; leave this out"),
    ],
)
def test_a_group_without_an_option_is_one_line(setting, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), setting])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # The tests keep their handlers.
    with pytest.raises(SystemExit) as end:
        console.run(lambda: composed(setting), list)
    assert end.value.code == 2
    assert re.fullmatch(rf"error: {line}\n", capsys.readouterr().err)


@pytest.mark.parametrize("monitor", ["val/si_sdr", "val/loss", "val/lsd"])
def test_the_best_checkpoint_is_the_highest_or_the_lowest_as_the_monitor_has_it(monitor):
    cfg = composed(f"monitor={monitor}", "metrics=[si_sdr,lsd]")
    assert cfg.callbacks.best.mode == ("max" if monitor == "val/si_sdr" else "min")


@pytest.mark.parametrize("model", ["crn", "dualpath", "unet10"])
@pytest.mark.parametrize("spectral", ["8k", "16k", "48k"])
def test_every_family_takes_every_spectral_representation(model, spectral):
    plain = OmegaConf.to_container(composed(f"model={model}", f"spectral={spectral}"), resolve=True)
    denoiser = build_module(plain, {}).denoiser
    assert denoiser.spectral.bins == {"8k": 128, "16k": 256, "48k": 768}[spectral]
    frames = torch.zeros(1, denoiser.head.inputs, denoiser.spectral.bins, 4)
    assert denoiser.net(frames).shape == (1, denoiser.head.outputs, denoiser.spectral.bins, 4)


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
    assert Path(run_folder(str(parent), f"{new}/")) == new
    # Others that start at the same time do not see each other's folder yet.
    fresh = {run_folder(str(parent), None) for _ in range(20)}
    assert len(fresh) == 20
    assert not any(Path(folder).exists() for folder in fresh)
    assert run_folder(str(parent), None, 3).endswith("_seed3")
