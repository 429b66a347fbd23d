"""Weights of a checkpoint as the start of a training: ``init_from=``."""

from collections.abc import Mapping

import torch
from torch import Tensor

from denoiser.checkpoint import load_checkpoint
from denoiser.errors import CheckpointError
from denoiser.training.folder import differences
from denoiser.training.module import DenoisingModule


def load_weights(module: DenoisingModule, path: str) -> None:
    """Load the weights and the scale of a checkpoint, and nothing else of it.

    A checkpoint of the same network with another head may have fewer input or output channels. Raises CheckpointError
    where it was trained on other spectra, or has the weights of another network.
    """
    checkpoint = load_checkpoint(path)
    trained = checkpoint["hyper_parameters"]
    if changes := differences(trained, {"spectral": module.hparams["spectral"]}):
        # The scale belongs both to the weights and to these settings.
        raise CheckpointError(f"init_from={path}: was trained on other spectra: {', '.join(changes)}")
    model = module.hparams["model"]
    if {**trained["model"], "head": None} == {**model, "head": None}:
        _pad_with_zeros(checkpoint["state_dict"], module.state_dict())
    try:
        module.denoiser.load_weights(checkpoint, path)
    except CheckpointError as error:
        changes = differences(trained, {"model": model})
        if not changes:
            raise
        raise CheckpointError(f"init_from={path}: its weights are of another network: {', '.join(changes)}") from error


def _pad_with_zeros(weights: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Give weights the wanted channels: with zeros for the new ones the network computes what it did before."""
    for name, value in weights.items():
        shape = wanted[name].shape if name in wanted else value.shape
        if value.shape == shape or value.ndim != len(shape):
            continue
        if all(size <= wanted_size for size, wanted_size in zip(value.shape, shape, strict=True)):
            padded = torch.zeros(shape)
            padded[tuple(slice(size) for size in value.shape)] = value
            weights[name] = padded
