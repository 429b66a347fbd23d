import pytest
import torch

from denoiser.devices import resolve_device, trainer_devices
from denoiser.errors import ConfigError


@pytest.mark.parametrize(
    ("gpus", "visible", "accelerator", "devices", "strategy"),
    [
        (None, 0, "cpu", 1, "auto"),
        (None, 4, "gpu", [0], "auto"),
        (0, 4, "cpu", 1, "auto"),
        (1, 4, "gpu", [0], "auto"),
        (2, 4, "gpu", [0, 1], "ddp"),
        ([0, 2], 4, "gpu", [0, 2], "ddp"),
        ([3], 4, "gpu", [3], "auto"),
        (-1, 3, "gpu", [0, 1, 2], "ddp"),
    ],
)
def test_gpus_become_lightning_arguments(gpus, visible, accelerator, devices, strategy):
    expected = {"accelerator": accelerator, "devices": devices, "strategy": strategy}
    assert trainer_devices(gpus, visible) == expected


@pytest.mark.parametrize(("gpus", "visible"), [(1, 0), (-1, 0), (3, 2), ([0, 2], 2)])
def test_a_gpu_that_is_not_there_is_an_error_that_says_so(gpus, visible):
    with pytest.raises(ConfigError, match=r"not there.*trainer\.gpus=0"):
        trainer_devices(gpus, visible)


@pytest.mark.parametrize("gpus", [-2, [], [0, 0], [-1], "two", [0, "1"]])
def test_meaningless_numbers_of_gpus_are_refused(gpus):
    with pytest.raises(ConfigError, match="no meaning"):
        trainer_devices(gpus, 4)


def test_only_the_cpu_takes_several_processes():
    assert trainer_devices(0, 0, processes=2) == {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}
    assert trainer_devices(0, 0, processes=1)["strategy"] == "auto"
    with pytest.raises(ConfigError, match=r"trainer\.processes=2 is for the CPU"):
        trainer_devices(1, 4, processes=2)


def test_devices_are_resolved_or_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no device"):
        resolve_device("toaster")
    with pytest.raises(ConfigError, match="not there"):
        resolve_device("cuda:99")
