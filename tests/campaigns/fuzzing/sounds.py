"""Hostile sound files of every format that is read: they are decoded, enhanced and encoded."""

import io
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
import torch

from denoiser import Denoiser, audio, models
from denoiser.audio import formats
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import Job
from denoiser.inference.pipes import STDIN
from denoiser.spectral import Spectral
from tests.campaigns.fuzzing import checkpoints
from tests.campaigns.fuzzing.mutation import NUMBERS, damaged

# Name → libsndfile's format, its subtypes, and the extension. One of each is written, then damaged.
FORMATS: dict[str, tuple[str, list[str], str]] = {
    "wav": ("WAV", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"], "wav"),
    "wavex": ("WAVEX", ["PCM_16", "PCM_32", "FLOAT"], "wav"),
    "flac": ("FLAC", ["PCM_16", "PCM_24", "PCM_S8"], "flac"),
    "ogg": ("OGG", ["VORBIS", "OPUS"], "ogg"),
    "mp3": ("MP3", ["MPEG_LAYER_III"], "mp3"),
    "aiff": ("AIFF", ["PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM"], "aiff"),
    "caf": ("CAF", ["PCM_16", "FLOAT", "ALAC_16", "ALAC_24"], "caf"),
    "w64": ("W64", ["PCM_16", "FLOAT"], "w64"),
    "rf64": ("RF64", ["PCM_16", "FLOAT"], "wav"),
    "au": ("AU", ["PCM_16", "FLOAT", "ULAW"], "au"),
}
OTHERS = {
    "voc": "VOC", "svx": "SVX", "nist": "NIST", "paf": "PAF", "pvf": "PVF", "avr": "AVR", "htk": "HTK", "xi": "XI",
    "sds": "SDS", "sf": "IRCAM", "mat": "MAT5", "mpc": "MPC2K", "wve": "WVE",
}  # fmt: skip
LIES = ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64", "opus", "raw", "txt", "m4a", "sd2", "gsm", "voc", ""]
ASKED = 0.05  # of files that libsndfile refuses, those that ffmpeg is asked about too
RATES = (8_000, 16_000, 44_100, 48_000)
ROOT = Path(__file__).parents[3]


def denoiser() -> Denoiser:
    """Return the smallest denoiser."""
    torch.manual_seed(0)
    return Denoiser(models.build("unet", depth=2, width=4, convs=1), Spectral(peak=5.0)).eval()


def seeds(format: str, subtypes: list[str]) -> list[bytes]:
    found = []
    for index, subtype in enumerate(subtypes):
        for channels in (1, 2):
            rate = RATES[(index + channels) % len(RATES)] if "OPUS" not in subtype else 48_000
            samples = 0.3 * np.random.default_rng(index).standard_normal((round(0.06 * rate), channels))
            buffer = io.BytesIO()
            try:
                soundfile.write(buffer, samples.clip(-1, 1), rate, subtype, format=format)
            except (soundfile.SoundFileError, ValueError):
                continue
            found.append(buffer.getvalue())
    return found


def lying_wav(rng: random.Random) -> bytes:
    """Return a WAV file with wrong values in any field, and chunks in any order and number."""
    kind = rng.choice([1, 1, 3, 3, 6, 7, 17, 85, 0xFFFE, rng.randrange(65_536)])
    channels = rng.choice([1, 1, 2, 3, 0, 6, 255, 256, 1000, 1024, 1025, 65_535])
    rate = rng.choice([*RATES, 0, 1, 999, 1000, 768_000, 768_001, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
    bits = rng.choice([16, 16, 8, 24, 32, 64, 0, 1, 12, 20, 65_535])
    align = rng.choice([(channels * bits // 8) % 65_536, (channels * bits // 8) % 65_536, 0, 1, 65_535])
    data = rng.randbytes(rng.choice([0, 1, 2, 1000, 8000, 8001]))
    if kind == 3 and rng.random() < 0.7:
        values = np.frombuffer(data[: len(data) // 8 * 8], "<f4" if bits == 32 else "<f8").copy()
        with np.errstate(all="ignore"):
            values = np.nan_to_num(values % 1).astype(values.dtype)
        if values.size and rng.random() < 0.5:
            values[rng.randrange(values.size)] = rng.choice([np.nan, np.inf, -np.inf, 1e38, 1e11, 1e9, 2.0])
        data = values.tobytes()
    fmt = struct.pack("<HHIIHH", kind, channels, rate, rng.choice([rate * align % (1 << 32), 0]), align, bits)
    if kind == 0xFFFE or rng.random() < 0.1:
        fmt += struct.pack("<HHI", rng.choice([22, 0, 65_535]), bits, rng.choice([0, 3, (1 << 32) - 1]))
        fmt += struct.pack("<H", rng.choice([1, 3, 7])) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = [(b"fmt ", fmt), (b"data", data)]
    extra = [b"LIST", b"fact", b"bext", b"cue ", b"id3 ", b"smpl", b"data", b"fmt ", b"PEAK", b"junk", rng.randbytes(4)]
    for _ in range(rng.choice([0, 0, 1, 3])):
        name = rng.choice(extra)
        body = rng.choice([b"INFOINAM\x05\0\0\0title\0", rng.randbytes(rng.choice([0, 4, 602])), fmt, b""])
        chunks.insert(rng.randrange(len(chunks) + 1), (name, body))
    out = b"WAVE"
    for name, body in chunks:
        size = len(body) if rng.random() < 0.8 else rng.choice(NUMBERS) % (1 << 32)
        out += name + struct.pack("<I", size) + body + b"\0" * (len(body) % 2)
    claimed = len(out) if rng.random() < 0.7 else rng.choice(NUMBERS) % (1 << 32)
    return rng.choice([b"RIFF"] * 6 + [b"RIFX", b"RF64", b"FORM"]) + struct.pack("<I", claimed) + out


def resummed(content: bytes) -> bytes:
    """Correct the checksums of OGG pages, without which no damage gets past the container."""
    data, start = bytearray(content), 0
    while (start := data.find(b"OggS", start)) >= 0 and start + 27 <= len(data):
        table = data[start + 27 : start + 27 + data[start + 26]]
        end = start + 27 + len(table) + sum(table)
        data[start + 22 : start + 26] = bytes(4)
        crc = 0
        for byte in data[start:end]:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
        data[start + 22 : start + 26] = struct.pack("<I", crc)
        start = max(end, start + 27)
    return bytes(data)


def check(model: Denoiser, source: Path, target: Path, origin: Path | None = None, ffmpeg: bool = True) -> None:
    """Enhance one file as a command does: the output is whole and right, or the error is raised and nothing is left."""
    before, programs = set(os.listdir(target.parent)), os.environ["PATH"]
    if not ffmpeg:
        # Without a path no ffmpeg is found. It tries all that libsndfile refuses, which takes longer than the rest.
        os.environ["PATH"] = ""
    try:
        outcome = enhance_files(model, [Job(source, target)])
    except BaseException:
        left = set(os.listdir(target.parent)) - before
        assert not left, f"left behind: {left}"
        raise
    finally:
        os.environ["PATH"] = programs
    (done,) = outcome.done.values()
    assert set(os.listdir(target.parent)) - before == {target.name}
    want, rate = audio.read(origin or source)
    got, got_rate = audio.read(target)
    assert (rate, len(want)) == (got_rate, len(got)), f"{rate} Hz, {len(want)} ch became {got_rate} Hz, {len(got)} ch"
    assert round(done.seconds * rate) == want.shape[1], f"{done.seconds * rate} of {want.shape[1]} samples"
    info = audio.probe(target)
    if info.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")):
        assert got.shape == want.shape, f"{list(want.shape)} became {list(got.shape)}"
    if info.subtype not in formats.FLOATING:
        assert got.abs().max() <= 1.5


def file(name: str) -> Callable[[Path], Callable[[random.Random, Path], None]]:
    """Return the maker of the kind ``name``, which damages files of that format."""

    def make(_: Path) -> Callable[[random.Random, Path], None]:
        model = denoiser()
        if name == "others":
            pools = {extension: seeds(format, ["PCM_16"]) for extension, format in OTHERS.items()}
        else:
            format, subtypes, extension = FORMATS[name]
            pools = {extension: seeds(format, subtypes)}
        pools = {extension: pool for extension, pool in pools.items() if pool}
        assert pools, f"this libsndfile writes no {name}"

        def attempt(rng: random.Random, folder: Path) -> None:
            extension = rng.choice(list(pools))
            content = damaged(rng, rng.choice(pools[extension]), [one for pool in pools.values() for one in pool])
            if name == "wav" and rng.random() < 0.4:
                content = lying_wav(rng)
            if name == "ogg" and rng.random() < 0.6:
                content = resummed(content)
            if rng.random() < 0.15:
                extension = rng.choice(LIES)
            source = folder / f"in.{extension}".rstrip(".")
            source.write_bytes(content)
            (folder / "out").mkdir()
            target = folder / "out" / f"in{audio.output_suffix(source)}"
            check(model, source, target, ffmpeg=rng.random() < ASKED)

        return attempt

    return make


def pipe(_: Path) -> Callable[[random.Random, Path], None]:
    """Try streams on standard input, of unknown format."""
    model = denoiser()
    pool = [content for format, subtypes, _ in FORMATS.values() for content in seeds(format, subtypes[:2])]

    def attempt(rng: random.Random, folder: Path) -> None:
        content = lying_wav(rng) if rng.random() < 0.2 else damaged(rng, rng.choice(pool), pool)
        (folder / "out").mkdir()
        (folder / "copy").write_bytes(content)
        stdin, sys.stdin = sys.stdin, SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)  # type: ignore[assignment]
        try:
            check(model, STDIN, folder / "out" / "out.wav", folder / "copy")
        finally:
            sys.stdin = stdin

    return attempt


def command(folder: Path) -> Callable[[random.Random, Path], None]:
    """Run ``infer.py`` over a folder: good files come out, bad ones are named, and the exit code tells."""
    checkpoint = folder / "m.ckpt"
    torch.save(checkpoints.contents()[0], checkpoint)
    pool = [content for format, subtypes, _ in FORMATS.values() for content in seeds(format, subtypes[:2])]

    def attempt(rng: random.Random, folder: Path) -> None:
        (folder / "in").mkdir()
        soundfile.write(folder / "in/good.wav", 0.1 * np.ones(2_000), 16_000)
        for index in range(2):
            content = lying_wav(rng) if rng.random() < 0.3 else damaged(rng, rng.choice(pool), pool)
            (folder / f"in/{index}.{rng.choice(LIES[:8])}").write_bytes(content)
        settings = [f"ckpt={checkpoint}", f"input={folder}/in", f"output={folder}/out", "device=cpu"]
        command = [sys.executable, str(ROOT / "infer.py"), *settings]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
        names = sorted(os.listdir(folder / "in"))
        made = sorted(os.listdir(folder / "out"))
        missing = [name for name in names if name not in made]
        assert set(made) <= set(names), f"left behind: {made}"
        assert "good.wav" in made
        assert done.returncode == (1 if missing else 0), f"exit code {done.returncode}, {len(missing)} files failed"
        assert all(f"/in/{name}: " in done.stderr for name in missing), done.stderr
        for name in made:
            audio.read(folder / "out" / name)

    return attempt
