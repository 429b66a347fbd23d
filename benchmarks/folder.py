"""Files per second and memory of ``infer.py`` on a folder of many short files, killed once and started again.

    python benchmarks/folder.py [files=10000] [seconds=0.5] [ckpt=...] [folder=FOLDER]

The files are noise over tones, 16 kHz, 16 bit; without ``ckpt`` a U-Net of two levels enhances them. Memory is what the
process holds of its own (anonymous pages), after 5 % of its files and at its end. In the end every output is read.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch

from denoiser import Denoiser, audio, models
from denoiser.evaluation.tables import table
from denoiser.spectral import Spectral

RATE = 16_000
ROOT = Path(__file__).resolve().parent.parent


def write_inputs(folder: Path, files: int, seconds: float) -> None:
    generator = torch.Generator().manual_seed(0)
    time_axis = torch.arange(round(seconds * RATE))
    for index in range(files):
        sound = 0.2 * torch.sin(time_axis * (0.02 + 0.0001 * (index % 500)))[None]
        sound += 0.05 * torch.randn(sound.shape, generator=generator)
        audio.write(folder / f"{index % 100:02d}/{index:05d}.wav", sound, RATE)


def write_checkpoint(path: Path) -> None:
    torch.manual_seed(0)
    settings = {"name": "unet", "depth": 2, "width": 4}
    denoiser = Denoiser(models.build(**settings), Spectral(peak=5.0))
    weights = {f"denoiser.{key}": value for key, value in denoiser.state_dict().items()}
    content = {"hyper_parameters": {"model": settings, "spectral": {"sample_rate": RATE}}, "state_dict": weights}
    torch.save(content, path)


def anonymous(process: int) -> float:
    """Return the MB of a process that no file stands behind."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def made(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("*/*.wav") if not path.name.startswith("."))


def run(command: list[str], log: Path, out: Path, until: int | None) -> dict[str, float]:
    """Run it to its end, or kill it once there are so many outputs."""
    before = sum(1 for _ in made(out))
    begin, early, last, done, code = 0.0, 0.0, 0.0, before, None
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    while (code := process.poll()) is None:
        time.sleep(0.5)
        try:
            last, done = anonymous(process.pid), sum(1 for _ in made(out))
        except OSError:  # it has just ended
            continue
        begin = begin or (time.perf_counter() if done > before else 0.0)
        if not early and done > before + 0.05 * ((until or 0) - before if until else before):
            early = last
        if until and done >= until:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            break
    done = sum(1 for _ in made(out))
    elapsed = time.perf_counter() - begin
    return {"before": before, "done": done, "rate": (done - before) / elapsed, "early": early, "end": last,
            "code": code if code is not None else -9}  # fmt: skip


def main() -> int:
    given = {
        "files": "10000",
        "seconds": "0.5",
        "ckpt": "",
        "folder": "",
        **dict(a.split("=", 1) for a in sys.argv[1:]),
    }
    files, seconds = int(given["files"]), float(given["seconds"])
    with tempfile.TemporaryDirectory(prefix="folder-", dir=given["folder"] or None) as name:
        folder = Path(name).resolve()
        write_inputs(folder / "in", files, seconds)
        write_checkpoint(folder / "m.ckpt")
        command = [sys.executable, str(ROOT / "infer.py"), f"ckpt={given['ckpt'] or folder / 'm.ckpt'}"]
        command += [f"input={folder}/in", f"output={folder}/out"]
        print(f"{files} files of {seconds:g} s are written", flush=True)
        rows = []
        for until in (files // 3, None):
            found = run(command, folder / "log.txt", folder / "out", until)
            how = "killed (SIGKILL)" if until else f"exit code {found['code']}"
            rows.append([how, f"{found['before']:.0f}", f"{found['done']:.0f}", f"{found['rate']:.1f}",
                         f"{found['early']:.0f}", f"{found['end']:.0f}"])  # fmt: skip
            print(rows[-1], flush=True)
        said = (folder / "log.txt").read_text()
        whole = sum(audio.read(path)[0].shape[-1] == round(seconds * RATE) for path in made(folder / "out"))
        left = [path for path in (folder / "out").rglob("*") if ".partial-" in path.name]
        print(table(["ended by", "done before", "done", "files/s", "MB early", "MB at the end"], rows))
        print(f"{said.splitlines()[0]}\n{whole} of {files} outputs are whole, {len(left)} half-written ones are left")
        return 0 if whole == files and not left and not found["code"] else 1


if __name__ == "__main__":
    sys.exit(main())
