import pytest
import torch

from denoiser.devices import resolve_device, trainer_devices
from denoiser.errors import ConfigError


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [
        (None, 0, ("cpu", 1)),
        (None, 4, ("gpu", [0])),
        (0, 4, ("cpu", 1)),
        (2, 4, ("gpu", [0, 1])),
        ([3], 4, ("gpu", [3])),
        (-1, 3, ("gpu", [0, 1, 2])),
    ],
)
def test_gpus_become_lightning_arguments(monkeypatch, gpus, visible, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert trainer_devices(gpus) == expected


@pytest.mark.parametrize(
    ("gpus", "processes", "message"),
    [
        *((gpus, None, r"not there.*trainer\.gpus=0") for gpus in (5, [0, 4])),
        *((gpus, None, "no meaning") for gpus in (-2, [], [0, 0], "two")),
        (1, 2, r"trainer\.processes=2 is for the CPU"),
        (0, 0, "a whole number of 1 or more"),
    ],
)
def test_devices_that_are_not_there_or_have_no_meaning_are_refused(monkeypatch, gpus, processes, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert trainer_devices(0, processes=2) == ("cpu", 2)
    with pytest.raises(ConfigError, match=message):
        trainer_devices(gpus, processes)


def test_devices_are_resolved_or_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    for given in ("toaster", None):
        with pytest.raises(ConfigError, match=f"device={given} is no device"):
            resolve_device(given)
    with pytest.raises(ConfigError, match="not there"):
        resolve_device("cuda:99")
