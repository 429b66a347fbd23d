"""Files and folders: what becomes what, one after another, with progress; a bad file costs only itself."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from denoiser import audio, report
from denoiser.enhance import Denoiser
from denoiser.errors import AudioError, DenoiserError

Job = tuple[Path, Path]  # a file and what its enhanced version is to be called


def plan(source: str, output: str | None = None) -> list[Job]:
    """Which file becomes which.

    A file, or each file a glob names, becomes ``<name>_enhanced.<ext>`` in the current folder, a folder
    ``<folder>_enhanced/`` with the tree and names inside it kept. ``output`` names the file or folder
    instead; it is taken for a folder where it is one, ends in a slash, or has no extension.
    Raises AudioError where there is no input or two inputs would share one output.
    """
    found = audio.list_files(source)
    path = Path(source)
    if path.is_dir():
        folder = Path(output) if output else Path(f"{path.resolve().name}_enhanced")
        return [(file, folder / file.relative_to(path)) for file in found]
    is_folder = output is not None and (output.endswith(os.sep) or Path(output).is_dir() or not Path(output).suffix)
    if output and not is_folder:
        if len(found) > 1:
            raise AudioError(
                f"output={output}: one file cannot hold the {len(found)} that {source} names; give a folder"
            )
        return [(found[0], Path(output))]
    jobs = [(file, Path(output or "", f"{file.stem}_enhanced{file.suffix}")) for file in found]
    targets: dict[Path, Path] = {}
    for file, target in jobs:
        if target in targets:
            raise AudioError(f"{targets[target]} and {file} would both become {target}; run them apart")
        targets[target] = file
    return jobs


def enhance_files(denoiser: Denoiser, jobs: Sequence[Job], plot: bool = False) -> int:
    """Enhance each file, showing progress in seconds of audio; returns how many failed (each is named on stderr).

    ``plot`` puts a PNG beside each output: waveforms and spectrograms, before and after. Raises the error
    itself where the only file fails.
    """
    failures: list[DenoiserError] = []
    pictures = Counter(target.with_suffix(".png") for _, target in jobs)
    done, begin = 0.0, time.perf_counter()
    with tqdm(total=_seconds(jobs), unit="s", unit_scale=True, disable=None, desc="enhancing") as bar:
        for source, target in jobs:
            try:
                done_file = denoiser.enhance_file(source, target, progress=bar.update)
                if plot:
                    shown = {"before": audio.read(source)[0], "after": audio.read(target)[0]}
                    figure = report.figure(shown, done_file.sample_rate, source.name)
                    picture = target.with_suffix(".png")
                    if pictures[picture] > 1:  # talk.wav and talk.flac: one picture each
                        picture = target.with_name(f"{target.name}.png")
                    report.save_figure(picture, figure)
            except DenoiserError as error:
                if len(jobs) == 1:
                    raise
                failures.append(error)
                bar.write(f"failed: {error}", file=sys.stderr)
                continue
            done += done_file.seconds
            elapsed = time.perf_counter() - begin
            bar.set_postfix_str(f"real-time factor {elapsed / done:.3f}")
            turned_down = (
                f", turned down to {done_file.gain:.3f} to stay within full scale" if done_file.gain < 1 else ""
            )
            bar.write(f"{source} -> {target}{turned_down}")
    if done:
        elapsed = time.perf_counter() - begin
        print(f"{done:.1f} s of audio in {elapsed:.1f} s: real-time factor {elapsed / done:.3f}")
    if failures:
        print(f"{len(failures)} of {len(jobs)} files failed:", *failures, sep="\n  ", file=sys.stderr)
    return len(failures)


def _seconds(jobs: Sequence[Job]) -> float:
    total = 0.0
    for source, _ in jobs:
        try:
            total += audio.probe(source).seconds
        except AudioError:  # said when its turn comes
            continue
    return total
