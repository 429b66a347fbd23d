"""Noisy waveform → enhanced waveform: the one implementation that validation, files and Python share."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from denoiser import models
from denoiser.audio import Reader
from denoiser.checkpoint import load_checkpoint, shipped_onnx
from denoiser.devices import cpu_has_bf16, resolve_device
from denoiser.errors import AudioError, CheckpointError, ConfigError, DenoiserError, brief
from denoiser.inference.estimator import Estimator
from denoiser.inference.level import Level, measure_level
from denoiser.inference.options import Options
from denoiser.inference.recording import Enhanced, Recording
from denoiser.inference.stream import Stream, Waveform, rows_of
from denoiser.models import heads
from denoiser.spectral import Spectral

# Each block also computes its context (unet10: 128 frames on either side), so blocks are as long as memory allows.
LONGEST_BLOCK = 32.0  # seconds
MAX_BYTES = 3 << 24  # limit of the network's largest tensor: 12 s of unet10 in float32
PRECISIONS = ("auto", "32", "bf16")  # of the network's arithmetic


class Denoiser(Estimator):
    """Speech enhancement of waveforms at any rate, of files and of streams.

    ``Denoiser.from_checkpoint("best").enhance(noisy, sample_rate)`` takes a tensor or an array ``[..., N]``.
    """

    @classmethod
    def build(cls, model: Mapping[str, Any], spectral: Mapping[str, Any], device: str = "cpu") -> "Denoiser":
        """Build it, untrained, from plain settings: ``{name: unet, depth: 5, ..., head: {name: mask}}``.

        On the device ``meta`` the network takes no memory and cannot be run. ConfigError for invalid settings.
        """
        settings = {**model}
        try:
            head = heads.build(**(settings.pop("head", None) or {}))
            representation = Spectral(**spectral)
            settings["bins"] = representation.bins
            with torch.device(device):
                inputs = head.inputs + representation.two_levels
                net = models.build(**settings, inputs=inputs, outputs=head.outputs)
        except TypeError as error:  # an argument that is missing or unknown
            raise ConfigError(f"model or spectral: {error}") from error
        if head.start:
            bias = net.get_parameter("head.bias")
            start = torch.tensor(head.start).repeat_interleave(len(bias) // head.outputs)
            with torch.no_grad():
                bias.copy_(start)
        denoiser = cls(net, representation, head=head)
        if denoiser.causal and representation.two_levels:
            raise ConfigError("spectral: two_levels=true: only for networks that look ahead, and this one is causal")
        return denoiser

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "auto", precision: str = "auto") -> "Denoiser":
        """Read a checkpoint onto a device, for inference; nothing in it is executed.

        Args:
            path: ``best``, ``small`` or ``live`` (in the package), a file, or a run's folder (its best checkpoint).
            device: ``cpu``, ``cuda``, ``cuda:1``, or ``auto``: a GPU if there is one, else the CPU.
            precision: ``32``, ``bf16``, or ``auto``: bf16 on a CPU with native bf16, if the network is not causal
                and its error stays below 1e-3 (-60 dB); else 32.

        Raises CheckpointError where the file is missing, damaged, not ours, or not yet trained; ConfigError for an
        unknown device or precision.
        """
        if precision not in PRECISIONS:
            raise ConfigError(f"precision={precision} is unknown; expected {', '.join(PRECISIONS)}")
        checkpoint = load_checkpoint(path)
        settings = checkpoint["hyper_parameters"]
        try:
            # First on ``meta``: a file of a few bytes may describe a network of any size.
            described = cls.build(settings["model"], settings["spectral"], device="meta")
            growth = models.growth(described.net, described.spectral.bins)
        except Exception as error:  # torch raises many kinds for sizes that no network has
            raise CheckpointError(f"{path}: describes a model this version cannot build ({brief(error)})") from error
        described.load_weights(checkpoint, path)
        # The weights that it begins with would be drawn from the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            denoiser = cls.build(settings["model"], settings["spectral"])
        denoiser.load_weights(checkpoint, path)
        models.fold(denoiser.net, last_in_float32=denoiser.head.bf16)
        resolved = resolve_device(device)
        native = resolved.type == "cpu" and denoiser.head.bf16 and not denoiser.causal and cpu_has_bf16()
        fastest = "bf16" if native else "32"
        denoiser.precision = fastest if precision == "auto" else precision
        values_per_second = growth * denoiser.spectral.bins * denoiser.spectral.frame_rate
        value_bytes = 2 if denoiser.precision == "bf16" else 4
        denoiser.block_seconds = min(LONGEST_BLOCK, MAX_BYTES / (values_per_second * value_bytes))
        denoiser.exported = shipped_onnx(path)
        # Whatever default type the caller has set in torch.
        return denoiser.to(resolved, torch.float32).eval()

    @property
    def latency(self) -> float:
        """Seconds from a sample's input to its output, in a stream at the model's rate: 0.032 for ``live``."""
        return self.stream(self.sample_rate).latency

    def level(self, waveform: Waveform, sample_rate: int) -> Level:
        """Return the level of ``[..., N]``; given to :meth:`stream`, it makes the result that of :meth:`enhance`."""
        rate = _whole(sample_rate)
        level_rate = self.at(rate).level_rate
        rows, _ = rows_of(waveform)
        seconds = rows.to(self.device).split(rate, dim=-1)
        return measure_level(lambda: seconds, rate, level_rate)

    @torch.no_grad()
    def enhance(self, waveform: Waveform, sample_rate: int, options: Options | None = None) -> Waveform:
        """Enhance ``[..., N]`` at ``sample_rate`` Hz; the result has the same shape, rate, type and dtype.

        Leading dimensions (channels, batch) are independent signals, each with its own level. The range of int16
        and int32 is full scale. An offset (DC) is removed. DenoiserError for NaN or no samples.
        """
        rate = _whole(sample_rate)
        rows, restore = rows_of(waveform)
        if not rows.numel():
            raise DenoiserError(f"cannot enhance a waveform of shape {list(waveform.shape)}: it holds no samples")
        stream = Stream(self, rate, self.level(rows, rate), options, self.block_seconds)
        parts = [stream.process(rows), stream.flush()]
        return restore(torch.cat(parts, dim=-1).cpu())

    def stream(
        self,
        sample_rate: int,
        level: Level | None = None,
        options: Options | None = None,
        block_seconds: float | None = None,
    ) -> Stream:
        """Return a :class:`Stream` for a recording that arrives in pieces, ideally given its whole ``level``.

        ``block_seconds`` are enhanced at once: fewer for a shorter delay, more for less work; by default 2 s. A causal
        network goes frame by frame, and they are those of resampling alone: 10 ms.
        """
        return Stream(self, _whole(sample_rate), level, options, block_seconds)

    @torch.no_grad()
    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        options: Options | None = None,
        *,
        loudness: float | None = None,
        track: int | None = None,
        progress: Callable[[float], None] | None = None,
        blocks_at_once: int = 1,
    ) -> Enhanced:
        """Enhance one file into another of the same rate, channels, length and tags, in memory of a constant size.

        Equal extensions give equal formats. A result beyond the full scale of its format is turned down as a whole.

        Args:
            source, target: files of any format that :mod:`denoiser.audio` reads, and writes.
            loudness: of the result, LUFS (ITU-R BS.1770); None leaves it as it is.
            track: of several sound tracks in the source, from 1; None takes the one that it calls its default.
            progress: called with the seconds of audio that were finished since the last call.
            blocks_at_once: blocks in parallel threads; the result is the same.

        Raises AudioError for a file that cannot be read or written; ``target`` is then left as it was.
        """
        source, target = Path(source), Path(target)
        if target.exists() and target.samefile(source):
            raise AudioError(f"{target}: is the input itself; give another output=")
        with Reader(source, track) as reader:
            recording = Recording(self, reader, options or Options(), progress, blocks_at_once)
            return recording.enhance_into(target, loudness)


def _whole(sample_rate: Any) -> int:
    """Return a rate as other libraries give it, a float or an array of one, as an int; DenoiserError for no rate."""
    try:
        rate = float(sample_rate)
    except (TypeError, ValueError, RuntimeError):
        given = type(sample_rate).__name__
        raise DenoiserError(f"sample_rate is a {given}: expected Hz, after the waveform") from None
    if not rate.is_integer():
        raise DenoiserError(f"sample_rate={rate:g}: expected a whole number of Hz")
    return int(rate)
