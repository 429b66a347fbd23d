"""Several processes that train as one: how they start, meet, and tell each other what they have.

All of it does nothing where there is one process.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import DictConfig
from torch import distributed

from denoiser import console, ranks
from denoiser.devices import trainer_devices
from denoiser.errors import ConfigError, DenoiserError

T = TypeVar("T")
DIED = "one of the processes of this training died"
PATIENCE = 30.0  # s that a process has to fail by itself after another one has
_words: Any = None  # the group that objects travel in: by the CPU, and without a limit of time


def rank() -> int:
    return distributed.get_rank() if _words else 0


def world() -> int:
    return distributed.get_world_size() if _words else 1


def here() -> int:
    """Of the processes that train as one, those on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world()))  # torchrun's; others' are taken for one machine's


def broadcast(value: T) -> T:
    """What the first process has."""
    values = [value]
    if _words:
        distributed.broadcast_object_list(values, src=0, group=_words)
    return values[0]


def gather(value: T) -> list[T]:
    """What each process has, by rank."""
    values: list[Any] = [value] * world()
    if _words:
        distributed.all_gather_object(values, value, group=_words)
    return values


@contextmanager
def agreed() -> Iterator[None]:
    """Wait for all at the end; a mistake that one of them met, all raise."""
    caught: DenoiserError | None = None
    try:
        yield
    except DenoiserError as error:
        caught = error
    for met in gather(caught):
        if met is not None:
            raise met


@contextmanager
def joined(cfg: DictConfig, folder: Path) -> Iterator[Path]:
    """All the processes that ``cfg.trainer`` asks for, in contact; yields the run folder, which is the first one's.

    Where nothing has started them, the first starts the others, on this machine. They are given the configuration
    that this one has composed, and compose none: in a sweep each takes part in its one job only.
    Raises ConfigError where as many were started as the settings do not ask for.
    """
    here, options = ranks.place(), cfg.trainer
    chosen = trainer_devices(options.get("gpus"), processes=options.get("processes"))
    devices, nodes = chosen["devices"], options.get("num_nodes") or 1
    own = devices if isinstance(devices, int) else len(devices)
    asked = f"trainer.gpus={options.get('gpus')} trainer.num_nodes={nodes}"
    if options.get("processes"):
        asked += f" trainer.processes={options.processes}"
    if here.by and here.world != own * nodes:
        raise ConfigError(f"{asked}: makes {own * nodes} processes, and {here.by} started {here.world}")
    if own * nodes == 1:
        yield folder
        return
    if not here.by and nodes > 1:
        raise ConfigError(
            f"{asked}: several machines are started by torchrun or srun; docs/scaling.md has the commands"
        )
    with ExitStack() as stack:
        stack.callback(_part)
        if not here.by:
            stack.enter_context(_others(cfg, folder, own))
        _meet(chosen)
        yield broadcast(folder)


def _meet(chosen: dict[str, Any]) -> None:
    """Connect with the others."""
    global _words
    here = ranks.place()
    if here.by == "srun":
        from lightning_fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment()
        os.environ |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    backend = "gloo"
    if chosen["accelerator"] == "gpu":
        backend = "nccl"
        torch.cuda.set_device(chosen["devices"][here.local])
    distributed.init_process_group(backend, rank=here.rank, world_size=here.world)
    _words = distributed.new_group(backend="gloo", timeout=timedelta(days=30))  # others wait while one prepares data


def _part() -> None:
    global _words
    _words = None
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _others(cfg: DictConfig, folder: Path, count: int) -> Iterator[None]:
    """Processes 1 to ``count - 1``, while this one is number 0. They end with it, and it with them."""
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0"}
    paths = [str(Path(__file__).parent.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-c", "from denoiser.distributed import follow; follow()"]
    done = threading.Event()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number in map(str, range(1, count)):
            own = {"RANK": number, "LOCAL_RANK": number, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
            own["HYDRA_FULL_ERROR"] = str(int(console.TRACEBACK))
            processes.append(subprocess.Popen(command, env={**os.environ, **own}, stdin=subprocess.PIPE))
        for process in processes:
            assert process.stdin
            process.stdin.write(pickle.dumps((cfg, HydraConfig.instance().cfg, folder)))
            process.stdin.close()
        threading.Thread(target=_watch, args=(processes, done), daemon=True).start()
        yield
        for process in processes:
            process.wait()
    except RuntimeError as error:  # what gloo and NCCL raise, at length, where the other end is gone
        if dead := [process.returncode for process in processes if process.poll()]:
            raise DenoiserError(f"{DIED} (exit code {dead[0]}); ckpt_path=last goes on from the last epoch") from error
        raise
    finally:
        done.set()
        for process in processes:
            process.kill()  # only the first writes: nothing is lost
            process.wait()
        os.environ.clear()
        os.environ |= before
        torch.set_num_threads(threads)  # Lightning has shared them out


def _watch(processes: list[subprocess.Popen[bytes]], done: threading.Event) -> None:
    """End this process where another one died and this one would wait for it."""
    while not done.wait(1):
        if dead := [p for p in processes if p.poll()]:
            if not done.wait(PATIENCE):
                print(f"error: {DIED} (exit code {dead[0].returncode})", file=sys.stderr)
                os._exit(1)
            return


def follow() -> None:
    """What a process does that the first one started: the same training."""
    cfg, hydra, folder = pickle.load(sys.stdin.buffer)  # noqa: S301 (of the process that started this one)
    setup_globals()
    HydraConfig.instance().cfg = hydra
    with console.one_line():
        from denoiser.training.run import train

        train(cfg, folder)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
