"""Complex numbers as pairs of real ones, and Fourier transforms as products of matrices, for programs without them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class RealArithmetic(TorchFunctionMode):
    """Context in which PyTorch computes with :class:`Complex` in place of complex tensors."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return REPLACED.get(function, function)(*args, **(kwargs or {}))


class Complex:
    """Complex numbers as two real tensors, with those methods of a complex tensor that spectra and heads use."""

    dtype = torch.complex64

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real, self.imag = real, imag

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return REPLACED[function](*args, **(kwargs or {}))

    @property
    def shape(self) -> torch.Size:
        return self.real.shape

    @property
    def device(self) -> torch.device:
        return self.real.device

    @property
    def mT(self) -> "Complex":  # noqa: N802
        return self.map(lambda part: part.mT)

    def map(self, function: Callable[[Tensor], Tensor]) -> "Complex":
        """Return the result of a linear function of the real and of the imaginary part."""
        return Complex(function(self.real), function(self.imag))

    def __getitem__(self, index: Any) -> "Complex":
        return self.map(lambda part: part[index])

    def __add__(self, other: "Complex") -> "Complex":
        return Complex(self.real + other.real, self.imag + other.imag)

    def __mul__(self, other: "Complex | Tensor") -> "Complex":
        return self._product(other, torch.mul)

    def __matmul__(self, other: "Complex | Tensor") -> "Complex":
        return self._product(other, torch.matmul)

    def __truediv__(self, other: Tensor) -> "Complex":
        return self.map(lambda part: part / other)

    def _product(self, other: "Complex | Tensor", times: Callable[[Tensor, Tensor], Tensor]) -> "Complex":
        if isinstance(other, Tensor):
            return self.map(lambda part: times(part, other))
        real = times(self.real, other.real) - times(self.imag, other.imag)
        return Complex(real, times(self.real, other.imag) + times(self.imag, other.real))

    def abs(self) -> Tensor:
        return (self.real.square() + self.imag.square()).sqrt()

    def conj(self) -> "Complex":
        return Complex(self.real, -self.imag)

    def reshape(self, *shape: int) -> "Complex":
        return self.map(lambda part: part.reshape(*shape))

    def movedim(self, source: int, target: int) -> "Complex":
        return self.map(lambda part: part.movedim(source, target))

    def unfold(self, dim: int, size: int, step: int) -> "Complex":
        return self.map(lambda part: part.unfold(dim, size, step))

    def sum(self, dim: int) -> "Complex":
        return self.map(lambda part: part.sum(dim))

    def to(self, dtype: torch.dtype) -> "Complex":
        return self


def _roots(rows: int, columns: int, size: int) -> Complex:
    """Return ``exp(-2j pi r c / size)`` for r below ``rows`` and c below ``columns``."""
    angle = (torch.outer(torch.arange(rows), torch.arange(columns)) % size).double() * (-2 * math.pi / size)
    return Complex(angle.cos().float(), angle.sin().float())


def dft(values: "Complex | Tensor") -> Complex:
    """Return the discrete Fourier transform over the last dimension.

    In two steps, of a and of b values, where a b is their number (Cooley and Tukey 1965): one product with the whole
    matrix of a window of 1530 samples takes ten times the work, and the matrix 9 MB.
    """
    size = values.shape[-1]
    small = max(divisor for divisor in range(1, math.isqrt(size) + 1) if size % divisor == 0)
    large = size // small
    if isinstance(values, Tensor):
        values = Complex(values, torch.zeros_like(values))
    # Value b i + j is in row i and column j.
    grid = values.map(lambda part: part.unflatten(-1, (small, large)).mT)
    halfway = (grid @ _roots(small, small, small)) * _roots(large, small, size)
    # Frequency k + a l is in row k and column l.
    return (halfway.mT @ _roots(large, large, large)).map(lambda part: part.mT.flatten(-2))


def _stft(
    signal: Tensor,
    n_fft: int,
    hop_length: int,
    win_length: int,
    window: Tensor,
    center: bool,
    pad_mode: str,
    normalized: bool,
    onesided: bool | None,
    return_complex: bool,
    align_to_window: bool | None = None,
) -> Complex:
    if center:
        signal = F.pad(signal, (n_fft // 2, n_fft // 2), pad_mode)
    frames = signal.unfold(-1, n_fft, hop_length) * window
    return dft(frames)[..., : n_fft // 2 + 1].mT


def _irfft(spectrum: Complex, size: int) -> Tensor:
    # Frequencies above the middle are the conjugates of those below it, so these count twice.
    inner = torch.arange(spectrum.shape[-1]) % (size // 2) > 0
    half = spectrum.conj() * (torch.where(inner, 2.0, 1.0) / size)
    return dft(half.map(lambda part: F.pad(part, (0, size - part.shape[-1])))).real


def _sgn(values: Complex) -> Complex:
    modulus = values.abs()
    return values * torch.where(modulus > 0, 1 / modulus, 0.0)


def _mul(first: Any, second: Any) -> Any:
    return second * first if isinstance(second, Complex) else torch.mul(first, second)


def _to(values: Tensor, *args: Any, **kwargs: Any) -> Any:
    if args == (torch.complex64,):
        return Complex(values, torch.zeros_like(values))
    return values.to(*args, **kwargs)


def _cat(parts: Any, dim: int = 0) -> Any:
    if not isinstance(parts[0], Complex):
        return torch.cat(parts, dim)
    return Complex(torch.cat([part.real for part in parts], dim), torch.cat([part.imag for part in parts], dim))


def _pad(values: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(values, Complex):
        return values.map(lambda part: F.pad(part, *args, **kwargs))
    return F.pad(values, *args, **kwargs)


REPLACED: dict[Any, Callable[..., Any]] = {
    torch.stft: _stft,
    torch.fft.irfft: _irfft,
    torch.sgn: _sgn,
    torch.cat: _cat,
    F.pad: _pad,
    torch.Tensor.mul: _mul,
    torch.Tensor.to: _to,
    torch.complex: Complex,
    torch.polar: lambda modulus, angle: Complex(modulus * angle.cos(), modulus * angle.sin()),
    torch.view_as_complex: lambda parts: Complex(parts[..., 0], parts[..., 1]),
    torch.view_as_real: lambda values: torch.stack([values.real, values.imag], dim=-1),
}
