"""The Gradio page of the demo: record or drop a clip, hear and see it before and after."""

import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from denoiser import audio, figures
from denoiser.errors import DenoiserError
from denoiser.inference.denoiser import Denoiser
from denoiser.inference.options import Options

CHECKED, KEPT = 600, 3600  # seconds: clips and results older than KEPT are deleted every CHECKED
AT_ONCE = 2  # clips enhanced at the same time


def build_page(checkpoints: dict[str, Path], device: str, folder: Path) -> gr.Blocks:
    """Return the page; each result is written to a folder of its own below ``folder``, with a name nobody can guess."""

    @lru_cache(maxsize=2)
    def load(name: str) -> Denoiser:
        return Denoiser.from_checkpoint(checkpoints[name], device)

    def enhance(clip: str | None, name: str, *chosen: Any) -> tuple[str, str, Any, str]:
        if not clip:
            raise gr.Error("Drop or record a clip first.")
        source = Path(clip)
        private = folder / secrets.token_hex(16)
        private.mkdir(mode=0o700)
        target = private / f"{source.stem}_enhanced{audio.output_suffix(source)}"
        dry, limit, iterations, full_band, loudness = chosen  # in the order of the settings below
        try:
            options = Options(dry, limit, int(iterations), full_band)
            done = load(name).enhance_file(source, target, options, loudness=loudness)
            figure = figures.before_and_after(source, target)
        except DenoiserError as error:
            # The visitor knows the clip by its name, not by the folder that Gradio put it in.
            raise gr.Error(str(error).replace(f"{source.parent}{os.sep}", "")) from error
        facts = f"{done.seconds:.1f} s at {done.sample_rate} Hz, channels: {done.channels}, gain {done.gain:.3f}"
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
