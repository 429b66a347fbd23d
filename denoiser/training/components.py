"""Parts of a training that a configuration names by ``_target_``: loss, optimizer, scheduler, augmentation."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torch.optim import Optimizer

from denoiser.data.augment import Augment
from denoiser.errors import ConfigError, DenoiserError, brief
from denoiser.losses import sees_phase
from denoiser.models.heads import HEADS, Head

MakeOptimizer = Callable[..., Optimizer]  # of the parameters


def build_loss(settings: Mapping[str, Any], head: Head) -> nn.Module:
    """Return the loss; ConfigError where it sees magnitudes alone and ``head`` estimates the phase, too."""
    loss = _instantiate("loss", settings)
    if not isinstance(loss, nn.Module):
        raise ConfigError(f"loss._target_={settings.get('_target_')}: expected a torch module")
    if head.estimates_phase and not sees_phase(loss):
        name = next((name for name, kind in HEADS.items() if type(head) is kind), type(head).__name__)
        raise ConfigError(
            f"model/head={name} estimates the phase, and this loss sees magnitudes alone, so the phase would learn "
            "nothing; choose loss=compressed, si_sdr, sum or perceptual, or model/head=mask"
        )
    return loss


def build_optimizer(settings: Mapping[str, Any]) -> MakeOptimizer:
    """Return the optimizer, still to be given parameters; ConfigError where it refuses its settings."""
    optimizer: MakeOptimizer = _instantiate("optimizer", settings, _partial_=True)
    # Tried on a parameter of its own, so that a mistake is known before any data is prepared.
    try:
        optimizer([nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {brief(error)}") from error
    return optimizer


def build_scheduler(settings: Mapping[str, Any] | None) -> Callable[..., Any] | None:
    """Return the scheduler, still to be given the optimizer; None for none."""
    return _instantiate("scheduler", settings, _partial_=True) if settings else None


def build_augment(settings: Mapping[str, Any] | None) -> Augment:
    """Return the augmentation of ``{name: transform}``; a transform of None is left out."""
    transforms = []
    for name, transform in (settings or {}).items():
        if transform is None:
            continue
        if not isinstance(transform, Mapping) or "_target_" not in transform:
            raise ConfigError(
                f"augment.{name}={transform}: expected its settings with a _target_, or null to leave it out"
            )
        transforms.append(_instantiate(f"augment.{name}", transform))
    return Augment(transforms)


def _instantiate(kind: str, settings: Mapping[str, Any], **more: Any) -> Any:
    """Return the object of ``settings``; a mistake in them is a ConfigError that begins with ``kind``."""
    if not isinstance(settings, Mapping) or "_target_" not in settings:
        raise ConfigError(f"{kind}={settings}: expected the settings of a class, named by {kind}._target_")
    try:
        return instantiate(dict(settings), _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, DenoiserError):
            raise cause from error
        raise ConfigError(f"{kind}: {brief(cause or error)}") from error
