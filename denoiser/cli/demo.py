"""A page in the browser, served from this machine: drop or record a clip, hear and see it before and after.

``python -m denoiser demo``. What is given stays on this machine.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoiser import console, settings
from denoiser.cli.arguments import key_values, whole
from denoiser.errors import AudioError, CheckpointError, DenoiserError

if TYPE_CHECKING:
    from denoiser.inference.denoiser import Denoiser

HELP = """\
A page to denoise clips on: python -m denoiser demo

  ckpt=    a checkpoint, the folder of a run, or a folder of runs: the page then offers all their best checkpoints
           (best and small, which come with the package)
  device=  auto, cpu, cuda, cuda:1 (auto)
  host=    the address to serve at (127.0.0.1: this machine alone)
  port=    (7860)
  limit=   largest file taken, MB (500)
  minutes= longest recording taken (60): so many minutes in all of its channels, two at least

What is given, and what is made of it, lies in a private folder of this machine: for an hour, or until the page ends."""


def find_checkpoints(given: str) -> dict[str, Path]:
    """What the page offers: the checkpoint, or those below a folder: ``best.ckpt``, else ``*.ckpt`` and ``*.onnx``.

    Raises CheckpointError where there is none.
    """
    from denoiser.checkpoint import SHIPPED, shipped  # torch takes seconds

    path = Path(given)
    if given in SHIPPED:
        names = (given, *(name for name in SHIPPED if name != given))
        if own := {name: file for name in names if (file := shipped(name)).is_file()}:
            return own
    if not path.is_dir():
        return {path.name: path}
    found = sorted(path.rglob("best.ckpt")) or sorted([*path.rglob("*.ckpt"), *path.rglob("*.onnx")])
    if not found:
        raise CheckpointError(f"{path}: no checkpoint in this folder")
    return {str(file.relative_to(path)): file for file in found}


def build_page(checkpoints: dict[str, Path], device: str, folder: Path, minutes: float = 60) -> Any:
    """The Gradio page. Each request writes to a folder of its own below ``folder``, whose name nobody can guess."""
    import gradio as gr

    from denoiser import audio, figures
    from denoiser.inference.denoiser import Denoiser
    from denoiser.inference.options import Options

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
            forget(folder)
            check_length(source, 60 * minutes)
            own = folder / secrets.token_hex(16)
            own.mkdir(mode=0o700)
            target = own / f"{_plain(source.stem)}_enhanced{audio.output_suffix(source)}"
            done = load(name).enhance_file(source, target, options, loudness=lufs if loud else None)
            figure = figures.before_and_after(source, target)
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
                _no_addresses(clip)
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
KEPT = 3600.0  # seconds that what was given, and what was made of it, is kept
PATIENCE = 600.0  # seconds that an upload may take


def check_length(path: Path, seconds: float) -> None:
    """Raise AudioError where a recording is longer, whatever its header says: 500 MB of FLAC can be a year of silence.

    More than two channels count as further time.
    """
    from denoiser.audio import Reader

    with Reader(path) as reader:
        info = reader.info
        limit = round(seconds * info.sample_rate * min(1.0, 2 / info.channels))
        taken = 0
        while max(taken, info.frames) <= limit and (block := reader.read(1 << 18)).shape[1]:
            taken += block.shape[1]
    if max(taken, info.frames) > limit:
        raise AudioError(f"{path}: longer than {limit / info.sample_rate / 60:.1f} minutes, which this page takes")


def forget(folder: Path, age: float = KEPT) -> None:
    """Delete what has lain in ``folder`` for ``age`` seconds: a page that is always open must not fill the disk."""
    for path in folder.iterdir():
        if time.time() - path.lstat().st_mtime > age:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _no_addresses(clip: Any) -> None:
    """Take uploads alone: where a request names an address instead, Gradio would fetch it, whatever its size."""
    move = clip.async_move_resource_to_block_cache

    async def uploaded(path: Any) -> Any:
        if re.match("[a-z]+:", str(path), re.IGNORECASE):
            raise ValueError("not a file that was given here")
        return await move(path)

    clip.async_move_resource_to_block_cache = uploaded


def _plain(name: str) -> str:
    """A name that a browser sent, without what could mean something to a file system."""
    return re.sub(r"[^\w .()-]", "_", name)[:100] or "clip"


def main() -> None:
    """The command."""
    with console.one_line():
        defaults = {
            "ckpt": "best",
            "device": "auto",
            "host": "127.0.0.1",
            "port": "7860",
            "limit": "500",
            "minutes": "60",
        }
        given = key_values(defaults, HELP)
        settings.require(given, "ckpt")
        port, limit = whole(given, "port", 1, 65_535), whole(given, "limit", 1, 100_000)
        minutes = whole(given, "minutes", 1, 10_000)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder below is deleted then, too
        with tempfile.TemporaryDirectory(prefix="denoiser-demo-") as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder  # uploads, too, are gone when it ends
            try:
                import gradio  # noqa: F401
            except ImportError:
                raise DenoiserError('the demo page needs gradio: pip install "denoiser[demo]"') from None
            checkpoints = find_checkpoints(given["ckpt"])
            from starlette.middleware import Middleware  # comes with gradio

            from denoiser.cli.upload import Bounded
            from denoiser.inference.denoiser import Denoiser

            Denoiser.from_checkpoint(next(iter(checkpoints.values())), given["device"])  # a mistake is said now
            page = build_page(checkpoints, given["device"], Path(folder), minutes)
            size = limit * 2**20
            bounded = Middleware(Bounded, size=size + 2**20, seconds=PATIENCE)  # a MB for what is around the file
            try:
                page.queue(max_size=32).launch(
                    server_name=given["host"], server_port=port, max_file_size=size, share=False,
                    ssr_mode=False, show_error=True, app_kwargs={"middleware": [bounded]},
                )  # fmt: skip
            except OSError as error:
                raise DenoiserError(f"port={port}: cannot serve at {given['host']} ({error}); give another") from error


if __name__ == "__main__":
    main()
