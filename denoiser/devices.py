"""Devices and precisions to compute with."""

from collections.abc import Sequence
from typing import Any

import torch

from denoiser.errors import ConfigError


def resolve_device(device: str) -> torch.device:
    """Return the device of ``auto`` (a GPU if any), ``cpu``, ``cuda`` or ``cuda:1``; ConfigError if there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type not in ("cpu", "cuda"):
            raise RuntimeError(resolved.type)
    except (RuntimeError, TypeError):
        raise ConfigError(f"device={device} is no device; expected auto, cpu, cuda or cuda:N") from None
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device={device} is not there: {torch.cuda.device_count()} GPUs visible; use device=cpu")
    return resolved


def trainer_devices(gpus: int | Sequence[int] | None, processes: int | None = None) -> tuple[str, int | list[int]]:
    """Translate ``trainer.gpus`` and ``trainer.processes`` to Lightning's accelerator and devices.

    ``gpus`` is None for one GPU if there is one, else the CPU; 0 for the CPU; n for that many GPUs; -1 for all; or
    a list of their numbers. ``processes`` train together on the CPU. Raises ConfigError for a GPU that does not exist.
    """
    count = torch.cuda.device_count()
    if processes is not None and (not isinstance(processes, int) or processes < 1):
        raise ConfigError(f"trainer.processes={processes}: expected null, or a whole number of 1 or more")
    if gpus is None:
        gpus = min(count, 1)
    if gpus == 0:
        return "cpu", processes or 1
    if processes is not None:
        raise ConfigError(f"trainer.processes={processes} is for the CPU, with trainer.gpus=0; a GPU has one process")
    wanted: Any = gpus
    if isinstance(gpus, int) and gpus >= -1:
        wanted = range(count if gpus == -1 else gpus)
    listed = isinstance(wanted, Sequence) and all(isinstance(gpu, int) and gpu >= 0 for gpu in wanted)
    if not listed or not gpus or len(wanted) > len(set(wanted)):
        raise ConfigError(f"trainer.gpus={gpus} has no meaning; expected null, 0, 1, 2, [0,2] or -1 (all)")
    if not wanted or max(wanted) >= count:
        raise ConfigError(f"trainer.gpus={gpus}: not there, with {count} GPUs visible; use trainer.gpus=0")
    return "gpu", list(wanted)


def fastest_precision(accelerator: str) -> str:
    """Return ``bf16-mixed`` where the hardware multiplies bfloat16 natively, else ``32-true``."""
    gpu = accelerator == "gpu"
    native = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16() -> bool:
    """Return True where the CPU multiplies bfloat16 natively; elsewhere it is slower than 32 bits."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
