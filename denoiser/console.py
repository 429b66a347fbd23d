"""One line and an exit code where a person would get a traceback."""

import difflib
import errno
import io
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError

from denoiser import distributed
from denoiser.errors import ConfigError, DenoiserError, StopError, UnfinishedError, shown
from denoiser.settings import CONF

# Errors of a disk, which need not name a file.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
# Processes that Lightning starts inherit the variable as run() has set it for Hydra.
TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and distributed.local_rank() == 0
# Advice for who still types an old setting.
RENAMED = {
    "fresh": "is new_sweep= now",
    "scorers": "is metric_workers= now",
    "mode": "is no setting: it follows from monitor=",
    "model.bins": "is no setting: it follows from spectral=",
    "loss.name": "is no setting: choose by loss=NAME or loss._target_=",
    "optimizer.name": "is no setting: choose by optimizer=NAME or optimizer._target_=",
    "scheduler.name": "is no setting: choose by scheduler=NAME or scheduler._target_=",
}
# Groups that a run can do without, and those that it does without by default.
OPTIONAL, EXTRA = ("augment", "callbacks", "logger", "scheduler"), ("experiment", "sweep", "debug")


@contextmanager
def until_cut() -> Iterator[None]:
    """End quietly, with the exit code of SIGPIPE, if the reader of the output has ended, as in ``--help | head``."""
    # A handler would print a traceback of its own.
    logging.raiseExceptions = False
    try:
        try:
            yield
        finally:
            # Python's own flush at the end would complain.
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        cut = [stream for stream in (sys.stdout, sys.stderr) if stream and not _is_read(stream.fileno())]
        if not cut:
            raise
        for stream in cut:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _is_read(descriptor: int) -> bool:
    """Return False for a pipe whose other end is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def one_line() -> Iterator[None]:
    """Turn a person's mistake into one line on stderr and exit code 2; ``HYDRA_FULL_ERROR=1`` shows the traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name with a character that the terminal's encoding lacks must not end the program.
        sys.stdout.reconfigure(errors="backslashreplace")
    with until_cut():
        try:
            yield
        except (DenoiserError, HydraException, OmegaConfBaseException, OSError, KeyboardInterrupt) as error:
            line = _explain(error)
            if TRACEBACK or not line:
                raise
            if distributed.local_rank() == 0:
                print(line if isinstance(error, KeyboardInterrupt) else f"error: {line}", file=sys.stderr)
            code = 130 if isinstance(error, KeyboardInterrupt) else 2
            sys.exit(error.code if isinstance(error, StopError | UnfinishedError) else code)


def run(main: Callable[[], Any], read: Callable[[Sequence[str]], list[str]]) -> None:
    """Run a Hydra entry point; Hydra's own complaints, about a wrong override for example, become one line too.

    ``read`` turns the typed arguments into those for Hydra. SIGTERM ends the program as Ctrl-C does, by an exception,
    so that half-written files are removed; a second SIGTERM ends it at once.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # A shell ignores SIGINT for jobs in the background: that stays.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and leaving with 1.
    with one_line():
        sys.argv[1:] = read(sys.argv[1:])
        try:
            main()
        except ValueError as error:
            # Hydra raises a plain one for some overrides, as of a group by null.
            *_, (raising, _) = traceback.walk_tb(error.__traceback__)
            if not raising.f_globals.get("__name__", "").startswith("hydra."):
                raise
            line = _explain_null(sys.argv[1:]) or f"{error}, in: {' '.join(sys.argv[1:])}"
            raise ConfigError(line) from error


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal: end the program by an exception, and at once if the signal comes again."""
    signal.signal(number, signal.SIG_DFL)
    raise StopError("", 128 + number)


def is_of_a_file(error: OSError) -> bool:
    """Return True for an error that a person can mend: no such file, no right, no room, a failing disk."""
    return error.errno is not None and (error.filename is not None or error.errno in DISK_ERRORS)


def _explain(error: BaseException) -> str:
    """Return an error as one line, with advice that Hydra's message lacks; an empty text for an unforeseen error."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "interrupted"
    if isinstance(error, OverrideParseException):
        return f"{' '.join(error.override.split())}: cannot be read as a setting; settings are key=value"
    if isinstance(error, MissingConfigException):
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        if group in ("hydra/sweeper", "hydra/launcher"):
            return f'{group}={option} is not there; it needs a plugin: pip install "denoiser[sweep]"'
        if error.options:
            return f"{group}={option}: no such option; expected {', '.join(error.options)}"
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return f"{shown(error.filename or 'the disk')}: {error.strerror}" if is_of_a_file(error) else ""
    # Hydra wraps mistakes in overrides, and those that the constructors raise which it calls.
    for problem in (error, error.__cause__):
        if isinstance(problem, DenoiserError):
            return str(problem)
        if isinstance(problem, ConfigAttributeError | ConfigKeyError) and problem.full_key:
            return _explain_unknown(problem.full_key, problem.parent_node)
        if isinstance(problem, ValidationError) and problem.full_key and problem.msg:
            reason = problem.msg.splitlines()[0]
            return f"{problem.full_key}={problem.value}: {reason[:1].lower()}{reason[1:]}"
    return " ".join(str(error).split())


def _explain_null(arguments: Sequence[str]) -> str:
    """Return advice on leaving out a group of settings, if an argument sets one to null; else an empty text."""
    for argument in arguments:
        group, _, value = argument.lstrip("+").partition("=")
        options = sorted(path.stem for path in Path(CONF, group).glob("*.yaml"))
        if value != "null" or not group or not options:
            continue
        if group in OPTIONAL:
            return f"{argument}: a group is left out by '~{group}'; its options: {', '.join(options)}"
        if group in EXTRA:
            return f"{argument}: there is none unless it is given; leave this out"
        return f"{argument}: cannot be left out; expected {', '.join(options)}"
    return ""


def _explain_unknown(key: str, parent: Any) -> str:
    """Return advice with the settings below ``parent`` that are most like a mistyped one."""
    if key in RENAMED:
        return f"{key}: {RENAMED[key]}"
    group = key.rpartition(".")[0]
    known = _dotted(OmegaConf.to_container(parent), f"{group}." if group else "") if parent else []
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    text = f"{key}: no such setting" + (f"; did you mean {' or '.join(near)}?" if near else ".")
    if not {"-m", "--multirun"}.isdisjoint(sys.argv):
        text += f" (in a sweep of which only some have it, or not the first: ++{key}=)"
    return f"{text} All settings: --cfg job"


def _dotted(tree: Any, prefix: str) -> list[str]:
    found: list[str] = []
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if prefix or key != "hydra":
            found += [f"{prefix}{key}", *_dotted(value, f"{prefix}{key}.")]
    return found
