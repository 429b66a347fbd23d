"""Several processes train as one: the same losses, scores, files and messages."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conftest import ROOT, TINY, run_command, train_here, write_vctk
from denoiser import distributed
from denoiser.data.crops import DistributedBatchSampler
from denoiser.errors import ConfigError
from denoiser.training import record
from signals import signal_at

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="no gloo in this torch"
)
# 7 crops in batches of 3: two processes take 2 and 1, 2 and 1, 1 and none. 3 test files: 2 and 1.
STEPS = [
    *TINY, "model.dropout=0", "data.batch_size=3", "logger=csv", "trainer.log_every_n_steps=1", "callbacks.clips=null",
    "trainer.max_steps=20", "trainer.check_val_every_n_epoch=3", "metrics=[si_sdr,seg_snr]",
]  # fmt: skip
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS")


def losses(folder: Path) -> list[float]:
    with (folder / "csv/version_0/metrics.csv").open() as file:
        return [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    root = write_vctk(folder / "corpus", train=14, test=3, rate=16_000, seconds=0.5)
    return [f"data.root={root}", f"data.cache={folder}/cache", *STEPS]


@pytest.fixture(scope="module")
def two(arguments, tmp_path_factory):
    """A run of two processes, and what it printed."""
    folder = tmp_path_factory.mktemp("two")
    # The second process is one that Lightning starts, by the arguments of the first.
    result = run_command("-m", "denoiser", "train", *arguments, "trainer.processes=2", cwd=folder)
    assert result.returncode == 0, result.stderr
    (run,) = folder.glob("runs/*/*")
    return run, result.stdout


@needs_gloo
def test_two_processes_are_as_good_as_one(arguments, two, tmp_path):
    two, printed = two
    assert (printed.count("run folder:"), printed.count("mean of 3 files")) == (2, 1)
    train_here(tmp_path / "one", *arguments)
    assert len(losses(tmp_path / "one")) == 20
    assert losses(two) == pytest.approx(losses(tmp_path / "one"), abs=1e-5)

    # The same weights, which a rate of 0 leaves as they are, have the same scores of the same files.
    best = f"init_from={two}/checkpoints/best.ckpt"
    short = ("optimizer.lr=0", "trainer.check_val_every_n_epoch=1", "trainer.max_steps=3")
    train_here(tmp_path / "again", *arguments, best, *short)
    first, second = (json.loads((folder / "scores.json").read_text()) for folder in (two, tmp_path / "again"))
    assert first["n"] == 3
    for kind in ("noisy", "enhanced"):
        assert first[kind] == pytest.approx(second[kind], abs=1e-6)
    first, second = record.read(two), record.read(tmp_path / "again")
    assert (first["processes"], second["processes"]) == (2, 1)
    assert first["validation"]["n"] == 7
    assert first["validation"] == pytest.approx(second["validation"], abs=1e-6)


@needs_gloo
def test_torchrun_resumes_a_run_in_its_folder(arguments, two):
    run, _ = two
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    more = ["trainer.processes=2", "trainer.max_steps=22", "ckpt_path=last", "test=false"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    cwd = run.parents[2]
    command = [*torchrun, ROOT / "train.py", *arguments, *more]
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 22
    assert record.read(run)["processes"] == 2


@needs_gloo
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_the_other(arguments, tmp_path, monkeypatch, rank):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT}/tests")
    die = signal_at(step=2, epoch=0, number="SIGKILL", rank=rank)
    # This returns when both have ended: both hold the pipes.
    result = run_command("train.py", *arguments, "trainer.processes=2", die, cwd=tmp_path)
    (run,) = tmp_path.glob("runs/*/*")
    if rank == 0 or result.returncode == -signal.SIGKILL:
        # Lightning kills process 0 where that does not notice in time that another one has died.
        assert result.returncode == -signal.SIGKILL
        assert record.read(run)["status"] == "running"
        return
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: one of the processes of this training died (exit code -9); it had no checkpoint yet")
    assert "Traceback" not in result.stderr
    assert record.read(run)["status"] == "failed"


@pytest.mark.parametrize(("items", "batch", "world"), [(7, 3, 2), (9, 8, 4)])
def test_shares_are_the_batch_once_and_weigh_what_they_hold(items, batch, world):
    shares = [DistributedBatchSampler(range(items), batch, rank, world) for rank in range(world)]
    batches = list(zip(*shares, strict=True))
    assert len(batches) == len(shares[0]) == -(-items // batch)
    for index, parts in enumerate(batches):
        expected = list(range(items))[index * batch : (index + 1) * batch]
        weights = [share.weight(index) for share in shares]
        counted = [item for part, weight in zip(parts, weights, strict=True) if weight for item in part]
        assert sorted(counted) == expected
        assert all(parts)
        means = [sum(part) / len(part) * weight for part, weight in zip(parts, weights, strict=True)]
        assert sum(means) / world == pytest.approx(sum(expected) / len(expected))


def test_the_environment_tells_a_process_its_rank_and_only_the_first_writes_a_record(tmp_path, monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert (distributed.rank(), distributed.local_rank(), distributed.launcher()) == (0, 0, "")
    assert distributed.arguments(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]
    record.write(tmp_path / "first", {"status": "running"})
    # Lightning's launcher, which gives a process its folder.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (distributed.rank(), distributed.local_rank(), distributed.launcher()) == (1, 1, "")
    assert distributed.arguments(["seed=1"]) == ["seed=1"]
    record.write(tmp_path / "second", {"status": "running"})
    assert [path.name for path in tmp_path.iterdir()] == ["first"]
    for name, value in (("STEP_NUM_TASKS", "8"), ("PROCID", "5"), ("LOCALID", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert (distributed.rank(), distributed.local_rank(), distributed.launcher()) == (5, 1, "srun")
    assert distributed.started_processes() == 8
    assert distributed.arguments(["seed=1"]) == ["seed=1", "hydra.run.dir=.", "hydra.output_subdir=null"]
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2"), ("TORCHELASTIC_RUN_ID", "none")):
        monkeypatch.setenv(name, value)
    assert (distributed.rank(), distributed.launcher(), distributed.started_processes()) == (0, "torchrun", 2)
    with pytest.raises(ConfigError, match="-m under torchrun"):
        distributed.arguments(["seed=1,2", "-m"])


def test_a_number_of_processes_that_cannot_be_is_refused(vctk, tmp_path, monkeypatch):
    arguments = [f"data.root={vctk}", *TINY]
    with pytest.raises(ConfigError, match="several machines are started by torchrun or srun"):
        train_here(tmp_path, *arguments, "trainer.num_nodes=2")
    with pytest.raises(ConfigError, match=r"data\.batch_size=1: expected at least one for each of 2 processes"):
        train_here(tmp_path, *arguments, "trainer.processes=2", "data.batch_size=1")
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "4"), ("TORCHELASTIC_RUN_ID", "none")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="makes 2 processes, and torchrun started 4"):
        train_here(tmp_path, *arguments, "trainer.processes=2")
