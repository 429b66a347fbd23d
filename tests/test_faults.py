"""Full disks, lost corpora, killed workers, samples of NaN: one line, and nothing that was done is lost."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import soundfile
import torch

from conftest import TINY, composed, largest_file, train_here, write_vctk
from denoiser import Denoiser, audio, filesystem
from denoiser.audio.container import is_installed
from denoiser.audio.formats import Extras
from denoiser.console import one_line
from denoiser.data.augment import Transform
from denoiser.errors import (
    AudioError,
    CheckpointError,
    ConfigError,
    CorpusError,
    DenoiserError,
    DivergedError,
    StopError,
)
from denoiser.inference.batch import enhance_files
from denoiser.inference.jobs import plan
from denoiser.sweep.multirun import Sweep
from denoiser.training import folder as run_folder
from denoiser.training import record
from denoiser.training.folder import RunFolder
from denoiser.training.layout import LOCK
from signals import doing
from untrained import noisy_voice, write_voices


def options(root: Path, *more: str) -> list[str]:
    quick = ("metrics=[si_sdr]", "trainer.max_epochs=3", "callbacks.clips=null", "logger=csv", "test=false")
    return [*TINY, f"data.root={root}", f"data.cache={root}/cache", *quick, *more]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_vctk(tmp_path_factory.mktemp("corpus"), train=16, rate=16_000, seconds=0.6)


@pytest.fixture
def my_root(root, tmp_path):
    """A corpus to spoil."""
    return shutil.copytree(root, tmp_path / "corpus", ignore=shutil.ignore_patterns("cache"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 2 MB, and what fills it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk takes more rights than this user has")

    def fill() -> None:
        with open(folder / "filler", "wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    yield folder, fill
    # A logger may have a file open there.
    subprocess.run(["umount", "--lazy", folder], check=True)


def error_line(capsys, folder: Path, *settings: str) -> str:
    """Return the line by which a training in ``folder`` ends."""
    with pytest.raises(SystemExit) as end, one_line():
        train_here(folder, *settings)
    assert end.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def epoch(run: Path) -> int:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"]


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(root, tmp_path, monkeypatch):
    with ExitStack() as stack:
        no_large_file = doing(lambda: stack.enter_context(largest_file(10_000)), monkeypatch)
        with pytest.raises(CheckpointError) as failure:
            train_here(tmp_path, *options(root, no_large_file))
    said = str(failure.value)
    assert re.match(rf"{tmp_path}/checkpoints/(best|last)\.ckpt: cannot be written \(", said)
    assert said.endswith("the one before it is whole; once there is room, the same command with ckpt_path=last goes on")
    assert epoch(tmp_path) == 0
    assert not list(tmp_path.rglob("*.partial-*"))
    train_here(tmp_path, *options(root, "ckpt_path=last"))
    assert epoch(tmp_path) == 2


@pytest.mark.parametrize("logger", ["csv", "tensorboard"])
def test_a_full_disk_ends_the_training_with_a_line(root, small_disk, monkeypatch, capsys, logger):
    folder, fill = small_disk
    line = error_line(capsys, folder / "run", *options(root, f"logger={logger}", doing(fill, monkeypatch)))
    assert line.startswith(f"error: {folder}/run")
    assert "ckpt_path=last goes on" in line
    assert epoch(folder / "run") == 0
    # There was no room for another record.
    assert record.read(folder / "run")["status"] == "running"
    (folder / "filler").unlink()
    train_here(folder / "run", *options(root, "ckpt_path=last"))
    assert epoch(folder / "run") == 2


def test_a_full_disk_leaves_the_rest_of_a_folder_for_later(denoiser, small_disk, here):
    folder, fill = small_disk
    write_voices(*(f"in/{index}.wav" for index in range(5)))
    jobs = plan(["in"], str(folder / "out"))
    enhance_files(denoiser, jobs[:2], overwrite=False)
    fill()
    outcome = enhance_files(denoiser, jobs, overwrite=False)
    assert all("cannot be written" in str(failure) for failure in outcome.failed.values())
    assert len(outcome.failed) == 3
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["0.wav", "1.wav"]
    (folder / "filler").unlink()
    outcome = enhance_files(denoiser, jobs, overwrite=False)
    assert (len(outcome.skipped), len(outcome.done)) == (2, 3)


@pytest.mark.skipif(not is_installed(), reason="ffmpeg and ffprobe are not on the PATH")
@pytest.mark.parametrize("name", ["talk.m4a", "talk.mkv"])
def test_a_disk_that_fills_up_within_a_container_is_an_error_and_leaves_nothing(denoiser, small_disk, here, name):
    folder, fill = small_disk
    audio.write("talk.wav", noisy_voice(1.0, 16_000), 16_000)
    fill()
    # There is room for a header, and not for the sound.
    os.truncate(folder / "filler", (folder / "filler").stat().st_size - 4096)
    with pytest.raises(AudioError, match="No space left on device"):
        denoiser.enhance_file("talk.wav", folder / name)
    assert [path.name for path in folder.iterdir()] == ["filler"]


def test_a_disk_without_room_for_the_copy_with_tags_is_told_as_that(small_disk):
    folder, _ = small_disk
    torch.manual_seed(0)
    tags = Extras("FLAC", ((b"tags", bytes(8)),))
    with pytest.raises(
        AudioError, match=r"No space left on device; while its tags are put in, it takes its size twice"
    ):
        audio.write(folder / "a.flac", torch.rand(1, 700_000) - 0.5, 48_000, extras=tags)
    assert not list(folder.iterdir())


def test_the_enhancement_of_a_folder_that_sigterm_ends_says_how_far_it_came(denoiser, here):
    class Stopped(Denoiser):
        def enhance_file(self, source, target, *arguments, **settings):
            if source.name == "1.wav":
                # As the handler of SIGTERM does.
                raise StopError("", 143)
            return super().enhance_file(source, target, *arguments, **settings)

    write_voices("in/0.wav", "in/1.wav", "in/2.wav")
    with pytest.raises(StopError, match="1 of 3 files are done; the same command does the rest") as stop:
        enhance_files(Stopped(denoiser.net, denoiser.spectral).eval(), plan(["in"], "out"), overwrite=False, at_once=1)
    assert stop.value.code == 143


def test_an_error_of_the_disk_that_tensorboard_wraps_is_told_as_one(tmp_path):
    def log(run: RunFolder) -> None:
        with run:
            cause = OSError(errno.ENOSPC, "No space left on device", b"run/events.0")
            raise ValueError("you tried to log 1.0 which is currently not supported") from cause

    with pytest.raises(DenoiserError, match=r"^run/events\.0: No space left on device; it had no checkpoint yet$"):
        log(RunFolder(tmp_path, composed()))


def test_a_folder_that_cannot_be_written_is_one_line(root, small_disk, capsys):
    folder, _ = small_disk
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    line = error_line(capsys, folder / "run", *options(root))
    assert line.startswith(f"error: {folder}/run: Read-only file system")


def test_a_second_run_in_one_folder_is_refused_while_the_first_is_at_work(root, tmp_path, monkeypatch):
    half_written = tmp_path / "checkpoints/.last.ckpt.partial-1-1"
    monkeypatch.setattr(run_folder, "PATIENCE", 0)

    def start_another() -> None:
        half_written.write_text("what the first is writing")
        with pytest.raises(ConfigError, match="another process trains in this folder; wait"):
            train_here(tmp_path, *options(root, "ckpt_path=last"))
        assert half_written.exists()

    train_here(tmp_path, *options(root, doing(start_another, monkeypatch)))
    assert epoch(tmp_path) == 2
    assert record.read(tmp_path)["status"] == "finished"
    train_here(tmp_path, *options(root, "ckpt_path=last"))
    assert not half_written.exists()


def test_a_run_waits_for_a_lock_that_is_soon_released(tmp_path, monkeypatch):
    # A data worker that outlives a killed training holds it.
    monkeypatch.setattr(run_folder, "PATIENCE", 60)
    lock = filesystem.lock(tmp_path / LOCK)
    threading.Timer(0.5, os.close, [lock]).start()
    with RunFolder(tmp_path, composed()) as run:
        run.claim()
        assert filesystem.lock(tmp_path / LOCK) is None
    with filesystem.locked(tmp_path / LOCK) as free:
        assert free


def test_a_corpus_that_vanishes_costs_nothing_that_was_trained(root, my_root, tmp_path, monkeypatch):
    gone = doing(lambda: shutil.rmtree(my_root), monkeypatch)
    with pytest.raises(CorpusError, match=r"gone or damaged.*the next start prepares it anew"):
        train_here(tmp_path / "run", *options(my_root, gone, "test=true"))
    # Mapped memory stays; the test set had not been opened.
    assert epoch(tmp_path / "run") == 2
    assert record.read(tmp_path / "run")["status"] == "failed"
    with pytest.raises(CorpusError, match="corpus"):
        train_here(tmp_path / "run", *options(my_root, "ckpt_path=last", "test=true"))
    shutil.copytree(root, my_root, ignore=shutil.ignore_patterns("cache"))
    train_here(tmp_path / "run", *options(my_root, "ckpt_path=last", "test=true"))
    assert record.read(tmp_path / "run")["status"] == "finished"


def test_a_worker_that_is_killed_ends_the_training_with_a_line(root, tmp_path, monkeypatch):
    def kill_them() -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    arguments = options(root, "data.workers=1", "data.batch_size=1", "trainer.max_epochs=2")
    with pytest.raises(DenoiserError, match=r"^a process that reads the data died.*goes on from .*last\.ckpt$"):
        train_here(tmp_path, *arguments, doing(kill_them, monkeypatch, epoch=1, step=2))
    assert epoch(tmp_path) == 0
    train_here(tmp_path, *arguments, "ckpt_path=last")
    assert epoch(tmp_path) == 1


def test_an_error_of_another_kind_is_not_told_as_a_dead_worker(root, tmp_path, monkeypatch):
    def run_out_of_memory() -> None:
        raise RuntimeError("CUDA out of memory")

    fault = doing(run_out_of_memory, monkeypatch, epoch=0)
    with pytest.raises(RuntimeError, match=r"^CUDA out of memory$"):
        train_here(tmp_path, *options(root, "data.workers=1", fault))


def test_a_clock_that_went_back_hides_no_failure(here, capsys):
    sweep = Sweep(ranking=False)
    sweep.folder, sweep.lock = here / "sweep", None
    record.write(sweep.folder / "old", {"status": "failed", "reason": "long ago", "ended": "2030-01-01T00:00:00"})
    sweep.before = record.find([sweep.folder])
    record.write(sweep.folder / "new", {"status": "failed", "reason": "just now", "ended": "1970-01-01T00:00:00"})
    with pytest.raises(SystemExit) as end:
        sweep.on_multirun_end(None)
    assert end.value.code == 2
    assert capsys.readouterr().err == "sweep/new: failed: just now\n"


# Samples that are not finite, and silence


class Spoil(Transform):
    """Transform with a mistake: the third row of a batch is divided by zero."""

    place = 12

    def change(self, noise, clean, level, rng):
        clean = clean.clone()
        clean[2] = clean[2] / 0.0
        return noise, clean


def test_a_batch_that_is_not_finite_ends_the_training_with_its_step_and_advice(root, tmp_path):
    spoil = f"+augment.spoil._target_={__name__}.Spoil"
    line = r"^the loss is nan at step 1, in epoch 1: .* augment, may help$"
    with pytest.raises(DivergedError, match=line) as failure:
        train_here(tmp_path, *options(root, "trainer.log_every_n_steps=1", spoil))
    assert record.read(tmp_path)["reason"] == str(failure.value)
    assert not (tmp_path / "checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_refused_with_the_name_of_the_file(my_root, value):
    (path,) = my_root.glob("noisy_trainset*/p225_000.wav")
    sound, rate = audio.read(path)
    sound[0, 100] = value
    soundfile.write(path, sound[0].numpy(), rate, subtype="FLOAT")
    with pytest.raises(CorpusError, match=rf"^1 problem in the corpus.*{path.name}: holds NaN, infinite"):
        train_here(my_root / "run", *options(my_root))
    assert len(list(my_root.glob("cache/*/index.json"))) <= 1  # of the test set


def test_training_with_silent_files_works(my_root, tmp_path):
    for path in my_root.glob("*_trainset*/p22[56]_*.wav"):
        audio.write(path, torch.zeros(1, 9600), 16_000)
    train_here(tmp_path / "run", *options(my_root, "data.batch_size=1"))
    assert record.read(tmp_path / "run")["status"] == "finished"
