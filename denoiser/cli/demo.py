"""Command ``python -m denoiser demo``: a page in the browser, served from this machine, to denoise clips on."""

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from denoiser import settings
from denoiser.cli.arguments import key_values, whole
from denoiser.errors import CheckpointError, DenoiserError

HELP = """\
A page to denoise clips on: python -m denoiser demo

  ckpt=    a checkpoint, the folder of a run, or a folder of runs: the page then offers the best checkpoint of each
           (best and small, which come with the package)
  device=  auto, cpu, cuda, cuda:1 (auto)
  host=    the address to serve at (127.0.0.1: this machine alone)
  port=    (7860)
  limit=   largest file taken, MB (500)

Clips and results lie in a private folder of this machine, for an hour or until the page ends."""

DEFAULTS = {"ckpt": "best", "device": "auto", "host": "127.0.0.1", "port": "7860", "limit": "500"}
WAITING = 32  # requests in the queue; more are refused


def find_checkpoints(given: str) -> dict[str, Path]:
    """Return the checkpoints that the page offers, by name: of a folder all ``best.ckpt`` below it, else ``*.ckpt``."""
    # Imported here: torch takes seconds, and --help needs none.
    from denoiser.checkpoint import SHIPPED, shipped

    if given in SHIPPED:
        return {name: shipped(name) for name in sorted(SHIPPED, key=lambda name: name != given)}
    path = Path(given)
    if not path.is_dir():
        return {path.name: path}
    found = sorted(path.rglob("best.ckpt")) or sorted(path.rglob("*.ckpt"))
    if not found:
        raise CheckpointError(f"{path}: no checkpoint in this folder")
    return {str(file.relative_to(path)): file for file in found}


def main(arguments: Sequence[str]) -> None:
    """Serve the page until it is interrupted."""
    given = key_values(DEFAULTS, HELP, arguments)
    settings.require(given, "ckpt")
    port, limit = whole(given, "port", 1, 65_535), whole(given, "limit", 1, 100_000)
    if find_spec("gradio") is None:
        raise DenoiserError('the demo page needs gradio: pip install "denoiser[demo]"')
    checkpoints = find_checkpoints(given["ckpt"])
    # On SIGTERM, too, the folder below is deleted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    with tempfile.TemporaryDirectory(prefix="denoiser-demo-") as folder:
        # Gradio reads it when it is imported, and puts uploads there.
        os.environ["GRADIO_TEMP_DIR"] = folder
        from denoiser.cli.demo_page import build_page
        from denoiser.inference.denoiser import Denoiser

        # A mistake in the checkpoint or the device is reported now.
        Denoiser.from_checkpoint(next(iter(checkpoints.values())), given["device"])
        page = build_page(checkpoints, given["device"], Path(folder))
        try:
            private = {"share": False, "ssr_mode": False, "show_error": True}
            place = {"server_name": given["host"], "server_port": port}
            page.queue(max_size=WAITING).launch(max_file_size=limit * 2**20, **place, **private)
        except OSError as error:
            raise DenoiserError(f"port={port}: cannot serve at {given['host']} ({error}); give another") from error
