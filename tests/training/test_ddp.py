"""Several processes train as one: the same losses, scores, files and messages."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, train_here, write_vctk

from denoiser import ranks
from denoiser.data.crops import DistributedBatchSampler
from denoiser.errors import ConfigError
from denoiser.training import record

needs_gloo = pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="no gloo in this torch"
)
# 7 crops in batches of 3: two processes take 2 and 1, 2 and 1, 1 and none. 3 test files: 2 and 1.
STEPS = [
    *TINY, "model.dropout=0", "data.batch_size=3", "logger=csv", "trainer.log_every_n_steps=1", "callbacks.clips=null",
    "trainer.max_steps=20", "trainer.check_val_every_n_epoch=3", "metrics=[si_sdr,seg_snr]",
]  # fmt: skip


def losses(folder: Path) -> list[float]:
    with (folder / "csv/version_0/metrics.csv").open() as file:
        return [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]


@needs_gloo
def test_two_processes_are_as_good_as_one(tmp_path, capfd):
    root = write_vctk(tmp_path / "corpus", train=14, test=3, rate=16_000, seconds=0.5)
    arguments = [f"data.root={root}", f"data.cache={tmp_path}/cache", *STEPS]
    environment = dict(os.environ)
    train_here(tmp_path / "two", *arguments, "trainer.processes=2")
    printed = capfd.readouterr().out
    assert (printed.count("run folder:"), printed.count("mean of 3 files")) == (2, 1)
    assert os.environ == environment  # else the next job of a sweep would take this one's part
    train_here(tmp_path / "one", *arguments)
    assert len(losses(tmp_path / "one")) == 20
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)

    # Of the same weights, which a rate of 0 leaves as they are, the same scores of the same files.
    best = f"init_from={tmp_path}/two/checkpoints/best.ckpt"
    train_here(tmp_path / "again", *arguments, best, "optimizer.lr=0", "trainer.check_val_every_n_epoch=1")
    two, again = (json.loads((tmp_path / name / "scores.json").read_text()) for name in ("two", "again"))
    assert two["n"] == 3
    for kind in ("noisy", "enhanced"):
        assert two[kind] == pytest.approx(again[kind], abs=1e-6)
    two, again = (record.read(tmp_path / name) for name in ("two", "again"))
    assert (two["processes"], again["processes"]) == (2, 1)
    assert two["validation"]["n"] == 7
    assert two["validation"] == pytest.approx(again["validation"], abs=1e-6)


@pytest.mark.parametrize(("items", "batch", "world"), [(7, 3, 2), (16, 8, 4), (9, 8, 4), (5, 5, 3)])
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


def test_who_started_a_process(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert ranks.place() == (0, 0, 1, "")
    assert ranks.arguments(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]
    for name, value in (("STEP_NUM_TASKS", "8"), ("PROCID", "5"), ("LOCALID", "1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert ranks.place() == (5, 1, 8, "srun")
    assert not ranks.speaks()
    assert ranks.arguments(["seed=1"]) == ["seed=1", "hydra.run.dir=.", "hydra.output_subdir=null"]
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2"), ("TORCHELASTIC_RUN_ID", "none")):
        monkeypatch.setenv(name, value)
    assert ranks.place() == (0, 0, 2, "torchrun")
    with pytest.raises(ConfigError, match="-m under torchrun"):
        ranks.arguments(["seed=1,2", "-m"])


def test_as_many_processes_as_the_settings_ask_for(vctk, tmp_path, monkeypatch):
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "4"), ("TORCHELASTIC_RUN_ID", "none")):
        monkeypatch.setenv(name, value)
    arguments = [f"data.root={vctk}", *TINY]
    with pytest.raises(ConfigError, match="makes 2 processes, and torchrun started 4"):
        train_here(tmp_path, *arguments, "trainer.processes=2")
    record.write(tmp_path / "first", {"status": "running"})
    monkeypatch.setenv("RANK", "1")
    record.write(tmp_path / "second", {"status": "running"})
    assert (tmp_path / "first/run.json").is_file()
    assert not (tmp_path / "second").exists()
    monkeypatch.delenv("RANK")
    with pytest.raises(ConfigError, match="several machines are started by torchrun or srun"):
        train_here(tmp_path, *arguments, "trainer.num_nodes=2")
    with pytest.raises(ConfigError, match=r"trainer\.processes=0"):
        train_here(tmp_path, *arguments, "trainer.processes=0")


@needs_gloo
def test_a_mistake_of_one_process_is_told_once_and_ends_all(vctk, tmp_path):
    """Started as torchrun starts them, in two folders: the corpus is not there for the second one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(listener.getsockname()[1])}
    shared |= {"TORCHELASTIC_RUN_ID": "none", "CUDA_VISIBLE_DEVICES": ""}
    processes = []
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
        environment = {**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}
        command = [sys.executable, str(ROOT / "train.py"), "data.root=corpus", *TINY, "trainer.processes=2"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(command, cwd=tmp_path / rank, env=environment, **pipes))
    (tmp_path / "0/corpus").symlink_to(vctk)
    (out, complaint), silence = (process.communicate(timeout=200) for process in processes)
    assert [process.returncode for process in processes] == [2, 2]
    assert complaint.startswith("error: data.root=corpus: not VCTK-DEMAND")
    assert len(complaint.strip().splitlines()) == out.count("run folder:") == 1
    assert silence == ("", "")
    assert list((tmp_path / "1").iterdir()) == []  # the run folder is the first one's
