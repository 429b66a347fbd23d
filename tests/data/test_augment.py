"""Augmentation of batches, drawn from (seed, epoch, batch, rank) and nothing else, and its settings."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Trainer

from batches import KEY, RATE, TRANSFORMS, build, make_batch, power
from conftest import TINY, composed, make_module, train_here
from denoiser.data.augment import Augment, Transform
from denoiser.data.datamodule import PairedData
from denoiser.errors import CheckpointError, ConfigError
from denoiser.training.components import build_augment


def configured(option: str, *overrides: str) -> Augment:
    """Return the augmentation of a yaml file."""
    cfg = composed(f"augment={option}", *overrides)
    return build_augment(OmegaConf.to_container(cfg.augment, resolve=True))


def test_a_batch_follows_from_its_key_alone():
    batch, all_of_them = make_batch(), configured("full")
    first = all_of_them(batch, KEY)
    torch.manual_seed(1)
    np.random.seed(1)
    assert all(torch.equal(first[key], all_of_them(batch, KEY)[key]) for key in batch)
    for other in ((1, 1, 2, 0), (0, 2, 2, 0), (0, 1, 3, 0), (0, 1, 2, 1)):
        assert not torch.equal(first["noisy"], all_of_them(batch, other)["noisy"])


def test_one_transform_more_does_not_alter_the_draws_of_the_others():
    batch = make_batch()
    alone = build({"snr": {}})(batch, KEY)
    beside = build({"snr": {}, "shift": {}})(batch, KEY)
    noises = [power(out["noisy"] - out["clean"]) for out in (alone, beside)]
    assert torch.allclose(*noises, rtol=1e-4)
    assert kinds(build({"snr": {}, "shift": {}})) == ["shift", "snr"]


def test_two_transforms_of_one_kind_draw_different_numbers_and_the_first_as_if_alone():
    drawn = []

    class Draw(Transform):
        place = 12

        def change(self, noise, clean, level, rng):
            drawn.append(rng.random())
            return noise, clean

    for count in (1, 3):
        Augment([Draw() for _ in range(count)])(make_batch(), KEY)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_no_transform_draws_what_the_crop_or_the_mixture_was_drawn_with():
    drawn = []

    class Draw(Transform):
        def change(self, noise, clean, level, rng):
            drawn.append(rng.bit_generator.seed_seq.generate_state(2).tolist())
            return noise, clean

    for place in range(12):
        Draw.place = place
        Augment([Draw()])(make_batch(), (0, 1, 2))
    # The keys of a crop, and of a mixture of each part of the split.
    others = [np.random.SeedSequence([0, 1, 2, *more]).generate_state(2).tolist() for more in ([], [1], [2], [3])]
    assert len(drawn) == 12
    assert not any(state in drawn for state in others)


def kinds(augment: Augment) -> list[str]:
    return [type(one).__name__.lower() for one in augment.transforms]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_makes_the_same_batch():
    batch, all_of_them = make_batch(), build({name: {} for name in TRANSFORMS})
    here, there = all_of_them(batch, KEY), all_of_them({key: value.cuda() for key, value in batch.items()}, KEY)
    assert all(torch.allclose(here[key], there[key].cpu(), rtol=1e-3, atol=1e-5) for key in batch)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("none", []),
        ("remix", ["remix"]),
        ("light", ["speed", "remix", "clip", "splice", "levelchange", "rumble"]),
        ("full", list(TRANSFORMS)),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_every_option_builds_at_every_rate(option, expected, rate):
    built = configured(option, f"spectral={rate // 1000}k" if rate != RATE else "seed=0")
    assert kinds(built) == expected
    assert all(getattr(one, "sample_rate", rate) == rate for one in built.transforms)
    assert built(make_batch(), KEY)["noisy"].isfinite().all()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Remix", {"probability": 2}, "probability: expected a number from 0 to 1"),
        ("SNR", {"low": 3, "high": 1}, "low, high: expected two numbers, the lower first"),
        ("Gain", {"decibel": 3}, ".*decibel"),
        ("Speed", {"low": 0}, ".*from 0.5 to 2"),
        (
            "BandLimit",
            {"sample_rate": RATE, "high": [100, 200]},
            "high: expected two numbers, the lower first, from 400 to",
        ),
        ("LevelChange", {"sample_rate": RATE, "ramp": 0.1}, "ramp: expected two numbers, the lower first"),
        ("LevelChange", {"sample_rate": RATE, "bang": [20, 10]}, "bang: .*the lower first"),
        ("BandLimit", {"sample_rate": RATE, "low": 300}, "low: expected two numbers, the lower first"),
    ],
)
def test_a_mistake_in_the_settings_names_the_transform(name, arguments, message):
    kind = name.lower()
    with pytest.raises(ConfigError, match=rf"augment\.{kind}: {message}"):
        build_augment({kind: {"_target_": f"denoiser.data.transforms.{name}", **arguments}})


class Placeless(Transform):
    """Transform that states no place."""

    def change(self, noise, clean, level, rng):
        return noise, clean


def test_a_transform_without_a_place_is_refused():
    with pytest.raises(ConfigError, match=r"^augment\.own: it states no place: .*12 or more"):
        build_augment({"own": {"_target_": f"{__name__}.Placeless"}})


def test_null_leaves_a_transform_out():
    with pytest.raises(ConfigError, match=r"augment\.clip=False: expected the settings of a class"):
        build_augment({"clip": False})
    assert kinds(configured("full", "augment.clip=null")) == [name for name in TRANSFORMS if name != "clip"]
    batch = make_batch()
    assert build_augment(None)(batch, KEY) == batch


@pytest.mark.parametrize("shuffle", [True, False])
def test_training_batches_alone_are_augmented_each_with_its_own_key(vctk, tmp_path, shuffle):
    keys = []
    module = make_module(metrics=())
    data = PairedData(module.denoiser.spectral, str(vctk), cache=str(tmp_path), batch_size=2, frames=32, seed=7,
                      shuffle=shuffle, augment=lambda batch, key: keys.append(key) or batch)  # fmt: skip
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 2}
    Trainer(accelerator="cpu", default_root_dir=tmp_path, **options).fit(module, datamodule=data)
    assert [key[:2] for key in keys] == [(7, epoch * shuffle) for epoch in (0, 1) for _ in (0, 1)]
    assert len(set(keys)) == (4 if shuffle else 2)


def test_training_repeats_resumes_and_insists_on_its_augmentation(vctk, tmp_path):
    common = [f"data.root={vctk}", f"data.cache={tmp_path}/cache", *TINY, "data.batch_size=2", "test=false",
              "callbacks.clips=null", "metrics=[si_sdr]", "logger=csv", "augment=full"]  # fmt: skip

    def weights(name: str, *more: str) -> dict[str, torch.Tensor]:
        train_here(tmp_path / name, *common, *more)
        return torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)["state_dict"]

    once = weights("broken", "trainer.max_epochs=1")
    helped = weights("helped", "trainer.max_epochs=1", "data.workers=2")
    assert all(torch.allclose(once[key], helped[key], rtol=0, atol=1e-6) for key in once)

    with pytest.raises(CheckpointError, match=r"training\.augment was \{.*remix.*\}, is None"):
        weights("broken", "trainer.max_epochs=2", "ckpt_path=last", "augment=none")
    with pytest.raises(CheckpointError, match=r"training\.augment\.gain\.decibels was 15, is 3"):
        weights("broken", "trainer.max_epochs=2", "ckpt_path=last", "augment.gain.decibels=3")
    resumed = weights("broken", "trainer.max_epochs=2", "ckpt_path=last")
    whole = weights("whole", "trainer.max_epochs=2")
    assert all(torch.allclose(whole[key], resumed[key], rtol=0, atol=1e-6) for key in whole)
