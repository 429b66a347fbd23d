"""Distances between the scaled noise magnitudes: the losses of the seed."""

from torch import Tensor, nn

from denoiser.spectral import Spectrum


class NoiseLoss(nn.Module):
    """A distance between the scaled noise of the estimate and the true one, ``[B, F, T]`` in [-1, 1], for any head."""

    sees_phase = False

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, estimate: Spectrum, clean: Spectrum, noisy: Spectrum) -> Tensor:
        # Half of the difference fills the range of tanh whichever of the two is louder. Only the target is clamped to
        # it: a clamp of the estimate would have no gradient.
        target = ((noisy.magnitude - clean.magnitude) / 2).clamp(-1, 1)
        return self.distance((noisy.magnitude - estimate.magnitude) / 2, target)


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
