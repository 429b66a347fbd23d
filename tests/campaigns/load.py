"""Campaign of load: threads that send clips of mixed lengths to the Python API and to the demo page for minutes.

    python -m tests.campaigns load [threads=16] [minutes=10] [ckpt=small] [only=api,page]

Each answer is compared with that of the clip alone. Memory is the anonymous memory of the working process, sampled
each second: the median in the second tenth of the time, and in the last.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from denoiser import Denoiser, audio, errors
from denoiser.cli.arguments import key_values, whole
from denoiser.evaluation import tables

SECONDS = (0.05, 0.3, 1.0, 2.5, 4.0, 7.0, 11.0, 30.0)  # of the clips
RATES = (8_000, 16_000, 44_100, 48_000)
CLOSE = 1e-4  # of full scale: a file has 16 bit


def clips(folder: Path) -> list[Path]:
    paths = []
    for index, seconds in enumerate(SECONDS):
        rng, rate = np.random.default_rng(index), RATES[index % len(RATES)]
        time_ = np.arange(round(seconds * rate)) / rate
        x = 0.2 * np.sin(2 * np.pi * (110 + 40 * index) * time_) * (1 + np.sin(2 * np.pi * 3 * time_)) / 2
        x = np.stack([x, 0.5 * x])[: 1 + index % 2] + 0.02 * rng.standard_normal((1 + index % 2, len(time_)))
        paths.append(folder / f"clip{index}.wav")
        audio.write(paths[-1], torch.from_numpy(x).float(), rate, subtype="PCM_16")
    return paths


def anonymous(process: int) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Anonymous:"))


def hammer(work: Callable[[int, int], bool], threads: int, minutes: float, process: int) -> list[str]:
    """Call ``work(thread, count)``, which returns whether its answer was right; returns a row of counts and memory."""
    end = time.monotonic() + 60 * minutes
    memory = []

    def one(thread: int) -> list[tuple[int, bool]]:
        answers, count = [], thread
        while time.monotonic() < end:
            try:
                right = work(thread, count)
            except Exception as error:
                right = False
                print(repr(error)[:200], file=sys.stderr)
            answers.append((count, right))
            count += 7  # has nothing in common with the number of clips
        return answers

    with ThreadPoolExecutor(threads) as pool, tqdm(total=round(60 * minutes), unit="s", disable=None) as bar:
        futures = [pool.submit(one, thread) for thread in range(threads)]
        while not all(future.done() for future in futures):
            memory.append(anonymous(process))
            time.sleep(1)
            bar.update()
    answers = [answer for future in futures for answer in future.result()]
    wrong = sum(not right for _, right in answers)
    heard = sum(SECONDS[count % len(SECONDS)] for count, _ in answers)
    tenth = max(1, len(memory) // 10)
    early, late = statistics.median(memory[tenth : 2 * tenth] or memory), statistics.median(memory[-tenth:])
    return [f"{len(answers)}", f"{wrong}", f"{heard / minutes / 60:.1f}", f"{early:.0f}", f"{late:.0f}"]


def api(checkpoint: str, folder: Path, threads: int, minutes: float) -> list[str]:
    torch.set_num_threads(1)
    denoiser = Denoiser.from_checkpoint(checkpoint, "cpu")
    sounds = [audio.read(path) for path in clips(folder)]
    expected = [denoiser.enhance(*sound) for sound in sounds]

    def work(thread: int, count: int) -> bool:
        index = count % len(sounds)
        return float((denoiser.enhance(*sounds[index]) - expected[index]).abs().max()) < CLOSE

    return hammer(work, threads, minutes, os.getpid())


def page(checkpoint: str, folder: Path, threads: int, minutes: float) -> list[str]:
    from gradio_client import Client, handle_file

    denoiser, paths = Denoiser.from_checkpoint(checkpoint, "cpu"), clips(folder)
    expected = []
    for path in paths:
        denoiser.enhance_file(path, folder / "out.wav")
        expected.append(audio.read(folder / "out.wav")[0])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "denoiser", "demo", f"ckpt={checkpoint}", f"port={port}", "device=cpu"]
    with open(folder / "log.txt", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while "Running on local URL" not in (folder / "log.txt").read_text():
            if server.poll() is not None:
                sys.exit((folder / "log.txt").read_text())
            time.sleep(0.5)
        url, patient = f"http://127.0.0.1:{port}", {"timeout": 600}  # s: 16 wait for each other
        folders = [str(folder / f"from{i}") for i in range(threads)]
        clients = [Client(url, download_files=f, verbose=False, httpx_kwargs=patient) for f in folders]

        def work(thread: int, count: int) -> bool:
            index = count % len(paths)
            settings = (0, None, 0, True, None)
            answer = clients[thread].predict(
                handle_file(str(paths[index])), Path(checkpoint).name, *settings, api_name="/enhance"
            )
            sound = audio.read(answer[0])[0]
            same = sound.shape == expected[index].shape and float((sound - expected[index]).abs().max()) < CLOSE
            for file in answer[:2]:
                Path(file).unlink(missing_ok=True)
            return same

        return hammer(work, threads, minutes, server.pid)
    finally:
        server.terminate()
        server.wait(60)


CAMPAIGNS = {"api": api, "page": page}


def main(arguments: list[str]) -> int:
    defaults = {"threads": "16", "minutes": "10", "ckpt": "small", "only": "api,page"}
    given = key_values(defaults, str(__doc__), arguments)
    threads, minutes = whole(given, "threads", 1, 1000), float(given["minutes"])
    rows = []
    for name in given["only"].split(","):
        if name not in CAMPAIGNS:
            raise errors.ConfigError(f"only={name}: expected {' or '.join(CAMPAIGNS)}")
        with tempfile.TemporaryDirectory() as folder:
            rows.append([name, *CAMPAIGNS[name](given["ckpt"], Path(folder), threads, minutes)])
    header = [f"{threads} threads, {minutes:g} min", "answers", "wrong", "audio-s per s", "MB early", "MB at the end"]
    print(tables.table(header, rows))
    return int(any(row[2] != "0" for row in rows))
