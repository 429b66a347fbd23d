"""Parts of a training that a configuration names by ``_target_``: loss, optimizer, scheduler, augmentation."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from denoiser.data.augment import Augment
from denoiser.errors import ConfigError, DenoiserError, brief
from denoiser.losses import sees_phase
from denoiser.models.heads import Head

MakeOptimizer = Callable[..., Optimizer]  # of the parameters
MakeScheduler = Callable[..., Any]  # of the optimizer, and of total_steps if it has that argument


def build(kind: str, settings: Mapping[str, Any], **more: Any) -> Any:
    """Return the object of ``settings``; a mistake in them is a ConfigError that begins with ``kind``."""
    if not isinstance(settings, Mapping) or "_target_" not in settings:
        raise ConfigError(f"{kind}={settings}: expected the settings of a class, named by {kind}._target_")
    try:
        return instantiate(dict(settings), _convert_="all", **more)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, DenoiserError):
            raise cause from error
        advice = ""
        if "unexpected keyword argument" in str(cause):
            advice = f"; a setting of the default {kind} goes by '~{kind}.NAME', or give a yaml of your own"
        raise ConfigError(f"{kind}: {brief(cause or error)}{advice}") from error


def build_loss(settings: Mapping[str, Any], head: Head) -> nn.Module:
    """Return the loss; ConfigError where it sees magnitudes alone and ``head`` estimates the phase, too."""
    loss = build("loss", settings)
    if not isinstance(loss, nn.Module):
        raise ConfigError(f"loss._target_={settings['_target_']}: expected a torch module")
    if head.estimates_phase and not sees_phase(loss):
        advice = "choose loss=compressed, si_sdr, sum or perceptual, or model/head=mask"
        raise ConfigError(f"this model/head estimates the phase, and this loss compares magnitudes only; {advice}")
    return loss


def build_optimizer(settings: Mapping[str, Any]) -> MakeOptimizer:
    """Return the optimizer, still to be given parameters; ConfigError where it refuses its settings."""
    optimizer: MakeOptimizer = build("optimizer", settings, _partial_=True)
    # Tried before any data is prepared.
    try:
        optimizer([nn.Parameter(torch.zeros(1))])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"optimizer: {brief(error)}") from error
    return optimizer


def build_scheduler(settings: Mapping[str, Any] | None, optimizer: MakeOptimizer) -> MakeScheduler | None:
    """Return the scheduler, still to be given its optimizer, or None; ConfigError where it refuses its settings."""
    if not settings:
        return None
    scheduler: MakeScheduler = build("scheduler", settings, _partial_=True)
    # Tried before any data is prepared, which alone tells the number of steps.
    steps = {"total_steps": 1000} if wants_total_steps(scheduler) else {}
    try:
        made = scheduler(optimizer([nn.Parameter(torch.zeros(1))]), **steps)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scheduler: {brief(error)}") from error
    if isinstance(made, ReduceLROnPlateau):
        target = settings["_target_"]
        raise ConfigError(f"scheduler._target_={target}: needs a metric at each step; choose one that counts steps")
    return scheduler


def wants_total_steps(scheduler: MakeScheduler) -> bool:
    """Return True where the scheduler takes the number of steps, and its settings do not give it."""
    given = getattr(scheduler, "keywords", {})
    return "total_steps" in inspect.signature(scheduler).parameters and "total_steps" not in given


def build_augment(settings: Mapping[str, Any] | None) -> Augment:
    """Return the augmentation of ``{name: transform}``; a transform of None is left out."""
    given = {name: transform for name, transform in (settings or {}).items() if transform is not None}
    return Augment([build(f"augment.{name}", transform) for name, transform in given.items()])
