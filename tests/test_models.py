from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from torch import nn

from denoiser import models
from denoiser.errors import ConfigError

UNETS = {"unet6": 6, "unet8": 8, "unet10": 10, "unet14": 14, "unet10_small": 10}


def build(name: str, **changes) -> nn.Module:
    arguments = {}
    for part in (ROOT / "conf/model/unet10.yaml", ROOT / f"conf/model/{name}.yaml"):
        arguments |= OmegaConf.to_container(OmegaConf.load(part))
    arguments.pop("defaults", None)
    torch.manual_seed(0)
    return models.build(**{**arguments, **changes}).eval()


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_the_table_above_names_every_yaml():
    assert {path.stem for path in Path(ROOT / "conf/model").glob("*.yaml")} == set(UNETS)


@pytest.mark.parametrize("name", UNETS)
def test_the_number_in_the_name_counts_encoder_convolutions(name):
    assert len(convolutions(build(name).encoder)) == UNETS[name]


def test_unet10_is_the_seed():
    net = build("unet10")
    assert [c.out_channels for c in convolutions(net.encoder)] == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    assert [c.out_channels for c in convolutions(net.decoder)] == [16, 16, 32, 32, 64, 64, 128, 128]
    assert all(c.kernel_size == (3, 3) for c in convolutions(net.encoder))
    assert net.head.kernel_size == (1, 1)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            assert not layer.bias.any()
            fan_in = layer.in_channels * (layer.kernel_size[0] ** 2 if isinstance(layer, nn.Conv2d) else 1)
            he = (2 / (1.04 * fan_in)) ** 0.5
            assert float(layer.weight.detach().std()) == pytest.approx(
                he, rel=0.3 if layer.weight.numel() < 500 else 0.05
            )
    # Poolings halve both axes four times, so a unit of the deepest level stands for 16 x 16.
    assert net.stride == 16


def test_every_level_reaches_the_output_through_its_skip():
    net = build("unet10")
    x = torch.rand(1, 1, 256, 64) * 2 - 1
    before = net(x)
    for level in range(4):
        saved = net.decoder[level][0].weight.detach().clone()
        half = saved.shape[1] // 2
        with torch.no_grad():
            net.decoder[level][0].weight[:, half:] = 0  # the channels of the skip
            assert not torch.allclose(net(x), before)
            net.decoder[level][0].weight.copy_(saved)


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 100, 256])
@pytest.mark.parametrize("name", UNETS)
def test_any_number_of_frames_and_bins(name, frames):
    net = build(name)
    for bins in (256, 129):
        with torch.no_grad():
            out = net(torch.rand(2, 1, bins, frames) * 2 - 1)
        assert out.shape == (2, 1, bins, frames)


@pytest.mark.parametrize("changes", [{}, {"upsampling": "nearest"}, {"upsampling": "subpixel"}, {"norm": "batch"}])
@pytest.mark.parametrize("name", ["unet6", "unet10_small"])
def test_blocks_equal_the_whole(name, changes):
    net = build(name, **changes).double()  # so that rounding cannot hide a context too short
    x = torch.rand(1, 1, 32, 1001).double() * 2 - 1
    first, last = net.context + 3 * net.stride, 800  # of a block that begins at a multiple of the stride
    with torch.no_grad():
        whole = net(x)[..., first:last]
        block = net(x[..., first - net.context : last + net.context])[..., net.context :][..., : last - first]
    assert torch.allclose(whole, block, rtol=0, atol=1e-12)


def test_dropout_acts_in_deep_levels_in_training_only():
    net = build("unet10", dropout=0.5)
    x = torch.rand(1, 1, 256, 64) * 2 - 1
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.encoder[0](x), net.encoder[0](x))


def test_macs_are_counted_per_second_of_audio():
    layer = nn.Conv2d(1, 4, 3, padding=1)
    assert models.count_macs(layer, bins=10, frame_rate=125.0) == 10 * 125 * 4 * 9
    assert models.count_parameters(layer) == 4 * 9 + 4


@pytest.mark.parametrize(
    "arguments",
    [{"name": "os.system"}, {"name": "unet", "width": 0}, {"name": "unet", "widht": 3}, {"name": "unet", "norm": "x"}],
)
def test_wrong_names_and_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"unknown|expected|unexpected"):
        models.build(**arguments)
