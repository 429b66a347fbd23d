"""``python -m denoiser export``: a checkpoint as an ONNX file, or as a smaller checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from denoiser import settings
from denoiser.audio.reader import MAX_RATE, MIN_RATE
from denoiser.checkpoint import write_weights
from denoiser.cli.arguments import choice, key_values, whole
from denoiser.errors import ConfigError
from denoiser.export.onnx import export
from denoiser.inference.denoiser import Denoiser

USAGE = """Export a model: python -m denoiser export ckpt=CHECKPOINT [out=FILE.onnx]

  ckpt=  best, small or live, which come with the package; a checkpoint of a training, or the folder of its run
  out=   the ONNX file; by default <name of the checkpoint>.onnx in the current folder. A name that ends in .ckpt
         is written as a checkpoint of the weights alone, for inference and init_from=
  rate=  sample rate of the recordings that the ONNX file is for, Hz: 16000, for best and others of 48 kHz with bands
         (that of the model)
  half=  true: round the weights of that checkpoint to float16, which halves its size (false)"""


def main(arguments: Sequence[str]) -> None:
    given = key_values({"ckpt": "", "out": "", "rate": "", "half": "false"}, USAGE, arguments)
    settings.require(given, "ckpt")
    rate = whole(given, "rate", MIN_RATE, MAX_RATE) if given["rate"] else None
    half = choice(given, "half", "true", "false") == "true"
    # Passed on as it was typed: ./small is a file, small is not.
    ckpt, source = given["ckpt"], Path(given["ckpt"])
    name = source.resolve().name if source.is_dir() else source.stem
    target = Path(given["out"] or f"{name}.onnx")
    denoiser = Denoiser.from_checkpoint(ckpt, "cpu", precision="32")
    if target.suffix.lower() == ".ckpt":
        if rate:
            raise ConfigError(f"rate={rate}: only for ONNX files; a checkpoint enhances recordings of any rate")
        size = write_weights(ckpt, target, half)
        print(f"{source} -> {target}: {size / 1e6:.1f} MB, its weights alone")
        return
    if half:
        raise ConfigError(f"half=true: only for checkpoints, and out={target} is none; give a name that ends in .ckpt")
    difference = export(denoiser, target, rate)
    size = target.stat().st_size
    print(f"{source} -> {target}: {size / 1e6:.1f} MB, its sound within {difference:.1e} of the checkpoint's")
