"""``python -m denoiser export``: a network as ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from denoiser import settings
from denoiser.checkpoint import write_weights
from denoiser.cli.arguments import choice, key_values
from denoiser.errors import ConfigError
from denoiser.export import export
from denoiser.inference.denoiser import Denoiser

USAGE = """Export the network of a checkpoint: python -m denoiser export ckpt=CHECKPOINT [out=FILE.onnx]

  ckpt=  best or small, which come with the package, a checkpoint that training wrote, or the folder of its run
  out=   the ONNX file; by default <name of the checkpoint>.onnx where the command runs. A name that ends in .ckpt
         is written as a checkpoint of the weights alone, for inference and init_from=
  half=  true: such a checkpoint in half the size, its weights rounded to float16 (false)
  int8=  true: an ONNX file that computes in whole numbers of 8 bits: a quarter of the size, on CPUs with VNNI less than
         half the time, and sound 35 to 40 dB nearer to the checkpoint's than to silence (false)"""


def main(arguments: Sequence[str] | None = None) -> None:
    """What the command line does."""
    given = key_values({"ckpt": "", "out": "", "half": "false", "int8": "false"}, USAGE, arguments)
    half, int8 = (choice(given, key, "true", "false") == "true" for key in ("half", "int8"))
    settings.require(given, "ckpt")
    ckpt, source = given["ckpt"], Path(given["ckpt"])  # as it was typed: ./small is a file, small is not
    if source.suffix.lower() == ".onnx":
        raise ConfigError(f"ckpt={source}: is an ONNX file already; give a checkpoint that training wrote")
    denoiser = Denoiser.from_checkpoint(ckpt, "cpu")
    if (target := Path(given["out"])).suffix.lower() == ".ckpt":
        if int8:
            raise ConfigError(f"int8=true: only of ONNX, and out={target} is none; give a name that ends in .onnx")
        print(f"{source} -> {target}: {write_weights(ckpt, target, half) / 1e6:.1f} MB, its weights alone")
        return
    if half:
        raise ConfigError(f"half=true: only of a checkpoint, and out={target} is none; give a name that ends in .ckpt")
    name = source.resolve().name if source.is_dir() else source.stem
    path, size, difference = export(denoiser, given["out"] or f"{name}.onnx", int8)
    print(
        f"{source} -> {path}: {size / 1e6:.1f} MB, its sound within {difference:.1e} of full scale of the checkpoint's"
    )
