"""Command ``python -m denoiser demo``: a page in the browser, served from this machine, to denoise clips on."""

import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from denoiser import settings
from denoiser.cli.arguments import key_values, whole
from denoiser.errors import CheckpointError, DenoiserError

HELP = """\
Serve a page to denoise clips on: python -m denoiser demo

  ckpt=    a checkpoint, the folder of a run, or a folder of runs: the page then offers the best checkpoint of each
           (the weights that come with the package)
  device=  auto, cpu, cuda, cuda:1 (auto)
  host=    the address to serve at (127.0.0.1: this machine alone)
  port=    the port to serve at (7860)
  limit=   largest file taken, MB (500)

Clips and results lie in a private folder of this machine, for an hour or until the page ends."""

DEFAULTS = {"ckpt": "best", "device": "auto", "host": "127.0.0.1", "port": "7860", "limit": "500"}
WAITING = 32  # requests in the queue; more are refused
CHECKED, KEPT = 600, 3600  # seconds: clips and results older than KEPT are deleted every CHECKED
AT_ONCE = 2  # clips enhanced at the same time


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
        os.environ["GRADIO_TEMP_DIR"] = folder  # for uploads
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


def build_page(checkpoints: dict[str, Path], device: str, folder: Path) -> Any:
    """Return the page; each result is written to a folder of its own below ``folder``, with a name nobody can guess."""
    # Imported here: gradio reads its folder from the environment when it is imported, and torch takes seconds.
    import gradio as gr

    from denoiser import audio, figures
    from denoiser.inference.denoiser import Denoiser
    from denoiser.inference.options import Options

    # For the visitor: the console of who serves the page would show it as a traceback.
    mistake = partial(gr.Error, print_exception=False)

    @lru_cache(maxsize=2)
    def load(name: str) -> Denoiser:
        return Denoiser.from_checkpoint(checkpoints[name], device)

    def enhance(clip: str | None, name: str, *chosen: Any) -> tuple[str, str, Any, str]:
        if not clip:
            raise mistake("Drop or record a clip first.")
        source = Path(clip)
        private = folder / secrets.token_hex(16)
        private.mkdir(mode=0o700)
        target = private / f"{source.stem}_enhanced{audio.output_suffix(source)}"
        dry, limit, iterations, full_band, loudness = chosen  # in the order of the settings below
        try:
            options = Options(dry, limit, int(iterations), full_band)
            done = load(name).enhance_file(source, target, options, loudness=loudness)
            with figures.drawing:
                figure = figures.before_and_after(source, target)
        except DenoiserError as error:
            # The visitor knows the clip by its name, not by the folder that Gradio put it in.
            raise mistake(str(error).replace(f"{source.parent}{os.sep}", "")) from error
        info = done.info
        facts = f"{done.seconds:.1f} s at {info.sample_rate} Hz, channels: {info.channels}, gain {done.gain:.3f}"
        return str(target), str(target), figure, facts

    with gr.Blocks(title="denoiser", delete_cache=(CHECKED, KEPT)) as page:
        gr.Markdown("# denoiser\nDrop or record a clip. Nothing leaves this machine.")
        with gr.Row():
            with gr.Column():
                clip = gr.Audio(type="filepath", label="before", elem_id="before", buttons=[])
                name = gr.Dropdown(list(checkpoints), value=next(iter(checkpoints)), label="checkpoint")
                with gr.Accordion("settings", open=False):
                    settings = [
                        gr.Slider(0, 1, 0, step=0.05, label="dry", info="share of the input in the output"),
                        gr.Number(None, minimum=0, label="max_attenuation_db", info="dB; empty: no limit"),
                        gr.Slider(0, 20, 0, step=1, label="phase_iters", info="rounds of Griffin-Lim"),
                        gr.Checkbox(True, label="full_band", info="keep the sound above the model's band"),
                        gr.Number(None, label="loudness", info="LUFS of the result; empty: as it is"),
                    ]
                button = gr.Button("Denoise", variant="primary", elem_id="denoise")
            with gr.Column():
                after = gr.Audio(label="after", interactive=False, elem_id="after", buttons=[])
                file = gr.File(label="download", elem_id="download")
                facts = gr.Textbox(label="result", interactive=False, elem_id="facts")
        picture = gr.Plot(label="before and after", elem_id="picture")
        button.click(enhance, [clip, name, *settings], [after, file, picture, facts], concurrency_limit=AT_ONCE)
    return page
