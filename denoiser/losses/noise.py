"""Distances between the scaled noise magnitudes: the losses of the seed."""

from torch import Tensor, nn

from denoiser.spectral import Spectral, Spectrum


class NoiseLoss(nn.Module):
    """A distance between the scaled noise of the estimate and the true one, noisy minus clean magnitude, for any head.

    ``distance`` is a module of (estimate, target), both ``[B, F, T]`` in the scale of tanh, -1 to 1.
    """

    sees_phase = False

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        # Only the target is clamped to the range of tanh: a clamp of the estimate would have no gradient.
        target = Spectral.difference(noisy.magnitude, clean.magnitude)
        noise = (noisy.magnitude - estimate.magnitude) / 2
        return self.distance(noise, target)


class Huber(NoiseLoss):
    """Huber's distance: quadratic up to ``delta``, linear beyond it."""

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__(nn.HuberLoss(delta=delta))


class L1(NoiseLoss):
    """Mean absolute difference."""

    def __init__(self) -> None:
        super().__init__(nn.L1Loss())


class MSE(NoiseLoss):
    """Mean squared difference."""

    def __init__(self) -> None:
        super().__init__(nn.MSELoss())
