"""Networks: sizes, blocks equal to the whole, costs, folding, refused arguments."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from conftest import ROOT
from denoiser import models
from denoiser.audio.blocks import Blocks
from denoiser.errors import ConfigError
from denoiser.models.layers import TemporalLayer
from denoiser.models.unet import UNet

UNETS = sorted(path.stem for path in (ROOT / "conf/model").glob("unet*.yaml"))
SMALL = {"width": 8, "max_width": 32}


def build(name: str, seed: int = 0, **changes) -> nn.Module:
    arguments = {}
    for part in (ROOT / "conf/model/unet10.yaml", ROOT / f"conf/model/{name}.yaml"):
        arguments |= OmegaConf.to_container(OmegaConf.load(part))
    arguments.pop("defaults", None)
    torch.manual_seed(seed)
    return models.build(**{**arguments, **changes}).eval()


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions over frequency and time: a 1x1 that only mixes channels does not count."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]


@pytest.mark.parametrize("name", UNETS)
def test_the_number_in_the_name_counts_encoder_convolutions(name):
    assert len(convolutions(build(name).encoder)) == int(name.removeprefix("unet").partition("_")[0])


def test_unet10_has_the_layers_that_its_name_promises():
    net = build("unet10")
    assert [c.out_channels for c in convolutions(net.encoder)] == [16, 16, 32, 32, 64, 64, 128, 128, 256, 256]
    assert [c.out_channels for c in convolutions(net.decoder)] == [16, 16, 32, 32, 64, 64, 128, 128]
    assert all(c.kernel_size == (3, 3) for c in convolutions(net.encoder))
    assert net.head.kernel_size == (1, 1)
    # Poolings halve both axes four times, so a unit of the deepest level stands for 16 x 16.
    assert net.stride == 16


CHOICES = {
    "convs": (1, 2), "max_width": (4, 8), "kernel": (3, 5), "norm": ("none", "batch"), "groups": (2, 4),
    "upsampling": ("transposed", "nearest", "subpixel"), "convolution": ("full", "separable", "grouped"),
    "bottleneck": ("none", "gru", "attention"), "residual": (False, True), "gates": (False, True),
    "bidirectional": (False, True), "inputs": (1, 3), "outputs": (1, 2),
}  # fmt: skip


def combination(seed: int) -> dict[str, Any]:
    """Return the settings of one of the many networks that the options make together."""
    draw = random.Random(seed)
    depth = draw.choice([1, 2, 3, 4])
    halvings = draw.choice([None, *range(depth)])
    reach = 2 ** (depth - 1 if halvings is None else halvings) * draw.choice([1, 2, 5])
    drawn = {name: draw.choice(values) for name, values in CHOICES.items()}
    return {"depth": depth, "width": 4, "time_levels": halvings, "reach": reach, **drawn}


@pytest.mark.parametrize("seed", range(24))
def test_blocks_and_wanted_frames_alone_equal_the_whole_for_every_combination(seed):
    arguments = combination(seed)
    torch.manual_seed(seed)
    net = UNet(**arguments).eval().double()  # so that rounding cannot hide a context too short
    bins = 1 + seed
    magnitude = torch.rand(1, arguments["inputs"], bins, 3 * (net.context + net.stride) + seed).double() * 2 - 1
    blocks = Blocks(net, net.stride, net.context, net.stride)
    with torch.no_grad():
        whole = net(magnitude)
        in_blocks = torch.cat([*blocks.push(magnitude), *blocks.flush()], dim=-1)
        assert net(magnitude[..., :1]).shape == (1, arguments["outputs"], bins, 1)
    assert whole.shape == (1, arguments["outputs"], *magnitude.shape[2:])
    assert torch.allclose(whole, in_blocks, rtol=0, atol=1e-12), arguments
    assert not torch.allclose(whole, whole.mean(), atol=1e-3)
    frames = whole.shape[-1]
    for first, last in ((0, 3), (frames // 2, frames - 2), (frames - 1, frames)):
        with torch.no_grad():
            wanted = net(magnitude, slice(first, last))
        assert torch.allclose(wanted, whole[..., first:last], rtol=0, atol=1e-12), arguments
    net.train()
    net(magnitude).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters()), arguments


@pytest.mark.parametrize(
    ("kind", "bidirectional", "first", "last"),
    [("attention", True, 11, 21), ("gru", True, 10, 24), ("gru", False, 16, 24)],
)
def test_a_temporal_layer_sees_its_chunk_and_the_neighbours_of_it(kind, bidirectional, first, last):
    """Frame 16 lies in the chunk of frames 15 to 19; ``first`` and ``last`` are the frames that depend on it."""
    torch.manual_seed(0)
    layer = TemporalLayer(kind, 64, 5, bidirectional).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(1, 64, 2, 35).double()
    changed = x.clone()
    changed[..., 16] = torch.randn(1, 64, 2).double()
    with torch.no_grad():
        differs = (layer(x) != layer(changed)).any(1)[0, 0].nonzero().flatten()
    assert (int(differs.min()), int(differs.max())) == (first, last)


@pytest.mark.parametrize("name", UNETS)
def test_half_precision_with_channels_innermost(name):
    net = build(name, **SMALL).to(memory_format=torch.channels_last)
    magnitude = torch.rand(2, 1, 64, 100) * 2 - 1
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = net(magnitude).float()
    assert (half - net(magnitude)).square().mean().sqrt() < 0.05


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("option", ["small", "residual", "gates", "separable", "frequency", "gru", "attention"])
def test_signals_neither_vanish_nor_explode_on_the_way_down(option, norm):
    magnitude = torch.rand(1, 1, 128, 128) * 2 - 1
    gains = []
    for seed in range(4):
        net = build(f"unet10_{option}", **SMALL, depth=7, norm=norm, seed=seed)
        net.bottleneck.register_forward_hook(lambda *call: gains.append(float(call[2].detach().square().mean())))
        net(magnitude)
    assert 0.1 < np.median(gains) / float(magnitude.square().mean()) < 30


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
    plain = models.count_macs(build("unet10"), bins=256, frame_rate=128.0)
    # 8 deep steps a second in 16 rows of 256 channels; chunks of 8, seen in threes.
    gru = 3 * 2 * 3 * 128 * (256 + 128) + 256 * 256
    attention = 4 * 256 * 256 + 2 * 24 * 256
    for name, each in (("unet10_gru", gru), ("unet10_attention", attention)):
        assert models.count_macs(build(name), bins=256, frame_rate=128.0) - plain == 8 * 16 * each


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "os.system"},
        {"name": "unet", "width": 0},
        {"name": "unet", "widht": 3},
        {"name": "unet", "convolution": "grouped", "groups": 3},
        {"name": "unet", "time_levels": 5},
        {"name": "unet", "bottleneck": "lstm"},
        {"name": "unet", "bottleneck": "gru", "reach": 100},
    ],
)
def test_wrong_names_and_arguments_are_refused(arguments):
    with pytest.raises(ConfigError, match=r"unknown|expected|unexpected"):
        models.build(**arguments)


FOLDED = {
    "plain": {"name": "unet", **SMALL, "norm": "batch"},
    "separable": {"name": "unet", **SMALL, "norm": "batch", "residual": True, "convolution": "separable"},
    "gates": {"name": "unet", **SMALL, "norm": "batch", "stem": 2, "gates": True},
    "crn": {"name": "crn", "widths": (8, 8), "hidden": 8},
}


@pytest.mark.parametrize("arguments", FOLDED.values(), ids=FOLDED)
@pytest.mark.parametrize("exact", [False, True])
def test_folding_batch_normalisations_changes_nothing(arguments, exact):
    torch.manual_seed(0)
    net = models.build(**arguments)
    x = torch.rand(2, 1, 256, 48) * 2 - 1
    with torch.no_grad():
        for _ in range(3):  # statistics that are not those of the start
            net.train()(torch.randn(2, 1, 256, 32))
        for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
        before = net.eval()(x)
        after = models.fold(net, exact)(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert torch.allclose(before, after, atol=1e-4 * float(before.abs().max()))
