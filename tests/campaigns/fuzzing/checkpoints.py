"""Hostile checkpoints: bytes, pickles, settings and weights."""

import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from denoiser import Denoiser
from denoiser.checkpoint import load_checkpoint, write_weights
from tests.campaigns.fuzzing.mutation import NUMBERS, STRANGE, altered, damaged, nested

MODELS: list[dict[str, Any]] = [
    {"name": "unet", "depth": 3, "width": 4, "convs": 1, "dropout": 0.1},
    {"name": "unet", "depth": 2, "width": 4, "bottleneck": "gru", "reach": 8, "gates": True, "residual": True},
    {"name": "unet", "depth": 2, "width": 4, "bottleneck": "attention", "reach": 8, "head": {"name": "mask"}},
    {"name": "crn", "stem": 4, "widths": [4, 8], "hidden": 8, "head": {"name": "complex", "limit": 1.1}},
    {"name": "crn", "stem": 8, "widths": [4, 8], "hidden": 8, "causal": False, "segment": 32},
    {"name": "dualpath", "stem": 8, "widths": [4, 8], "hidden": 8, "layers": 1, "head": {"name": "phase"}},
]
SPECTRAL = {"sample_rate": 16_000, "n_fft": 510, "hop": 128, "power": 0.3}


def contents() -> list[dict[str, Any]]:
    """Return a tiny checkpoint of each family, as training writes it."""
    found = []
    for model in MODELS:
        torch.manual_seed(0)
        built = Denoiser.build(model, {**SPECTRAL, "peak": 5.0})
        weights = {f"denoiser.{key}": value for key, value in built.state_dict().items()}
        settings = {"model": model, "spectral": SPECTRAL, "loss": {"name": "huber"}, "seed": 0}
        found.append({"hyper_parameters": settings, "state_dict": weights, "epoch": 3})
    return found


def saved(content: Any) -> bytes:
    """Return a file of this content, or of none where it cannot even be written."""
    buffer = io.BytesIO()
    try:
        torch.save(content, buffer)
    except Exception:
        return saved({})
    return buffer.getvalue()


def used(path: Path, rng: random.Random) -> None:
    """Use a file: enhance, and write its weights; nothing else is left beside it."""
    denoiser = Denoiser.from_checkpoint(path, "cpu")
    noisy = torch.rand(2, 1_000, generator=torch.Generator().manual_seed(0)) - 0.5
    enhanced = denoiser.enhance(noisy, 16_000)
    assert enhanced.shape == noisy.shape
    assert torch.isfinite(enhanced).all(), "NaN or infinity in what was enhanced"
    if rng.random() < 0.2:
        size = write_weights(path, path.with_name("small.ckpt"))
        assert size < 2 * path.stat().st_size + 100_000, f"{size} bytes out of {path.stat().st_size}"
    assert set(os.listdir(path.parent)) <= {path.name, "small.ckpt"}


def checkpoint_bytes(_: Path) -> Callable[[random.Random, Path], None]:
    """Damage anywhere in the file."""
    pool = [saved(content) for content in contents()]

    def attempt(rng: random.Random, folder: Path) -> None:
        (folder / "m.ckpt").write_bytes(damaged(rng, rng.choice(pool), pool, 1024))
        used(folder / "m.ckpt", rng)

    return attempt


def records(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def checkpoint_pickle(_: Path) -> Callable[[random.Random, Path], None]:
    """Damage of the pickle and the tensors' bytes, in an archive that is whole, packed or with records too many."""
    pool = [records(saved(content)) for content in contents()]
    # Calls that a pickle can ask for, in the protocol's own opcodes: GLOBAL, a tuple of arguments, REDUCE.
    calls = [
        b"cos\nsystem\n(S'touch evil'\ntR", b"c__builtin__\neval\n(S'1'\ntR", b"ctorch\nload\n(S'/etc/passwd'\ntR",
        b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR", b"ctorch._utils\n_rebuild_tensor_v2\n(ttR",
        b"ccollections\nOrderedDict\n)R",
        b"c__builtin__\nset\n(]tR", b"c_codecs\nencode\n(X\x01\0\0\0aX\x06\0\0\0latin1tR", b"ctorch\nSize\n(]tR",
        b"cdenoiser.inference.denoiser\nDenoiser\n)R", b"ctorch\nfloat32\n", b"(" * 5000,
    ]  # fmt: skip

    def attempt(rng: random.Random, folder: Path) -> None:
        parts = dict(rng.choice(pool))
        name = next(key for key in parts if key.endswith("data.pkl"))
        if rng.random() < 0.75:
            parts[name] = damaged(rng, parts[name], [other for one in pool for other in one.values()], 1 << 20)
        if rng.random() < 0.25:
            place = rng.randrange(2, max(3, len(parts[name])))
            parts[name] = parts[name][:place] + rng.choice(calls) + parts[name][place:]
        if rng.random() < 0.2:
            other = rng.choice(list(parts))
            parts[other] = damaged(rng, parts[other])
        method = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
        with zipfile.ZipFile(folder / "m.ckpt", "w", method) as archive:
            for key, part in parts.items():
                if rng.random() < 0.97:
                    archive.writestr(key, part)
            if rng.random() < 0.05:
                archive.writestr(rng.choice(["../evil", "archive/constants.pkl", "/evil"]), bytes(1_000_000))
        used(folder / "m.ckpt", rng)
        assert not (folder / "evil").exists()

    return attempt


def strange_tensors() -> list[Any]:
    """Return tensors that are small in a file and huge or unusual in memory."""
    return [
        torch.zeros(1).expand(1 << 20, 1 << 20), torch.zeros(1).expand(1 << 34), torch.zeros(0), torch.tensor(1.0),
        torch.tensor(float("nan")), torch.zeros(3, dtype=torch.complex64), torch.zeros(2, 2).to_sparse(),
        torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.long), torch.zeros(0), (1 << 30, 1 << 30)),
        torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.float8_e5m2), torch.empty(1 << 40, device="meta"),
        torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8), torch.nn.Parameter(torch.zeros(2)),
    ]  # fmt: skip


