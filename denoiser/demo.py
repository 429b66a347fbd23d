"""A page in the browser, served from this machine: drop or record a clip, hear and see it before and after.

``python -m denoiser.demo``. What is given stays on this machine.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoiser import commands, errors
from denoiser.errors import CheckpointError, DenoiserError

if TYPE_CHECKING:
    from denoiser.enhance import Denoiser

HELP = """\
A page to denoise clips on: python -m denoiser.demo

  ckpt=    a checkpoint, the folder of a run, or a folder of runs: the page then offers all their best checkpoints
           (small, which comes with the package)
  device=  auto, cpu, cuda, cuda:1 (auto)
  host=    the address to serve at (127.0.0.1: this machine alone)
  port=    (7860)
  limit=   largest file taken, MB (500)"""


def find_checkpoints(path: Path) -> dict[str, Path]:
    """What the page offers: the checkpoint, or those below a folder: ``best.ckpt``, else ``*.ckpt`` and ``*.onnx``.

    Raises CheckpointError where there is none.
    """
    from denoiser.checkpoint import SHIPPED, shipped  # torch takes seconds

    if str(path) in SHIPPED:
        names = (str(path), *(name for name in SHIPPED if name != str(path)))
        if own := {name: file for name in names if (file := shipped(name)).is_file()}:
            return own
    if not path.is_dir():
        return {path.name: path}
    found = sorted(path.rglob("best.ckpt")) or sorted([*path.rglob("*.ckpt"), *path.rglob("*.onnx")])
    if not found:
        raise CheckpointError(f"{path}: no checkpoint in this folder")
    return {str(file.relative_to(path)): file for file in found}


def build_page(checkpoints: dict[str, Path], device: str, folder: Path) -> Any:
    """The Gradio page. Each request writes to a folder of its own below ``folder``."""
    import gradio as gr

    from denoiser import audio, report
    from denoiser.enhance import Denoiser
    from denoiser.stream import Options

    @lru_cache(maxsize=2)
    def load(name: str) -> Denoiser:
        return Denoiser.from_checkpoint(checkpoints[name], device)

    def enhance(
        clip: str | None,
        name: str,
        dry: float,
        limit: float,
        iterations: float,
        full_band: bool,
        loud: bool,
        lufs: float,
    ) -> tuple[str, str, Any, str]:
        if not clip:
            raise gr.Error("Drop or record a clip first.")
        try:
            options = Options(dry, limit if limit < NO_LIMIT else None, int(iterations), full_band)
            source = Path(clip)
            target = Path(tempfile.mkdtemp(dir=folder)) / f"{_plain(source.stem)}_enhanced{audio.output_suffix(source)}"
            done = load(name).enhance_file(source, target, options, loudness=lufs if loud else None)
            figure = report.before_and_after(source, target)
        except DenoiserError as error:
            raise gr.Error(str(error).replace(str(Path(clip).parent) + os.sep, "")) from error
        facts = (
            f"{done.seconds:.1f} s at {done.sample_rate} Hz, {done.channels} channel{'' if done.channels == 1 else 's'}"
        )
        if done.gain < 1:
            facts += f"; turned down to {done.gain:.3f} to stay within full scale"
        return str(target), str(target), figure, facts

    with gr.Blocks(title="denoiser", analytics_enabled=False) as page:
        gr.Markdown("# denoiser\nDrop or record a clip. Nothing leaves this machine.")
        with gr.Row():
            with gr.Column():
                clip = gr.Audio(
                    sources=["upload", "microphone"], type="filepath", label="before", elem_id="before", buttons=[]
                )
                name = gr.Dropdown(list(checkpoints), value=next(iter(checkpoints)), label="checkpoint")
                with gr.Accordion("settings", open=False):
                    dry = gr.Slider(0, 1, 0, step=0.05, label="dry", info="share of the input in the output")
                    limit = gr.Slider(
                        0, NO_LIMIT, NO_LIMIT, step=1, label="max_attenuation_db",
                        info=f"nothing is turned down by more; {NO_LIMIT}: no limit",
                    )  # fmt: skip
                    iterations = gr.Slider(0, 20, 0, step=1, label="phase_iters", info="rounds of Griffin-Lim")
                    full_band = gr.Checkbox(True, label="full_band", info="keep what lies above the model's band")
                    loud = gr.Checkbox(False, label="set the loudness")
                    lufs = gr.Slider(-40, -10, -16, step=1, label="loudness", info="LUFS")
                button = gr.Button("Denoise", variant="primary", elem_id="denoise")
            with gr.Column():
                after = gr.Audio(label="after", interactive=False, elem_id="after", buttons=[])
                file = gr.File(label="download", elem_id="download")
                facts = gr.Textbox(label="result", interactive=False, elem_id="facts")
        picture = gr.Plot(label="before and after", elem_id="picture")
        inputs = [clip, name, dry, limit, iterations, full_band, loud, lufs]
        button.click(enhance, inputs, [after, file, picture, facts], concurrency_limit=2)
    return page


NO_LIMIT = 60  # dB, where the slider ends


def _plain(name: str) -> str:
    """A name that a browser sent, without what could mean something to a file system."""
    return re.sub(r"[^\w .()-]", "_", name)[:100] or "clip"


def main() -> None:
    """The command."""
    with errors.one_line():
        defaults = {"ckpt": "small", "device": "auto", "host": "127.0.0.1", "port": "7860", "limit": "500"}
        given = commands.settings(defaults, HELP)
        errors.require(given, "ckpt")
        port, limit = commands.whole(given, "port", 1, 65_535), commands.whole(given, "limit", 1, 100_000)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder below is deleted then, too
        with tempfile.TemporaryDirectory(prefix="denoiser-demo-") as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder  # uploads, too, are gone when it ends
            try:
                import gradio  # noqa: F401
            except ImportError:
                raise DenoiserError('the demo page needs gradio: pip install "denoiser[demo]"') from None
            checkpoints = find_checkpoints(Path(given["ckpt"]))
            from denoiser.enhance import Denoiser

            Denoiser.from_checkpoint(next(iter(checkpoints.values())), given["device"])  # a mistake is said now
            page = build_page(checkpoints, given["device"], Path(folder))
            try:
                page.queue(max_size=32).launch(
                    server_name=given["host"], server_port=port, max_file_size=limit * 2**20, share=False,
                    allowed_paths=[folder], show_error=True,
                )  # fmt: skip
            except OSError as error:
                raise DenoiserError(f"port={port}: cannot serve at {given['host']} ({error}); give another") from error


if __name__ == "__main__":
    main()
