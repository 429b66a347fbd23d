"""Noisy waveform → enhanced waveform: the one implementation that validation, files and Python share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from denoiser import models, onnx_net
from denoiser.audio import FLOATING, match_length, probe, read, resample, write
from denoiser.devices import resolve_device
from denoiser.errors import AudioError, CheckpointError, ConfigError, DenoiserError
from denoiser.spectral import Spectral

Waveform = TypeVar("Waveform", Tensor, np.ndarray)

BLOCK_SECONDS = 16.0  # of spectrogram put through the network at once; the result does not depend on it


class Denoiser(nn.Module):
    """A network and the spectral representation it works in.

    From Python::

        denoiser = Denoiser.from_checkpoint("best.ckpt")
        enhanced = denoiser.enhance(noisy, sample_rate)  # tensor or array [..., N], any rate
    """

    def __init__(self, net: nn.Module, spectral: Spectral, block_seconds: float = BLOCK_SECONDS) -> None:
        super().__init__()
        # Convolutions over [B, C, F, T] are faster with channels innermost: 1.4x in float32, 1.8x in bf16 on CPU.
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.spectral = spectral
        self.block_seconds = block_seconds

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto") -> Denoiser:
        """Read a checkpoint, which holds all that is needed, onto ``device`` (auto, cpu, cuda, cuda:1).

        ``path`` is a file, a run's folder for its ``checkpoints/best.ckpt``, or an exported ``.onnx``.

        Raises CheckpointError where the file is missing, damaged, not ours, or not yet trained. Nothing in
        the file is executed: it is read as plain numbers, strings and tensors.
        """
        if Path(path).suffix.lower() == ".onnx":
            return cls(*onnx_net.load(path, device)).eval()
        checkpoint = load_checkpoint(path)
        config = checkpoint["hyper_parameters"]
        try:
            denoiser = cls(models.build(**config["model"]), Spectral(**config["spectral"]))
        except (ConfigError, TypeError) as error:
            raise CheckpointError(f"{path}: describes a model this version cannot build ({error})") from error
        denoiser.load_weights(checkpoint, path)
        return denoiser.to(resolve_device(device)).eval()

    def load_weights(self, checkpoint: dict[str, Any], path: str | Path) -> None:
        """Take the weights and the spectral scale of a loaded checkpoint; CheckpointError where they do not fit."""
        prefix = "denoiser."
        weights = {k[len(prefix) :]: v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
        try:
            self.load_state_dict(weights)
        except RuntimeError as error:
            first = str(error).split("\n\t")[1] if "\n\t" in str(error) else str(error)
            raise CheckpointError(f"{path}: its weights do not fit the model: {first}") from error
        if not float(self.spectral.peak) > 0:
            raise CheckpointError(f"{path}: was written before training had begun; it has no spectral scale")

    @property
    def sample_rate(self) -> int:
        """The rate in Hz the model works at; :meth:`enhance` takes any."""
        return self.spectral.sample_rate

    def forward(self, noisy: Tensor, level: Tensor | None = None) -> Tensor:
        """``[B, N]`` at the model's rate → enhanced ``[B, N]``; ``level`` ``[B, 1]`` is each row's RMS unless given."""
        if level is None:
            level = self.spectral.level(noisy)
        magnitude, phase = self.spectral(noisy, level)
        with torch.autocast(noisy.device.type, enabled=False):
            noise = self.noise(magnitude[:, None])[:, 0]
        return self.spectral.inverse(self.spectral.subtract(magnitude, noise), phase, level, noisy.shape[-1])

    def noise(self, magnitude: Tensor) -> Tensor:
        """Scaled magnitude ``[B, 1, F, T]`` → scaled noise, block by block, each with all that can reach it."""
        magnitude = magnitude.clamp(max=1)
        stride, context = int(self.net.stride), int(self.net.context)
        frames = magnitude.shape[-1]
        block = max(1, round(self.block_seconds * self.spectral.frame_rate / stride)) * stride
        parts = []
        for start in range(0, frames, block):
            first = max(0, start - context)
            part = self.net(magnitude[..., first : start + block + context])
            parts.append(part[..., start - first : start - first + min(block, frames - start)])
        return torch.cat(parts, dim=-1)

    @torch.no_grad()
    def enhance(self, waveform: Waveform, sample_rate: int) -> Waveform:
        """``[..., N]`` at ``sample_rate`` Hz → the same shape, rate, kind and dtype, enhanced.

        Leading dimensions (channels, batch) are independent signals, each with its own level. Integers
        (int16, int32) are read and returned with full scale at the ends of their type, floats as they are: a quieter
        waveform gives the same result, quieter. Raises DenoiserError for NaN, infinity or no samples.
        """
        if int(sample_rate) != sample_rate:
            raise DenoiserError(f"cannot enhance at a sample rate of {sample_rate} Hz; give a whole number")
        sample_rate = int(sample_rate)
        if isinstance(waveform, Tensor):
            given: Tensor = waveform
        else:
            array = np.asarray(waveform)
            # torch takes no negative strides, as x[::-1] has
            given = torch.as_tensor(array.copy() if min(array.strides, default=0) < 0 else array)
        if given.ndim == 0 or given.numel() == 0:
            raise DenoiserError(f"cannot enhance a waveform of shape {list(given.shape)}: it holds no samples")
        if given.ndim == 2 and given.shape[0] >= 1000 > given.shape[1]:
            raise DenoiserError(
                f"cannot enhance a waveform of shape {list(given.shape)}: expected [channels, samples]; "
                "soundfile reads [samples, channels], so give its transpose"
            )
        signed = given.dtype in (torch.int16, torch.int32)
        if not (signed or given.is_floating_point()):
            raise DenoiserError(f"cannot enhance a waveform of {given.dtype}; give floats, int16 or int32")
        full_scale = -float(torch.iinfo(given.dtype).min) if signed else 1.0
        noisy = given.to(self.spectral.window.device, torch.float32) / full_scale
        if not torch.isfinite(noisy).all():
            raise DenoiserError("cannot enhance a waveform that holds NaN or infinite samples")
        rows = noisy.reshape(-1, noisy.shape[-1])
        enhanced = self(resample(rows, sample_rate, self.sample_rate))
        enhanced = match_length(resample(enhanced, self.sample_rate, sample_rate), noisy.shape[-1])
        enhanced = enhanced.reshape(noisy.shape).to(given.device)
        if full_scale != 1.0:
            # In float64: float32 rounds the largest int32 up, and it would wrap to the smallest.
            enhanced = (enhanced.double() * full_scale).round().clamp(-full_scale, full_scale - 1)
        enhanced = enhanced.to(given.dtype)
        return enhanced if isinstance(waveform, Tensor) else enhanced.numpy()

    def enhance_file(self, source: str | Path, target: str | Path) -> Enhanced:
        """Enhance one file into another: same rate, channels, length and level; same format if the extension is.

        Where the result passes full scale, all of it is turned down to fit (``gain`` below 1). Raises AudioError
        for a file that cannot be read or written; nothing half-written is left under ``target``.
        """
        source, target = Path(source), Path(target)
        info = probe(source)
        if target.exists() and target.samefile(source):
            raise AudioError(f"{target}: is the input itself; give another output=")
        noisy, rate = read(source)
        enhanced = self.enhance(noisy, rate)
        same = target.suffix.lower() == source.suffix.lower()
        peak = float(enhanced.abs().max())
        gain = 1 / peak if peak > 1 and not (same and info.subtype in FLOATING) else 1.0
        enhanced *= gain
        write(target, enhanced, rate, format=info.format if same else None, subtype=info.subtype)
        return Enhanced(noisy, enhanced, rate, gain)


class Enhanced(NamedTuple):
    """A file before and after, ``[C, N]`` at ``sample_rate`` Hz, and the gain it took to fit full scale."""

    noisy: Tensor
    enhanced: Tensor
    sample_rate: int
    gain: float


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint as plain data. Raises CheckpointError where it is missing, damaged or not ours."""
    path = Path(path)
    if (path / "checkpoints/best.ckpt").is_file():
        path = path / "checkpoints/best.ckpt"
    if not path.is_file():
        what = "a folder without checkpoints/best.ckpt in it" if path.is_dir() else "no such checkpoint"
        raise CheckpointError(f"{path}: {what}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a damaged or hostile file
        reason = "it holds code or objects, not only numbers" if "Unsupported" in str(error) else "damaged"
        raise CheckpointError(f"{path}: not a checkpoint of this program ({reason})") from error
    config = checkpoint.get("hyper_parameters") if isinstance(checkpoint, dict) else None
    if not isinstance(config, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this program (no model description in it)")
    if not isinstance(config.get("model"), dict) or not isinstance(config.get("spectral"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of this program (no model description in it)")
    if not isinstance(config["spectral"].get("sample_rate"), int):
        raise CheckpointError(f"{path}: states no sample rate, so nothing it makes could be trusted")
    return checkpoint