def checkpoint_tree(_: Path) -> Callable[[random.Random, Path], None]:
    """Change settings, keys and weights in a file that is whole."""
    pool, strange = contents(), strange_tensors()

    def weights(rng: random.Random, state: dict[str, Any]) -> None:
        key = rng.choice(list(state))
        value = state[key].clone(memory_format=torch.contiguous_format)
        chance = rng.random()
        if chance < 0.3:
            state[key] = rng.choice(strange)
        elif chance < 0.5 and value.is_floating_point():
            value.view(-1)[rng.randrange(value.numel())] = rng.choice([float("nan"), float("inf"), -3e38, 1e30, 0.0])
            state[key] = value
        elif chance < 0.6:
            state[key] = (
                value.fill_(rng.choice([float("nan"), 3e38, 1e20, -1.0])) if value.is_floating_point() else value
            )
        elif chance < 0.7:
            state[key] = value.to(rng.choice([torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8]))
        elif chance < 0.8:
            state[key] = value[None] if rng.random() < 0.5 else torch.cat([value.view(-1), value.view(-1)])
        elif chance < 0.9:
            state["denoiser.spectral.peak"] = torch.tensor(rng.choice([float("nan"), 1e38, 1e-38, -1.0, 0.0, 1e6]))
        else:
            state[rng.choice(["denoiser.spectral.window", "denoiser.evil", f"{key}x", 7, None])] = state.pop(key)

    def attempt(rng: random.Random, folder: Path) -> None:
        whole = rng.choice(pool)
        content = {**whole, "hyper_parameters": whole["hyper_parameters"], "state_dict": dict(whole["state_dict"])}
        if rng.random() < 0.75:
            part = rng.choice(["model", "model", "model", "spectral", "head", None])
            settings = dict(whole["hyper_parameters"])
            if part == "head":
                settings["model"] = {**settings["model"], "head": altered(rng, {"name": "mask", "limit": 1.1})}
            elif part:
                settings[part] = bounded(rng, settings[part])
            else:
                settings = altered(rng, settings)
            content["hyper_parameters"] = settings
        else:
            weights(rng, content["state_dict"])
        if rng.random() < 0.05:
            content = {**content, rng.choice(["hyper_parameters", "state_dict"]): rng.choice([*STRANGE, *strange])}
        (folder / "m.ckpt").write_bytes(saved(content))
        used(folder / "m.ckpt", rng)

    return attempt


KEYS = (
    "depth convs stem width max_width kernel slope dropout dropout_levels norm upsampling residual gates convolution "
    "groups time_levels bottleneck reach bidirectional widths hidden layers causal segment bins inputs outputs head "
    "sample_rate n_fft hop power peak two_levels shifts name"
).split()


VALUES = [*STRANGE, *NUMBERS, [4, 8, 1 << 20], [1 << 30, 4]]


def bounded(rng: random.Random, settings: dict[str, Any]) -> dict[str, Any]:
    """Draw one to three settings, known or not, of any value."""
    settings = altered(rng, settings) if rng.random() < 0.3 else dict(settings)
    for _ in range(rng.choice([1, 1, 2, 3])):
        key = rng.choice([*settings, *KEYS]) if settings else rng.choice(KEYS)
        settings[key] = rng.choice(VALUES) if rng.random() < 0.99 else nested(100_000)
    return settings


def training(_: Path) -> Callable[[random.Random, Path], None]:
    """Read checkpoints as ``ckpt_path=`` and ``init_from=`` take them, before anything is built."""
    pool, strange = contents(), strange_tensors()

    def attempt(rng: random.Random, folder: Path) -> None:
        content = altered(rng, rng.choice(pool), [*STRANGE, *strange[:2]])
        (folder / "m.ckpt").write_bytes(saved(content))
        found = load_checkpoint(folder / "m.ckpt")
        assert isinstance(found["hyper_parameters"], dict)

    return attempt
