"""Rank and size of the group of processes that train one network, exchange of Python objects between them, and workers.

Lightning starts the processes of one machine, torchrun or srun those of several. The rank is read from the environment,
so that a command line can be handled before torch is loaded.
"""

import os
import signal
from collections.abc import Sequence
from threading import Thread
from typing import TypeVar

from denoiser.errors import ConfigError

T = TypeVar("T")


def launcher() -> str:
    """Return ``torchrun`` or ``srun``, which has started this process as one of several, or an empty string."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    # Set by srun alone: a batch script that starts one python does not have it.
    return "srun" if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else ""


def started_processes() -> int:
    """Return how many processes torchrun or srun has started; 1 without them."""
    variable = {"torchrun": "WORLD_SIZE", "srun": "SLURM_STEP_NUM_TASKS"}.get(launcher(), "")
    return int(os.environ.get(variable, 1))


def rank() -> int:
    """Return the number of this process, from 0; only process 0 writes files."""
    if launcher() == "srun":
        return int(os.environ["SLURM_PROCID"])
    # Lightning tells the processes that it starts on this machine LOCAL_RANK alone.
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))


def local_rank() -> int:
    """Return the number of this process among those of this machine, from 0; only process 0 prints mistakes."""
    if launcher() == "srun":
        return int(os.environ["SLURM_LOCALID"])
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """Return the number of connected processes; 1 before they are connected."""
    from torch import distributed

    connected = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if connected else 1


def local_world_size() -> int:
    """Return the number of connected processes on this machine."""
    # Without torchrun's variable all are taken for processes of one machine.
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def broadcast(value: T) -> T:
    """Return the value that process 0 has."""
    values = [value]
    if world_size() > 1:
        from torch import distributed

        distributed.broadcast_object_list(values, src=0)
    return values[0]


def gather(value: T) -> list[T]:
    """Return the value of each process, by rank."""
    values = [value] * world_size()
    if world_size() > 1:
        from torch import distributed

        distributed.all_gather_object(values, value)
    return values


def arguments(typed: Sequence[str]) -> list[str]:
    """Return the command line that Hydra is given in this process: only process 0 makes a run folder.

    Raises ConfigError for a sweep under torchrun or srun.
    """
    if launcher() and not {"-m", "--multirun"}.isdisjoint(typed):
        raise ConfigError(f"-m under {launcher()}: python alone starts a sweep, and each of its runs is one process")
    if not launcher() or rank() == 0:
        return list(typed)
    folder_is_given = any(argument.startswith("hydra.run.dir=") for argument in typed)
    return [*typed, *([] if folder_is_given else ["hydra.run.dir=."]), "hydra.output_subdir=null"]


def say(text: str) -> None:
    """Print a line, in process 0 alone."""
    if rank() == 0:
        print(text)


def leave_signals_to_parent(index: int = 0) -> None:
    """Ignore the signals of a process group, in a worker: its parent may still need it, and ends it by SIGTERM.

    Where the system does not say who sent a signal (macOS, Windows), SIGTERM ends the worker as ever.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGUSR2"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # A thread takes it, because a handler is not told the sender. Threads that begin later block it, too.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_at_parents_word, daemon=True).start()


def _end_at_parents_word() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        continue
    os._exit(0)
